import subprocess
import sys

import pytest
import recipe_costs
import yaml

from semask.checkpoints.published import PUBLISHED
from semask.checkpoints.recipe_table import recipe_rows
from semask.settings.recipe import RECIPES, read_recipe, recipe_names

ROWS = {row.name: row for row in recipe_rows()}


def test_the_list_has_every_recipe_and_its_numbers_in_80_columns(semask):
    printed = semask("recipes").out
    assert max(map(len, printed.splitlines())) <= 80
    lines = {line.split()[0]: line for line in printed.splitlines() if "/" in line}
    assert list(lines) == recipe_names()
    tiny = lines["ade20k/semask_tiny_fpn"]
    row = ROWS["ade20k/semask_tiny_fpn"]
    assert tiny.split()[1:] == ["SeMask", "42.06", f"{row.parameters / 1e6:.1f}M", f"{row.flops / 1e9:.1f}G", "512x512"]
    assert lines["ade20k/swin_tiny_fpn"].split()[1:3] == ["plain", "-"]


def test_one_is_printed_as_it_is(semask, tmp_path):
    printed = semask("recipes", "ade20k/semask_tiny_fpn").out
    assert printed == (RECIPES / "ade20k/semask_tiny_fpn.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(printed)["model"]["encoder"] == "swin_tiny"
    written = tmp_path / "mine.yaml"
    written.write_text(printed, encoding="utf-8")
    assert read_recipe(written) == read_recipe("ade20k/semask_tiny_fpn")
    assert semask("recipes", "ade20k/semask_tiny_fpn.yaml").out == printed


@pytest.mark.parametrize("name", ["ade20k/semask_tini_fpn", "../secret", "", "no", "semask_tiny_fpn", "no_file.yaml"])
def test_unknown_names_are_refused(semask, name):
    assert "no installed recipe has this name" in semask.refused("recipes", name)
    assert "did you mean ade20k/semask_tiny_fpn" in semask.refused("recipes", "ade20k/semask_tini_fpn")


def test_a_file_of_ones_own_is_no_name(semask, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("model:\n", encoding="utf-8")
    assert "no installed recipe" in semask.refused("recipes", file)


def test_torch_is_not_needed():
    code = "from semask.cli import run; import sys; run(['recipes']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", ["ade20k/semask_tiny_fpn", "cityscapes/swin_tiny_fpn", "camvid/semask_nano_fpn"])
def test_costs_are_those_of_the_models(name):
    found = recipe_costs.cost(name)
    row = ROWS[name]
    assert (row.parameters, row.flops, row.size) == (
        found["parameters"],
        found["flops"],
        (found["height"], found["width"]),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe_names())
def test_costs_of_all(name):
    test_costs_are_those_of_the_models(name)


def test_every_published_model_is_in_the_table():
    assert sum(row.miou is not None for row in ROWS.values()) == len(PUBLISHED)
    for model in PUBLISHED.values():
        assert ROWS[model.config.removesuffix(".yaml")].miou == model.miou
