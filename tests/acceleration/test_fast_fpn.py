import copy

import pytest
import torch
from torch import nn

from semask.acceleration.accelerate import accelerate
from semask.decoders.fpn import SemanticFPN

CHANNELS, STRIDES = (4, 6, 8, 10), (4, 8, 16, 32)


def decoder(**settings) -> SemanticFPN:
    return SemanticFPN(CHANNELS, STRIDES, **{"num_classes": 5, "channels": 8, **settings})


def maps(height: int, width: int) -> list[torch.Tensor]:
    """Feature maps of an image."""
    return [
        torch.randn(2, channels, -(-height // stride), -(-width // stride))
        for channels, stride in zip(CHANNELS, STRIDES, strict=True)
    ]


def test_batchnorm_that_goes_on_learning_without_gradients(monkeypatch):
    monkeypatch.setattr("semask.acceleration.fpn.LOCATIONS", 50)
    module, features = decoder().eval(), maps(64, 96)
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.train()
    faster = accelerate(copy.deepcopy(module))
    with torch.no_grad():
        torch.testing.assert_close(faster(features).logits, module(features).logits)
    torch.testing.assert_close(dict(faster.named_buffers()), dict(module.named_buffers()))


@pytest.mark.parametrize("size", [(64, 96), (61, 83)])  # levels that fit each other, and others
def test_training_equals_the_plain_form(size):
    module, features = decoder(dropout=0.0).train(), maps(*size)
    gradients = []
    for _ in range(2):
        loss = module(features).logits.sin().sum()
        gradients.append((loss, *torch.autograd.grad(loss, list(module.parameters()))))
        accelerate(module)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("classes", [5, 12])  # fewer and more than channels
@pytest.mark.parametrize("locations", [1, 50, 200])
@pytest.mark.parametrize("size", [(64, 96), (61, 83), (3, 160), (130, 9)])
def test_a_large_map_is_decoded_in_slices_of_its_rows(size, locations, classes, monkeypatch):
    module, features = decoder(num_classes=classes).double().eval(), [x.double() for x in maps(*size)]
    for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    expected = module(features).logits
    accelerate(module)
    monkeypatch.setattr("semask.acceleration.fpn.LOCATIONS", locations)
    rows = []
    module.classifier.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[-2]))
    with torch.inference_mode():
        torch.testing.assert_close(module(features).logits, expected)
    height, width = features[0].shape[-2:]
    assert (len(rows) > 1) == (height > 1 and height * width > locations)
    assert sum(rows) == height


def test_levels_of_one_size_are_never_sliced(monkeypatch):
    monkeypatch.setattr("semask.acceleration.fpn.LOCATIONS", 1)
    module = SemanticFPN((4, 6), (4, 4), num_classes=5, channels=8).eval()
    accelerate(module)
    with torch.inference_mode():
        assert module([torch.randn(1, 4, 8, 8), torch.randn(1, 6, 8, 8)]).logits.shape == (1, 5, 8, 8)
