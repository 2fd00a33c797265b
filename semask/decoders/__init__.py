"""④ Features to logits. All are built from (in_channels, strides, num_classes, ...) and called with the maps."""

from semask.decoders.fpn import SemanticFPN
from semask.decoders.prior import PriorDecoder

DECODERS = {"fpn": SemanticFPN}
"""Decoders that `SeMask` knows by name."""

__all__ = ["DECODERS", "PriorDecoder", "SemanticFPN"]
