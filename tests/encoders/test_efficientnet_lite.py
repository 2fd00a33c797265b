"""Ours is timm's to the bit, with the same names, and does not import it."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from semask import build
from semask.encoders.backbone import LibraryBackbone
from semask.encoders.efficientnet_lite import NAME, EfficientNetLite0, missing
from semask.encoders.families import plan_of
from semask.encoders.library import library_backbone, timm_model


@pytest.fixture(scope="module")
def theirs() -> LibraryBackbone:
    model = timm_model("tf_efficientnet_lite0", 3, None, {})
    torch.manual_seed(0)
    for x in [*model.parameters(), *(x for x in model.buffers() if x.is_floating_point())]:
        nn.init.uniform_(x, -0.2, 0.2) if x.ndim > 1 else nn.init.uniform_(x, 0.5, 1.5)
    return LibraryBackbone(model, plan_of(model), name=NAME)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (61, 79), (33, 32)])
def test_equal_to_timm_to_the_bit(theirs, training, size):
    ours = library_backbone(NAME)
    assert isinstance(ours.model, EfficientNetLite0)
    ours.load_state_dict(theirs.state_dict())
    assert (ours.channels, ours.strides) == (theirs.channels, theirs.strides)
    assert (ours.mean, ours.std) == (theirs.mean, theirs.std)
    ours.train(training)
    theirs.train(training)
    image = torch.rand(2, 3, *size, generator=torch.manual_seed(1))
    ours_map = ours.stem(image)
    their_map = theirs.stem(image.contiguous(memory_format=torch.channels_last))  # the layout in which ours computes
    for our_stage, their_stage in zip(ours.stages, theirs.stages, strict=True):
        ours_map, their_map = our_stage(ours_map), their_stage(their_map)
        assert torch.equal(ours_map, their_map)


def test_gradients_in_bfloat16_are_those_of_timm():
    """Some filters run in float32 then, since oneDNN has slow gradients for them in bfloat16: closer, not other."""
    torch.manual_seed(0)
    ours = library_backbone(NAME)
    theirs = timm_model("tf_efficientnet_lite0", 3, None, {})
    theirs = LibraryBackbone(theirs, plan_of(theirs), name=NAME)
    theirs.load_state_dict(ours.state_dict())
    image = torch.rand(2, 3, 64, 64, generator=torch.manual_seed(1))
    exact, mixed, other = (gradient(model, image, bf16=bf16) for model, bf16 in ((theirs, 0), (ours, 1), (theirs, 1)))
    assert (mixed - exact).norm() <= 1.05 * (other - exact).norm()
    assert not torch.equal(mixed, other)


def gradient(model: LibraryBackbone, image: torch.Tensor, *, bf16: bool) -> torch.Tensor:
    model.eval().zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bool(bf16)):
        x = model.stem(image)
        for stage in model.stages:
            x = stage(x)
    x.float().square().sum().backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def test_with_options_it_is_timm_s():
    assert not isinstance(library_backbone(NAME, drop_path=0.1).model, EfficientNetLite0)


def test_padding_is_never_negative():
    for kernel in (3, 5):
        for length in range(1, 40):
            padded = length + missing(length, kernel, 2)
            assert padded >= length
            assert (padded - kernel) // 2 + 1 == -(-length // 2)


def test_fresh_weights_keep_the_spread():
    torch.manual_seed(0)
    model = build(NAME, num_classes=3, channels=16).train()
    spread = [x.std().item() for x in model(torch.randn(2, 3, 64, 64)).features]
    assert all(0.01 < x < 10 for x in spread), spread


def test_timm_is_not_imported():
    code = f"import sys, semask; semask.build('{NAME}', num_classes=2, channels=16); assert 'timm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
