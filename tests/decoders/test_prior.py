import pytest
import torch
import torch.nn.functional as F

from semask.decoders.prior import PriorDecoder

STRIDES = (4, 8, 16, 32)


def priors(size: tuple[int, int], strides=STRIDES) -> list[torch.Tensor]:
    """Priors of an image of 4 x `size` pixels."""
    return [torch.randn(2, 3, *(-(-side * 4 // stride) for side in size)) for stride in strides]


def test_has_no_parameters():
    assert not PriorDecoder(STRIDES).state_dict()


@pytest.mark.parametrize("size", [(16, 24), (13, 21), (1, 9)])
def test_sum_of_the_stages(size):
    decoder, maps = PriorDecoder(STRIDES), priors(size)
    total = decoder(maps, size)
    assert total.shape == (2, 3, *size)
    alone = [decoder([x if i == j else torch.zeros_like(x) for j, x in enumerate(maps)], size) for i in range(4)]
    torch.testing.assert_close(total, sum(alone))
    torch.testing.assert_close(alone[0], maps[0])


@pytest.mark.parametrize("size", [(16, 24), (13, 21)])
def test_doubles_in_a_row(size):
    (prior,) = priors(size, (16,))
    expected = prior
    for _ in range(2):
        expected = F.interpolate(expected, size=[2 * side for side in expected.shape[-2:]], mode="bilinear")
    expected = F.interpolate(expected, size=size, mode="bilinear")
    at_once = F.interpolate(prior, size=size, mode="bilinear")
    total = PriorDecoder((16,))([prior], size)
    torch.testing.assert_close(total, expected)
    assert (total - at_once).abs().max() > 0.01


def test_constants_stay():
    total = PriorDecoder(STRIDES)([torch.full_like(x, i + 1.0) for i, x in enumerate(priors((13, 21)))], (13, 21))
    torch.testing.assert_close(total, torch.full_like(total, 10.0))


def test_stages_without_a_prior():
    maps = priors((16, 16), (16, 32))
    assert PriorDecoder((16, 32))(maps, (16, 16)).shape == (2, 3, 16, 16)
    with pytest.raises(ValueError, match="no prior to decode"):
        PriorDecoder(())([], (16, 16))
