import pytest
import torch
import yaml

from semask import save
from semask.builder import build
from semask.commands.info import open_model
from semask.cost import flops, info

SMALL = {"encoder": "swin_nano", "num_classes": 5, "channels": 8, "semantic_window": (4, 4, None, None)}


def test_report(semask, tmp_path):
    model = build(**SMALL, semantic_depths=(0, 1, 1, 2))
    report = info(model, size=(64, 100))
    assert report["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert report["parts"].keys() == {"encoder", "decoder"}
    assert sum(report["parts"].values()) == report["parameters"]
    assert report["size"] == (64, 100)
    stages = report["stages"]
    assert [stage["stage"] for stage in stages] == [1, 2, 3, 4]
    assert [stage["blocks"] for stage in stages] == [2, 2, 2, 2]
    assert [stage["locations"] for stage in stages] == ["16 x 25", "8 x 13", "4 x 7", "2 x 4"]
    assert [stage["semantic layer"] for stage in stages] == [
        "none",
        "4 x 4 windows, depth 1, residual normed",
        "global, depth 1, residual normed",
        "global, depth 2, residual normed",
    ]
    norms_and_stem = sum(
        p.numel() for part in (model.encoder.norms, model.encoder.backbone.stem) for p in part.parameters()
    )
    in_stages = sum(stage["parameters"] + stage["semantic parameters"] for stage in stages)
    assert in_stages + norms_and_stem == report["parts"]["encoder"]
    path = save(tmp_path / "model.safetensors", model, {})
    printed = semask("info", path, "--size=[64,100]").out
    assert f"{report['parameters']:,} parameters" in printed
    assert f"{report['flops'] / 1e9:.2f} GFLOPs at 64 x 100" in printed


def test_flops_grow_with_the_area():
    model = build(**SMALL, semantic_depths=0, window=2)  # every map is of whole windows
    assert flops(model, (128, 192)) == 6 * flops(model, (64, 64))


def test_flops_of_one_convolution_and_of_a_semantic_layer():
    plain, semantic = (build(**SMALL, semantic_depths=depths) for depths in (0, (0, 0, 0, 1)))
    tokens, channels, classes = 4, 256, 5  # the last map of 64 x 64 pixels
    linears = 2 * tokens * channels * (2 * channels + 2 * classes)
    products = 2 * tokens * tokens * (channels + classes)
    assert flops(semantic, (64, 64)) - flops(plain, (64, 64)) == linears + products
    wider = build(**{**SMALL, "num_classes": 6}, semantic_depths=0)
    assert flops(wider, (64, 64)) - flops(plain, (64, 64)) == 2 * 16 * 16 * 8


def test_the_model_is_left_as_it_was():
    model = build(**SMALL).train()
    before = [parameter.clone() for parameter in model.parameters()]
    info(model, size=(32, 32))
    assert model.training
    assert all(a.equal(b) for a, b in zip(before, model.parameters(), strict=True))


def test_checkpoint_and_recipe(tmp_path):
    model = build(**SMALL)
    path = save(tmp_path / "model.safetensors", model, {})
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({"model": model.config}))
    with torch.no_grad():
        reports = [
            info(x, size=(32, 32)) for x in (model, open_model(str(path)), open_model(str(tmp_path / "recipe.yaml")))
        ]
    assert reports[0] == reports[1] == reports[2]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("training: {}", "a recipe without a section `model`"),
        ("[1, 2]", "not a recipe: expected sections"),
        ("model: {color: red}", "model has no setting 'color'"),
        ("model: {num_classes: 1}", "two classes: background and object"),
        ("model: {encoder: transformers/../folder}", "a file can name no path"),
        ("a: b: c", "not a readable recipe"),
        ("", "not a recipe: expected sections"),
    ],
)
def test_recipes_that_describe_no_model(tmp_path, content, reason):
    path = tmp_path / "recipe.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"recipe\.yaml: ") as caught:
        open_model(str(path))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_faults(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.yaml: no such file"):
        open_model(str(tmp_path / "nowhere.yaml"))
    with pytest.raises(ValueError, match="no such checkpoint"):
        open_model(str(tmp_path / "nowhere.safetensors"))
    with pytest.raises(ValueError, match=r"size is \(0, 32\)"):
        info(build(**SMALL), size=(0, 32))
