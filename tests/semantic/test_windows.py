import pytest
import torch

from semask.semantic.windows import crop, merge, pad_to_windows, partition

SIZES = [(1, 1), (1, 8), (5, 3), (7, 7), (8, 12), (13, 6)]


@pytest.mark.parametrize("window", [1, 2, 3, 7, 12])
@pytest.mark.parametrize("size", SIZES)
def test_round_trip(size, window):
    x = torch.randn(2, *size, 3)
    windows = partition(pad_to_windows(x, window), window)
    count = -(-size[0] // window) * -(-size[1] // window)
    assert windows.shape == (2 * count, window * window, 3)
    assert crop(merge(windows, window, *size), *size).equal(x)


@pytest.mark.parametrize("size", SIZES)
def test_padding_is_zero_at_the_right_and_the_bottom(size):
    x = torch.rand(1, *size, 2) + 1
    padded = pad_to_windows(x, 4)
    assert padded.shape[1] % 4 == padded.shape[2] % 4 == 0
    assert max(padded.shape[1] - size[0], padded.shape[2] - size[1]) < 4
    assert padded[:, : size[0], : size[1]].equal(x)
    assert padded.count_nonzero() == x.numel()


def test_windows_hold_neighbours_row_by_row():
    x = torch.arange(2 * 4 * 6).view(2, 4, 6, 1)
    windows = partition(x, 2)
    for n in range(12):
        image, row, column = n // 6, n % 6 // 3 * 2, n % 3 * 2
        assert windows[n].view(2, 2, 1).equal(x[image, row : row + 2, column : column + 2])
