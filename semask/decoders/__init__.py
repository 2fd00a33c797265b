"""④ Features to logits or masks.

All decoders are built from (in_channels, strides, num_classes, ...), are called with the maps, and say of themselves:
`makes_masks` (whether they give a `MaskOutput`), `size_divisor` (what images are padded to a multiple of) and
`prior_align_corners` (how the priors are resized for the loss).
"""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from semask.decoders.fpn import SemanticFPN
from semask.decoders.prior import PriorDecoder

PIXEL_DECODERS: dict[str, Literal["deformable", "fapn", "msfapn"]] = {
    "mask2former": "deformable",
    "mask2former_fapn": "fapn",
    "mask2former_msfapn": "msfapn",
}
NAMES = ("fpn", "maskformer", *PIXEL_DECODERS)
"""Decoders that `SeMask` knows by name."""


def build_decoder(
    name: str,
    in_channels: Sequence[int],
    strides: Sequence[int],
    *,
    num_classes: int,
    channels: int,
    dropout: float,
    queries: int,
    layers: int | None,
) -> nn.Module:
    """Build a decoder by name.

    Raises:
        ValueError: If the name is unknown, or the decoder needs a package that is not installed.
    """
    if name == "fpn":
        return SemanticFPN(in_channels, strides, num_classes=num_classes, channels=channels, dropout=dropout)
    if name not in NAMES:
        raise ValueError(f"decoder is {name!r}: choose one of {', '.join(NAMES)}")
    try:
        from semask.decoders.mask2former import Mask2Former
        from semask.decoders.maskformer import MaskFormer
    except ImportError as error:
        raise ValueError(f"decoder {name} needs the mask extra ({error}): pip install 'semask[mask]'") from error
    if name == "maskformer":
        return MaskFormer(
            in_channels,
            strides,
            num_classes=num_classes,
            channels=channels,
            dropout=dropout,
            queries=queries,
            layers=layers or 6,
        )
    return Mask2Former(
        in_channels,
        strides,
        num_classes=num_classes,
        channels=channels,
        queries=queries,
        layers=layers or 9,
        pixel_decoder=PIXEL_DECODERS[name],
    )


__all__ = ["NAMES", "PriorDecoder", "SemanticFPN", "build_decoder"]
