import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerPixelDecoder

from semask.decoders.fapn import DeformablePixelDecoder, FaPN, FeatureAlign

CHANNELS = (8, 16, 32, 64)
OURS = {
    "input_projections.": "projections.",
    "adapter_1.": "level.lateral.",
    "layer_1.": "level.output.",
    "mask_projection.": "mask_features.",
}


def maps() -> list[torch.Tensor]:
    return [torch.randn(2, width, 48 // 2**i, 64 // 2**i) for i, width in enumerate(CHANNELS)]


def deformable(*, align: bool) -> DeformablePixelDecoder:
    return DeformablePixelDecoder(CHANNELS, channels=32, mask_channels=12, layers=2, align=align)


def our_name(name: str) -> str:
    for theirs, ours in OURS.items():
        name = name.replace(theirs, ours)
    return name


def test_deformable_decoder_is_that_of_transformers():
    config = Mask2FormerConfig(feature_size=32, mask_feature_size=12, encoder_layers=2, feature_strides=[4, 8, 16, 32])
    theirs, ours, features = Mask2FormerPixelDecoder(config, CHANNELS), deformable(align=False), maps()
    nn.init.normal_(theirs.level_embed)
    ours.load_state_dict({our_name(name): x for name, x in theirs.state_dict().items()})
    expected, (mask_features, scales) = theirs(features), ours(features)
    torch.testing.assert_close(mask_features, expected.mask_features)
    torch.testing.assert_close(scales, list(expected.multi_scale_features))


@pytest.mark.parametrize(
    "decoder",
    [FaPN(CHANNELS, channels=32, mask_channels=12), deformable(align=False), deformable(align=True)],
    ids=["fapn", "deformable", "msfapn"],
)
def test_one_mask_projection_at_the_finest_size_and_no_idle_parameter(decoder):
    seen = []
    decoder.mask_features.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    mask_features, scales = decoder(maps())
    assert seen == [(2, 32, 48, 64)]
    assert mask_features.shape == (2, 12, 48, 64)
    assert [tuple(x.shape) for x in scales] == [(2, 32, 6, 8), (2, 32, 12, 16), (2, 32, 24, 32)]
    (mask_features.sum() + sum(x.sum() for x in scales)).backward()
    assert [name for name, x in decoder.named_parameters() if x.grad is None] == []


def test_alignment_starts_as_a_halved_convolution():
    align = FeatureAlign(32, nn.GroupNorm(32, 32))
    lateral, upsampled = torch.randn(2, 1, 32, 6, 7)
    expected = F.relu(F.conv2d(upsampled, align.weight / 2, align.bias, padding=1)) + lateral
    torch.testing.assert_close(align(lateral, upsampled), expected)
