import pytest

from semask.app.models import NO_LAYERS, TILES, open_models


def test_the_model_in_the_package_is_used_where_none_is_named(street):
    (model,) = street
    assert model.name == "street"
    assert "bicyclist" in model.predictor.classes.names
    assert model.without_priors == NO_LAYERS


def test_a_model_with_semantic_layers_shows_priors(both, trained):
    assert [model.name for model in both] == ["street", f"{trained.parent.name}/run"]
    assert both[1].without_priors is None
    (tiled,) = open_models([str(trained)], tile=64)
    assert tiled.without_priors == TILES


def test_a_model_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing"):
        open_models([str(tmp_path / "nothing.safetensors")])


def test_one_that_is_named_twice_is_opened_once():
    assert len(open_models(["street", "street"])) == 1


def test_a_folder_called_as_the_model_in_the_package_counts_where_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "street").mkdir()
    monkeypatch.chdir(tmp_path)
    assert open_models([])[0].name == "street"
    with pytest.raises(ValueError, match="in this folder"):
        open_models(["street"])
