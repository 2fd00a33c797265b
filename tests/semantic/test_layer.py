import pytest
import torch
import torch.nn.functional as F
from torch import nn

from semask.semantic.layer import SemanticLayer


def layer(window: int | None, *, scale: float = 0.7, channels: int = 8, **settings) -> SemanticLayer:
    module = SemanticLayer(channels, 3, window=window, **settings).double().eval()
    nn.init.normal_(module.norm.weight, mean=1.0, std=0.3)
    nn.init.normal_(module.norm.bias)
    for attention in module.attentions:
        nn.init.constant_(attention.scale, scale)
    return module


def features(h: int, w: int, *, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, h, w, 8).double()


@pytest.mark.parametrize("window", [3, None])
@pytest.mark.parametrize("depth", [1, 2])
def test_scale_zero(window, depth):
    x = features(5, 7)
    normed = layer(window, scale=0.0, depth=depth)
    assert normed(x)[0].equal(normed.norm(x))
    assert layer(window, scale=0.0, depth=depth, residual="input")(x)[0].equal(x)


@pytest.mark.parametrize("window", [3, None])
def test_residual_is_the_only_difference(window):
    x, normed, from_input = features(5, 7), layer(window), layer(window, residual="input")
    from_input.load_state_dict(normed.state_dict())
    (a, prior_a), (b, prior_b) = normed(x), from_input(x)
    torch.testing.assert_close(a - normed.norm(x), b - x)
    torch.testing.assert_close(prior_a, prior_b)


def test_a_window_of_the_size_of_the_map_is_global():
    x, windowed, everywhere = features(6, 6), layer(6), layer(None)
    everywhere.load_state_dict(windowed.state_dict())
    torch.testing.assert_close(windowed(x), everywhere(x))


@pytest.mark.parametrize("depth", [1, 2])
def test_padded_cells_are_zeros_that_are_attended_to(depth):
    x, windowed, everywhere = features(5, 6), layer(8, depth=depth), layer(None, depth=depth)
    everywhere.load_state_dict(windowed.state_dict())
    normed = windowed.norm(x)
    tokens = F.pad(normed, (0, 0, 0, 2, 0, 3)).flatten(1, 2)  # one window of 8 x 8
    for attention in windowed.attentions:
        prior, refinement = attention(tokens)
        tokens = tokens + refinement
    out, out_prior = windowed(x)
    torch.testing.assert_close(out, tokens.view(2, 8, 8, 8)[:, :5, :6])
    torch.testing.assert_close(out_prior, prior.view(2, 8, 8, 3)[:, :5, :6].permute(0, 3, 1, 2))
    assert not torch.allclose(out, everywhere(x)[0])


@pytest.mark.parametrize(("window", "changed"), [(4, (slice(4, 8), slice(0, 4))), (None, (slice(None), slice(None)))])
def test_a_cell_matters_in_its_window_only(window, changed):
    x, module = features(10, 9), layer(window)
    y = x.clone()
    y[:, 5, 1] = torch.randn(8).double()
    differs = (module(x)[0] - module(y)[0]).abs().amax(-1) > 1e-12
    expected = torch.zeros_like(differs)
    expected[:, changed[0], changed[1]] = True
    assert differs.equal(expected)


def test_images_of_a_batch_do_not_mix():
    x, module = features(5, 7), layer(4)
    alone = [module(image[None]) for image in x]
    together = module(x)
    torch.testing.assert_close(together[0], torch.cat([a for a, _ in alone]))
    torch.testing.assert_close(together[1], torch.cat([p for _, p in alone]))


def test_prior_is_that_of_the_last_block():
    x, module = features(4, 5), layer(None, depth=3)
    tokens = module.norm(x).flatten(1, 2)
    for attention in module.attentions[:2]:
        tokens = tokens + attention(tokens)[1]
    prior = module.attentions[2].semantic_query(tokens)
    torch.testing.assert_close(module(x)[1], prior.view(2, 4, 5, 3).permute(0, 3, 1, 2))
    assert len(module.attentions) == 3


@pytest.mark.parametrize("window", [1, 4, 7, None])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 7), (8, 13)])
def test_any_size(window, size):
    out, prior = layer(window, depth=2)(features(*size))
    assert out.shape == (2, *size, 8)
    assert prior.shape == (2, 3, *size)
    assert out.isfinite().all()
    assert prior.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 0}, "semantic window is 0"),
        ({"depth": 0}, "semantic depth is 0"),
        ({"residual": "none"}, "residual is 'none': choose one of .*'normed', 'input'"),
    ],
)
def test_faults(settings, message):
    with pytest.raises(ValueError, match=message):
        SemanticLayer(8, 3, **settings)
