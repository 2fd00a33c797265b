import torch

from semask.outputs import PixelOutput, SeMaskOutput, resize


def test_resize():
    x = torch.randn(2, 3, 5, 7)
    assert resize(x, (5, 7)).equal(x)
    assert resize(x, (10, 9)).shape == (2, 3, 10, 9)
    corners_kept = torch.nn.functional.interpolate(x, size=(10, 14), mode="bilinear", align_corners=True)
    assert not torch.allclose(resize(x, (10, 14)), corners_kept)
    ramp = torch.arange(4.0).expand(1, 1, 2, 4)
    assert resize(ramp, (2, 8))[0, 0, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]


def test_probabilities_are_the_softmax_of_the_resized_logits():
    logits = 5 * torch.randn(2, 3, 5, 7)
    probabilities = PixelOutput(logits).probabilities((20, 30))
    assert probabilities.shape == (2, 3, 20, 30)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2, 20, 30))
    torch.testing.assert_close(probabilities.log().diff(dim=1), resize(logits, (20, 30)).diff(dim=1))


def test_logits_of_the_prediction():
    logits = torch.randn(1, 2, 3, 3)
    assert SeMaskOutput((), (), PixelOutput(logits), None).logits is logits
