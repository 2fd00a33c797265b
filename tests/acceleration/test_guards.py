import torch

from semask.acceleration.guards import predicts, recorded, sliced


def test_slices_are_for_prediction_on_a_cpu():
    x = torch.randn(4, 4)
    assert not sliced(x)
    with torch.inference_mode():
        assert sliced(x)
        assert not sliced(x.to("meta"))


def test_what_is_recorded_sees_no_slices():
    x = torch.randn(10, 4)
    assert not predicts(x)
    assert not recorded()
    states = []

    def function(x):
        states.append((recorded(), predicts(x)))
        return x + 1

    with torch.no_grad():
        assert predicts(x)
        assert not predicts(x.to("meta"))
        torch.jit.trace(function, x)
    assert (True, False) in states
