"""② Image to one map, and one semantic prior, a stage."""

from semask.encoders.backbone import Backbone
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.library import attach
from semask.encoders.swin import SIZES, Swin, SwinSize

__all__ = ["SIZES", "Backbone", "SemanticEncoder", "Swin", "SwinSize", "attach"]
