import pytest
import torch

from semask.builder import build
from semask.engines.graph import Graph, example, image_axes, outputs


@pytest.mark.parametrize(("decoder", "names"), [("fpn", ("logits",)), ("maskformer", ("classes", "masks"))])
def test_graph_is_the_model(decoder, names):
    model = build("swin_nano", decoder, num_classes=5, channels=32, queries=6, decoder_layers=1).eval()
    image = torch.randn(2, 3, 50, 70)
    with torch.no_grad():
        prediction, results = model(image).prediction, Graph(model)(image)
    assert outputs(model) == names
    assert len(results) == len(names)
    for name, result in zip(names, results, strict=True):
        torch.testing.assert_close(result, getattr(prediction, name))


def test_graph_computes_in_what_the_model_does_but_gives_float32():
    model = build("swin_nano", num_classes=5, channels=32).eval().bfloat16()
    (logits,) = Graph(model)(torch.randn(1, 3, 64, 64, dtype=torch.bfloat16))
    assert logits.dtype == torch.float32


def test_a_model_is_recorded_with_more_than_one_small_image_of_its_bands():
    model = build("swin_nano", num_classes=5, channels=32, in_channels=4, mean=[0.5] * 4, std=[0.2] * 4).eval()
    B, C, H, W = example(model, torch.randn(1, 4, 1024, 2048)).shape
    assert B > 1
    assert C == 4
    assert H * W < 1e5


def test_a_backbone_of_a_library_may_take_one_size_only():
    model = build("timm/resnet18", num_classes=5, channels=32).eval()
    image = torch.randn(1, 3, 48, 80)
    recorded = example(model, image)
    torch.testing.assert_close(recorded, torch.cat([image, image]))


def test_batch_and_sizes_may_change_but_not_the_number_of_masks():
    axes = image_axes(("classes", "masks"))
    assert {name: set(dims) for name, dims in axes.items()} == {"image": {0, 2, 3}, "classes": {0}, "masks": {0, 2, 3}}
