"""SeMask: semantic attention inside hierarchical vision transformers, for semantic segmentation (arXiv 2112.12782).

    image [B, 3, H, W]
      -> SemanticEncoder   stem, then per stage: blocks -> semantic layer -> norm      (encoders/, semantic/)
           maps [B, C_i, h_i, w_i] and semantic priors [B, K, h_i, w_i] of every stage
      -> decoder           maps -> logits [B, K, H/4, W/4]                              (decoders/)
      -> PriorDecoder      priors -> prior logits [B, K, H/4, W/4], in training only
      -> loss              cross-entropy + 0.4 x cross-entropy of the prior             (losses/)

Letters: B batch, C channels, H W image pixels, h w feature cells, K classes, N tokens.
"""

__version__ = "0.1.0"

from semask.checkpoints.checkpoint import load, save
from semask.data.classes import Classes
from semask.data.dataset import SegmentationDataset
from semask.data.source import Data
from semask.data.transforms import Augmentation
from semask.encoders.backbone import Backbone
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.library import attach
from semask.losses.mask import MaskLoss
from semask.losses.pixel import PixelLoss
from semask.metrics import ConfusionMatrix
from semask.model import SeMask
from semask.prediction.predictor import Prediction, Predictor
from semask.semantic.attention import SemanticAttention
from semask.semantic.layer import SemanticLayer
from semask.settings.inference import Inference

__all__ = [
    "Augmentation",
    "Backbone",
    "Classes",
    "ConfusionMatrix",
    "Data",
    "Inference",
    "MaskLoss",
    "PixelLoss",
    "Prediction",
    "Predictor",
    "SeMask",
    "SegmentationDataset",
    "SemanticAttention",
    "SemanticEncoder",
    "SemanticLayer",
    "attach",
    "load",
    "save",
]
