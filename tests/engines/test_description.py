import copy
import json

import pytest

from semask import Classes, Inference, SeMask
from semask.builder import build
from semask.engines import description as metadata
from semask.prediction.recipe import recipe_inference


def model(**settings) -> SeMask:
    return build(**{"encoder": "swin_nano", "num_classes": 3, "channels": 8, **settings})


def trained() -> SeMask:
    """A model with all that a checkpoint may say."""
    module = model()
    module.metadata = {
        "classes": {"classes": ["Straße", "空", "sky"], "palette": [[1, 2, 3], [4, 5, 6], [7, 8, 9]]},
        "recipe": {
            "data": {"root": "/home/somebody/photos", "format": "folder", "val_split": "test"},
            "evaluation": {"scale": [256, 192], "flip": True},
            "training": {"lr": 1},
        },
        "published": {"name": "x", "miou": 1.0, "miou_multiscale": 2.0, "licence": "MIT", "url": "https://x"},
        "step": 7,
    }
    return module


def masks() -> SeMask:
    return model(decoder="maskformer", channels=32, queries=4, decoder_layers=1)


@pytest.mark.parametrize("make", [model, trained, masks])
def test_what_is_written_can_be_read(make):
    module = make()
    written = metadata.metadata(module, precision="fp16", sha256="abc")
    text = json.dumps(written)
    assert "somebody" not in text
    assert metadata.read(text, "x.onnx") == json.loads(text)
    assert written["config"] == module.config
    assert written["size_divisor"] == module.size_divisor


def test_classes_recipe_and_license_go_along():
    written = metadata.metadata(trained(), precision="fp32")
    assert Classes.from_dict(written["classes"]).names == ("Straße", "空", "sky")
    assert written["classes"]["palette"][1] == [4, 5, 6]
    assert written["recipe"] == {
        "data": {"format": "folder", "val_split": "test"},
        "evaluation": {"scale": [256, 192], "flip": True},
    }
    assert (written["licence"], written["step"], written["outputs"]) == ("MIT", 7, ["logits"])
    assert metadata.metadata(trained(), precision="fp32", license="CC-BY-4.0")["licence"] == "CC-BY-4.0"
    assert metadata.metadata(model(), precision="fp32")["licence"] == "unknown"
    other = trained()
    other.metadata["licence"] = "mine"
    assert metadata.metadata(other, precision="fp32")["licence"] == "mine"


def test_a_mask_decoder_has_two_outputs():
    written = metadata.metadata(masks(), precision="fp32")
    assert (written["outputs"], written["makes_masks"]) == (["classes", "masks"], True)


WRONG = [
    ("recipe.evaluation.scale", [100.5, 90]),
    ("recipe.evaluation.crop", [64, True]),
    ("recipe.evaluation.flip", "yes"),
    ("recipe.evaluation.antialias", 1),
    ("recipe.evaluation.window_batch", 2.5),
    ("recipe.evaluation.ratios", [float("nan")]),
    ("recipe.evaluation.ratios", [float("inf")]),
    ("config", 3),
    ("config", {}),
    ("config.num_classes", 0),
    ("config.num_classes", 256),
    ("config.num_classes", True),
    ("config.num_classes", "3"),
    ("config.num_classes", 4),
    ("config.in_channels", 4),
    ("config.in_channels", 10**9),
    ("classes", ["a", "b", "c"]),
    ("classes.classes", ["a", "b"]),
    ("classes.classes", ["a", "b", "b"]),
    ("classes.classes", "abc"),
    ("classes.palette", [[1, 2, 3]]),
    ("classes.palette", [[1, 2, 300], [1, 2, 3], [1, 2, 3]]),
    ("classes.palette", [1, 2, 3]),
    ("mean", [0.5, 0.5]),
    ("mean", "abc"),
    ("mean", [0.5, 0.5, None]),
    ("mean", [0.5, 0.5, float("nan")]),
    ("std", [0.5, 0, 0.5]),
    ("std", [0.5, -1, 0.5]),
    ("size_divisor", 0),
    ("size_divisor", 2.5),
    ("size_divisor", 10**6),
    ("makes_masks", 1),
    ("makes_masks", True),
    ("outputs", ["logits", "more"]),
    ("outputs", None),
    ("precision", "fp4"),
    ("precision", ["fp32"]),
    ("licence", None),
    ("recipe", []),
    ("recipe.data", None),
    ("recipe.data", {"color": 1}),
    ("recipe.data", {"workers": -1}),
    ("recipe.evaluation", {"color": 1}),
    ("recipe.evaluation", {"mode": "sideways"}),
    ("recipe.evaluation", {"scale": ["a", "b"]}),
    ("recipe.evaluation", {"scale": 5}),
    ("recipe.evaluation", {"ratios": []}),
    ("published", "x"),
    ("published", {"name": "x"}),
    ("published", {"name": "x", "miou": "high", "miou_multiscale": 1}),
]


@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda x: str(x)[:40])
def test_every_value_is_checked(key, value):
    values = copy.deepcopy(metadata.metadata(trained(), precision="fp32"))
    *parents, name = key.split(".")
    place = values
    for parent in parents:
        place = place[parent]
    place[name] = value
    with pytest.raises(ValueError, match=r"^x\.onnx: its description is wrong \(.+\): export it again$") as caught:
        metadata.read(json.dumps(values), "x.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", sorted({key.split(".")[0] for key, _ in WRONG}))
def test_nothing_may_be_missing(key):
    values = metadata.metadata(trained(), precision="fp32")
    del values[key]
    with pytest.raises(ValueError, match=f"wrong .'{key}' is missing"):
        metadata.read(json.dumps(values), "x.onnx")


@pytest.mark.parametrize("text", ["{", "[]", "3", '"x"', "{}", "null", "[" * 100_000])
def test_what_is_no_description(text):
    with pytest.raises(ValueError, match=r"^x\.onnx: its description is damaged"):
        metadata.read(text, "x.onnx")


@pytest.mark.parametrize("text", [None, ""])
def test_none_at_all(text):
    with pytest.raises(ValueError, match=r"^x\.onnx: not exported by semask"):
        metadata.read(text, "x.onnx")


def test_another_version():
    with pytest.raises(ValueError, match="described in format 2, this semask reads 1"):
        metadata.read('{"format_version": 2}', "x.onnx")


def test_a_version_is_a_number():
    with pytest.raises(ValueError, match="described in format True"):
        metadata.read('{"format_version": true}', "x.onnx")


def test_the_recipe_s_inference_survives():
    read = metadata.read(json.dumps(metadata.metadata(trained(), precision="fp32")), "x")
    stand_in = model()
    stand_in.metadata = {"recipe": read["recipe"]}
    assert recipe_inference(stand_in) == Inference(scale=(256, 192), flip=True)
