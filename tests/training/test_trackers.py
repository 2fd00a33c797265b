import importlib.util
from typing import Any

from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

from semask.training.samples import sample_places


def test_a_tracker_that_is_not_installed(semask, recipe, tmp_path, monkeypatch):
    real = importlib.util.find_spec
    missing = ("wandb", "comet_ml")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *x: None if name in missing else real(name, *x))
    for name, package in (("wandb", "wandb"), ("comet_ml", "comet-ml")):
        message = semask.refused(*recipe(tmp_path / "run", log_with=f"[{name}]"))
        assert message == f"training.log_with is {name}, which is not installed: pip install {package}, or leave it out"
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_is_not_known(semask, recipe, tmp_path):
    assert "log_with" in semask.refused(*recipe(tmp_path / "run", log_with="[paper]"))


def test_no_tracker_at_all(semask, recipe, tmp_path):
    semask(*recipe(tmp_path / "run", steps=1, log_with="[]"))
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert (tmp_path / "run" / "log.csv").exists()


def test_trackers_get_the_recipe_the_curves_and_the_pictures(semask, recipe, tmp_path, monkeypatch):
    got: dict[str, Any] = {"points": [], "pictures": []}

    class Fake(GeneralTracker):
        name = "wandb"
        requires_logging_directory = False
        tracker = None

        def __init__(self, project: str, **options: Any) -> None:
            super().__init__()
            got.update(project=project, options=options)

        def store_init_configuration(self, values: dict) -> None:
            got["recipe"] = values

        def log(self, values: dict, step: int | None = None, **options: Any) -> None:
            got["points"].append((step, set(values)))

        def log_images(self, values: dict, step: int | None = None) -> None:
            got["pictures"] += [(step, *values)]

    monkeypatch.setitem(LOGGER_TYPE_TO_CLASS, "wandb", Fake)
    monkeypatch.setattr("semask.training.start.require_trackers", lambda names: None)
    semask(*recipe(tmp_path / "mine", steps=2, log_with="[wandb,tensorboard]", evaluate_every=1, samples=2))
    assert (got["project"], got["options"]) == ("semask", {"name": "mine", "dir": str(tmp_path / "mine")})
    assert got["recipe"]["training.lr"] == 1e-3
    assert got["recipe"]["training.betas"] == "[0.9, 0.999]"
    assert all(value is None or isinstance(value, str | int | float) for value in got["recipe"].values())
    assert [step for step, names in got["points"] if "train/loss" in names] == [1, 2]
    assert [step for step, names in got["points"] if "val/miou" in names] == [1, 2]
    assert got["pictures"] == [(step, f"sample/{place}") for step in (1, 2) for place in (0, 2)]
    assert (tmp_path / "mine" / "tensorboard").is_dir()
    pictures = sorted(path.name for path in (tmp_path / "mine" / "samples").iterdir())
    assert pictures == [f"{place:05d}_step{step}.png" for place in (0, 2) for step in (1, 2)]


def test_the_same_images_are_drawn_whenever():
    assert sample_places(100, 4) == [0, 33, 66, 99]
    assert sample_places(2, 4) == [0, 1]
    assert sample_places(9, 0) == []
