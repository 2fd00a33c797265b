"""② Image to one map, and one semantic prior, a stage."""

from semask.encoders.encoder import SemanticEncoder
from semask.encoders.swin import SIZES, Swin, SwinSize

__all__ = ["SIZES", "SemanticEncoder", "Swin", "SwinSize"]
