import pytest
import torch

from semask.acceleration.slices import by_slices


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("length", [1, 3, 10, 100])
def test_slices(length, dim):
    x, lengths = torch.randn(10, 10, 4), []

    def function(x):
        lengths.append(x.shape[dim])
        return x * 2, x.sum(-1)

    doubled, sums = by_slices(function, x, length=length, dim=dim)
    assert doubled.equal(2 * x)
    assert sums.equal(x.sum(-1))
    assert max(lengths) <= length
    assert sum(lengths) == 10
