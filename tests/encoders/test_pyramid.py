import pytest
import torch

from semask import attach
from semask.builder import build
from semask.encoders.library import library_backbone
from semask.encoders.pyramid import SimpleFeaturePyramid


@pytest.mark.parametrize("size", [(6, 6), (7, 5), (1, 1)])
def test_sizes(size):
    maps = SimpleFeaturePyramid(8)([torch.randn(2, 8, *size)] * 4)
    expected = [tuple(4 * x for x in size), tuple(2 * x for x in size), size, tuple(-(-x // 2) for x in size)]
    assert [tuple(x.shape) for x in maps] == [(2, 8, *side) for side in expected]


def test_each_size_is_of_another_depth():
    pyramid, maps = SimpleFeaturePyramid(4), list(torch.randn(4, 1, 4, 6, 6))
    before = pyramid(maps)
    for depth in range(4):
        other = [x + 1 if i == depth else x for i, x in enumerate(maps)]
        changed = [not a.equal(b) for a, b in zip(before, pyramid(other), strict=True)]
        assert changed == [i == depth for i in range(4)]


def test_the_two_deep_maps_have_no_weights():
    pyramid, x = SimpleFeaturePyramid(4), torch.randn(1, 4, 6, 6)
    same, half = pyramid([x] * 4)[2:]
    assert same.equal(x)
    assert half.equal(torch.nn.functional.max_pool2d(x, 2))


def test_semantic_layers_of_a_plain_vit_see_the_map_of_each_quarter():
    encoder = attach(library_backbone("timm/vit_tiny_patch16_224"), num_classes=5).eval()
    assert encoder.strides == (4, 8, 16, 32)
    features = encoder(torch.randn(1, 3, 64, 100))
    assert [tuple(x.shape[-2:]) for x in features.maps] == [(16, 28), (8, 14), (4, 7), (2, 4)]
    assert {tuple(x.shape[-2:]) for x in features.priors} == {(4, 7)}


def test_a_plain_vit_learns_end_to_end():
    model = build("timm/vit_tiny_patch16_224", num_classes=3, channels=16).train()
    output = model(torch.randn(2, 3, 64, 64))
    (output.logits.square().mean() + output.prior_logits.square().mean()).backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in model.encoder.pyramid.parameters())
