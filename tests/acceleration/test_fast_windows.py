import pytest
import torch

from semask.acceleration import windows as fast
from semask.semantic import windows as plain


@pytest.mark.parametrize(("height", "width"), [(8, 12), (9, 12), (8, 11), (3, 3)])
def test_the_same_as_the_plain_forms(height, width):
    x = torch.randn(2, height, width, 3)
    padded = fast.pad_to_windows(x, 4)
    assert padded.equal(plain.pad_to_windows(x, 4))
    assert fast.roll(padded, 2).equal(plain.roll(padded, 2))
    assert fast.roll(fast.roll(padded, -2), 2).equal(padded)
    assert fast.crop(padded, height, width).equal(x)


def test_whole_windows_are_not_copied():
    x = torch.randn(2, 8, 12, 3)
    assert fast.pad_to_windows(x, 4) is x
    assert fast.crop(x, 8, 12).data_ptr() == x.data_ptr()


def test_recorded_as_the_plain_forms():
    """A graph that is recorded at one size has to be right at all others."""
    whole, other = torch.randn(1, 8, 8, 3), torch.randn(1, 7, 6, 3)

    def cycle(x):
        return fast.crop(fast.roll(fast.pad_to_windows(x, 4), -2), x.shape[1], x.shape[2])

    traced = torch.jit.trace(cycle, whole)
    assert traced(other).equal(cycle(other))
