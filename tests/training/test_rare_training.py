import json
import re

import numpy as np
import pytest

from semask.data.source import Data
from semask.data.transforms import Augmentation
from semask.files.reporter import Silent
from semask.losses.class_weights import weights_from_counts
from semask.losses.mask import MaskLoss
from semask.losses.pixel import PixelLoss
from semask.training.rare import needing_counts, use_counts
from semask.training.run import Run

RARE = {
    "augmentation.rare_images": 0.5,
    "augmentation.rare_crop": 0.5,
    "augmentation.copy_paste": 0.5,
    "loss.class_weights": "inverse",
    "loss.dice_weight": 0.5,
    "loss.focal_weight": 0.5,
    "loss.lovasz_weight": 0.5,
    "data.workers": 1,
    "save_every": 2,
}


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    finish_step = Run.finish_step

    def finish(run: Run, lr: float) -> None:
        finish_step(run, lr)
        if run.step == step:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "finish_step", finish)


def lines(run) -> list[list[str]]:
    """The log without the column of the time."""
    return [line.split(",")[:-1] for line in (run / "log.csv").read_text(encoding="utf-8").splitlines()]


def test_a_run_keeps_the_numbers_of_its_class_weights_and_goes_on_exactly(
    semask, recipe, scenes, tmp_path, monkeypatch
):
    said = semask(*recipe(tmp_path / "whole", **RARE)).err
    pixels = Data(root=str(scenes)).dataset("train").check(level="labels").pixels_of_each
    expected = weights_from_counts("inverse", pixels)
    assert "class weights (inverse): sky" in said
    assert f"{expected[0]:.2f}" in said
    saved = json.loads((tmp_path / "whole" / "last.json").read_text(encoding="utf-8"))["recipe"]
    assert tuple(saved["loss"]["class_weights"]) == expected
    assert saved["augmentation"]["rare_images"] == 0.5

    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        semask(*recipe(tmp_path / "stopped", **RARE), code=130)
    # the word again, or the numbers that the run has
    for given in ("inverse", list(expected)):
        refused = semask.refused(
            *recipe(tmp_path / "stopped", **RARE | {"augmentation.rare_crop": 0.25, "loss.class_weights": given}),
            "--resume",
        )
        assert "augmentation.rare_crop is 0.25, but the run to resume was started with 0.5" in refused
    semask(*recipe(tmp_path / "stopped", **RARE | {"loss.class_weights": list(expected)}), "--resume")
    assert lines(tmp_path / "stopped") == lines(tmp_path / "whole")
    other = semask.refused(*recipe(tmp_path / "stopped", **RARE | {"loss.class_weights": "median"}), "--resume")
    assert re.search(r"loss\.class_weights is .*, but the run to resume was started with", other)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"loss.class_weights": "effective"}, "loss.class_weights is effective, which needs the pixels of each class"),
        ({"augmentation.rare_images": 0.5}, "augmentation.rare_images is 0.5, which needs the pixels of each class"),
        ({"augmentation.rare_crop": 1}, "augmentation.rare_crop is 1, which needs .*: set data.check, which is none,"),
        ({"augmentation.copy_paste": 0.1}, "augmentation.copy_paste is 0.1, which needs the pixels of each class"),
    ],
    ids=str,
)
def test_what_has_to_be_counted_is_refused_without_a_check(semask, recipe, tmp_path, settings, message):
    refused = semask.refused(*recipe(tmp_path / "run", **settings, **{"data.check": "none"}))
    assert re.search(message, refused), refused
    assert not (tmp_path / "run" / "resume").exists()


@pytest.mark.parametrize(
    ("package", "settings", "extra"),
    [
        ("segmentation_models_pytorch", {"loss.dice_weight": 1}, "decoders"),
        ("segmentation_models_pytorch", {"loss.lovasz_weight": 1}, "decoders"),
        ("scipy", {"augmentation.copy_paste": 1}, "train"),
    ],
    ids=str,
)
def test_a_missing_package_is_told_before_the_files_are_read(
    semask, recipe, tmp_path, monkeypatch, package, settings, extra
):
    monkeypatch.setattr("semask.extras.find_spec", lambda name: None if name == package else object())
    refused = semask.refused(*recipe(tmp_path / "run", **settings))
    assert refused == f"{package} is not installed: it comes with the {extra} extra, pip install 'semask[{extra}]'"


def test_jpeg_of_four_channels_is_refused_before_the_files_are_read(semask, recipe, tmp_path):
    four = {"model.in_channels": 4, "model.mean": [0.5] * 4, "model.std": [0.5] * 4, "data.channels": 4}
    refused = semask.refused(*recipe(tmp_path / "run", **four, **{"augmentation.jpeg": 0.5}))
    assert "augmentation.jpeg is 0.5, but the images have 4 channels" in refused


def test_nothing_is_needed_by_default():
    assert needing_counts(PixelLoss(), Augmentation()) == []
    assert needing_counts(PixelLoss(class_weights=(1.0, 2.0)), Augmentation()) == []
    loss = PixelLoss()
    assert use_counts(None, loss, Augmentation(), ("a", "b"), Silent()) == (loss, None)


def test_mask_decoders_have_the_samples_too():
    pixels = np.array([[90, 10], [50, 0]], dtype=np.uint32)
    loss, balance = use_counts(pixels, MaskLoss(), Augmentation(rare_images=0.25), ("a", "b"), Silent())
    assert loss == MaskLoss()
    assert balance is not None
    assert (balance.images, balance.copy_paste) == (0.25, 0.0)
    assert balance.rare.shown.tolist() == [[True, True], [True, False]]
