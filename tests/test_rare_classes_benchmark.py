"""The script that compares remedies for rare classes runs, goes on, and writes its table."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # as for `python benchmarks/rare_classes.py`

import rare_classes

SMALL = ["--steps", "2", "--seeds", "3", "--rare", "pole", "rider", "--only", "plain", "crops+copy-paste+lovasz"]


@pytest.mark.usefixtures("auto_is_fp32")
def test_runs_and_table(scenes, tmp_path, monkeypatch):
    given = ["--data", str(scenes), "--out", str(tmp_path), *SMALL]
    rare_classes.main(given)
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("| remedy | mIoU % | of each seed | mean of the rare | ")
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| plain", "| crops+copy-paste+lovasz"]
    recipe = json.loads((tmp_path / "crops+copy-paste+lovasz-3" / "last.json").read_text(encoding="utf-8"))["recipe"]
    assert recipe["augmentation"]["copy_paste"] == recipe["augmentation"]["rare_crop"] == 0.5
    assert recipe["loss"]["lovasz_weight"] == 1
    assert recipe["training"]["seed"] == 3

    monkeypatch.setattr(rare_classes, "semask", lambda _: pytest.fail("a finished run was repeated"))
    rare_classes.main(given)
    rare_classes.main([*given, "--table"])
    assert (tmp_path / "table.md").read_text(encoding="utf-8").splitlines() == lines


def test_every_remedy_is_a_recipe(capsys):
    for remedy, settings in rare_classes.REMEDIES.items():
        given = [f"--{name}={value}" for name, value in settings.items()]
        with pytest.raises(SystemExit) as stop:
            rare_classes.semask(["train", "--config=camvid/semask_nano_fpn", *given, "--out=x", "--print_config"])
        assert stop.value.code in (0, None), (remedy, capsys.readouterr().err)
