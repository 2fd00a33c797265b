import pytest

from semask.settings.recipe import RECIPES, find_recipe, is_recipe, read_recipe, recipe_names


def test_names_are_those_of_the_files():
    assert "ade20k/semask_tiny_fpn" in recipe_names()
    assert len(recipe_names()) == len(list(RECIPES.rglob("*.yaml")))
    assert {name.split("/")[0] for name in recipe_names()} == {
        "ade20k",
        "camvid",
        "cityscapes",
        "coco_stuff",
        "own",
        "synthetic",
    }


@pytest.mark.parametrize("name", ["ade20k/semask_tiny_fpn", "ade20k/semask_tiny_fpn.yaml"])
def test_a_recipe_by_its_name(name):
    assert find_recipe(name) == RECIPES / "ade20k" / "semask_tiny_fpn.yaml"
    assert is_recipe(name)
    assert read_recipe(name)["model"]["encoder"] == "swin_tiny"


def test_a_file_goes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ade20k").mkdir()
    (tmp_path / "ade20k" / "semask_tiny_fpn.yaml").write_text("model: {encoder: swin_nano}")
    assert read_recipe("ade20k/semask_tiny_fpn.yaml")["model"] == {"encoder": "swin_nano"}
    assert read_recipe("ade20k/semask_tiny_fpn")["model"]["encoder"] == "swin_tiny"


@pytest.mark.parametrize("name", ["ade20k/semask_tiny_fnp", "semask_tiny_fpn", "../recipes/ade20k/semask_tiny_fpn"])
def test_what_may_have_been_meant(name):
    with pytest.raises(ValueError, match=r"did you mean .*semask_tiny_fpn") as caught:
        find_recipe(name)
    assert "\n" not in str(caught.value)
    assert not is_recipe(name)


def test_commands_take_names(semask):
    printed = semask(
        "train", "--config", "cityscapes/semask_tiny_fpn", "--data.root", "x", "--out", "y", "--print_config"
    )
    assert "encoder: swin_tiny" in printed.out
    assert "GFLOPs at 64 x 64" in semask("info", "ade20k/semask_tiny_fpn", "--size=[64,64]").out
    assert "did you mean cityscapes/semask_tiny_fpn" in semask.refused(
        "train", "--config", "cityscapes/semask_tiny_fpm", "--out", "y"
    )
