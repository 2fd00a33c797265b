import pytest
import torch
from torch import nn

from semask.encoders.backbone import Backbone
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.swin import Swin, SwinSize
from semask.semantic.layer import SemanticLayer

SMALL = SwinSize(8, (1, 1, 1, 1), (1, 1, 2, 2), 4, 0.0)
WINDOWS = (4, 4, None, None)


def encoder(**settings) -> SemanticEncoder:
    torch.manual_seed(0)
    return SemanticEncoder(Swin(SMALL), **{"num_classes": 5, "semantic_window": WINDOWS, **settings}).eval()


class Pyramid(Backbone):
    """A backbone that is no Swin: average pooling and a Linear a stage."""

    class Halve(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.widen = nn.Linear(channels, channels + 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.widen(nn.functional.avg_pool2d(x.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1))

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Upsample(scale_factor=1))
        self.stem.register_forward_hook(lambda _, __, x: x.permute(0, 2, 3, 1))
        self.stages = nn.ModuleList([self.Halve(4), self.Halve(6)])
        self.channels, self.strides = (6, 8), (4, 8)


@pytest.mark.parametrize("size", [(64, 64), (33, 70), (5, 5)])
def test_shapes(size):
    maps, priors = encoder()(torch.randn(2, 3, *size))
    for i, (x, prior) in enumerate(zip(maps, priors, strict=True)):
        cells = [-(-side // (4 * 2**i)) for side in size]
        assert x.shape == (2, 8 * 2**i, *cells)
        assert prior.shape == (2, 5, *cells)


def test_maps_are_normalised():
    for x in encoder()(torch.randn(2, 3, 64, 64)).maps:
        torch.testing.assert_close(x.mean(1), torch.zeros_like(x[:, 0]), atol=1e-5, rtol=0)


def test_depths_zero_is_the_plain_backbone():
    image, plain = torch.randn(1, 3, 40, 40), encoder(semantic_depths=0)
    maps, priors = plain(image)
    assert priors == ()
    assert plain.semantic_strides == ()
    x = plain.backbone.stem(image)
    for stage, norm, ours in zip(plain.backbone.stages, plain.norms, maps, strict=True):
        x = stage(x)
        torch.testing.assert_close(ours, norm(x).permute(0, 3, 1, 2))


def test_fresh_layers_that_add_to_their_input_leave_the_backbone_as_it_is():
    image, plain = torch.randn(1, 3, 40, 40), encoder(semantic_depths=0)
    for residual, same in (("input", True), ("normed", False)):
        semantic = encoder(residual=residual)
        semantic.load_state_dict(plain.state_dict(), strict=False)
        assert torch.equal(semantic(image).maps[-1], plain(image).maps[-1]) == same


def test_the_next_stage_gets_the_refined_features():
    semantic, image = encoder(), torch.randn(1, 3, 40, 40)
    before = semantic(image).maps
    nn.init.ones_(semantic.semantic_layers[1].attentions[0].scale)
    nn.init.normal_(semantic.semantic_layers[1].attentions[0].projection.weight)
    changed = [not torch.allclose(a, b) for a, b in zip(before, semantic(image).maps, strict=True)]
    assert changed == [False, True, True, True]


def test_depth_of_each_stage():
    semantic = encoder(semantic_depths=(0, 0, 1, 2))
    depths = [len(x.attentions) if isinstance(x, SemanticLayer) else 0 for x in semantic.semantic_layers]
    assert depths == [0, 0, 1, 2]
    assert semantic.semantic_strides == (16, 32)
    assert [prior.shape[-2:] for prior in semantic(torch.randn(1, 3, 64, 64)).priors] == [(4, 4), (2, 2)]


def test_scope_of_each_stage():
    assert [layer.window for layer in encoder(semantic_window=(2, 3, None, 5)).semantic_layers] == [2, 3, None, 5]


def test_start_values():
    for layer in encoder().semantic_layers:
        for attention in layer.attentions:
            assert attention.scale.item() == 0
            linears = (attention.semantic_query, attention.semantic_key, attention.value, attention.projection)
            for linear in linears:
                # A projection of zero behind a scale of zero would never learn.
                assert linear.weight.std().item() == pytest.approx(0.02, rel=0.5)
                assert linear.bias.eq(0).all()


def test_any_hierarchical_backbone():
    semantic = SemanticEncoder(Pyramid(), num_classes=3, semantic_window=(4, None))
    maps, priors = semantic(torch.randn(1, 3, 32, 48))
    assert [x.shape for x in maps] == [(1, 6, 8, 12), (1, 8, 4, 6)]
    assert [x.shape for x in priors] == [(1, 3, 8, 12), (1, 3, 4, 6)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"semantic_window": (7, 7)}, "semantic_window has 2 values, but the encoder has 4 stages"),
        ({"semantic_depths": (1, 1)}, r"semantic_depths is \(1, 1\), but the encoder has 4 stages"),
        ({"semantic_depths": (1, 1, -1, 1)}, "semantic_depths is"),
    ],
)
def test_faults(settings, message):
    with pytest.raises(ValueError, match=message):
        encoder(**settings)


def test_windows_are_not_asked_for_without_semantic_layers():
    assert encoder(semantic_depths=0, semantic_window=())(torch.randn(1, 3, 32, 32)).priors == ()
