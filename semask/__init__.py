"""SeMask: semantic attention inside hierarchical vision transformers, for semantic segmentation (arXiv 2112.12782).

    image [B, 3, H, W]
      -> SemanticEncoder   stem, then per stage: blocks -> semantic layer -> norm      (encoders/, semantic/)
           maps [B, C_i, h_i, w_i] and semantic priors [B, K, h_i, w_i] of every stage
      -> Decoder           maps -> class scores [B, K, H/4, W/4], or masks              (decoders/)
      -> PriorDecoder      priors -> prior logits [B, K, H/4, W/4], in training only
      -> loss              cross-entropy + 0.4 x cross-entropy of the prior             (losses/)

Letters: B batch, C channels, H W image pixels, h w feature locations, K classes, N tokens, Q queries.

Names are loaded when they are first used: `import semask` loads neither torch nor anything else.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from semask.acceleration.accelerate import accelerate as accelerate
    from semask.builder import build as build
    from semask.checkpoints.converting import convert as convert
    from semask.checkpoints.hub import from_pretrained as from_pretrained
    from semask.checkpoints.hub import push_to_hub as push_to_hub
    from semask.checkpoints.hub import save_pretrained as save_pretrained
    from semask.checkpoints.pretrained import load_pretrained as load_pretrained
    from semask.checkpoints.saving import save as save
    from semask.checkpoints.sources import load as load
    from semask.cost import info as info
    from semask.data.classes import Classes as Classes
    from semask.data.dataset import SegmentationDataset as SegmentationDataset
    from semask.data.source import Data as Data
    from semask.data.transforms import Augmentation as Augmentation
    from semask.decoders.decoder import Decoder as Decoder
    from semask.decoders.decoder import MaskDecoder as MaskDecoder
    from semask.encoders.backbone import Backbone as Backbone
    from semask.encoders.encoder import SemanticEncoder as SemanticEncoder
    from semask.encoders.library import attach as attach
    from semask.engines.export import export as export
    from semask.engines.runtime import load_exported as load_exported
    from semask.evaluation.comparison import Comparison as Comparison
    from semask.evaluation.comparison import compare as compare
    from semask.evaluation.evaluate import Evaluation as Evaluation
    from semask.evaluation.evaluate import evaluate as evaluate
    from semask.explain.explanation import Explanation as Explanation
    from semask.losses.mask import MaskLoss as MaskLoss
    from semask.losses.pixel import PixelLoss as PixelLoss
    from semask.metrics.confusion import ConfusionMatrix as ConfusionMatrix
    from semask.model import SeMask as SeMask
    from semask.prediction.opening import open_predictor as open_predictor
    from semask.prediction.prediction import Prediction as Prediction
    from semask.prediction.predictor import Predictor as Predictor
    from semask.prediction.requested import Outputs as Outputs
    from semask.prediction.results import Result as Result
    from semask.prediction.results import predict as predict
    from semask.prediction.results import predict_images as predict_images
    from semask.reporting.report import report as report
    from semask.semantic.attention import SemanticAttention as SemanticAttention
    from semask.semantic.layer import SemanticLayer as SemanticLayer
    from semask.serving.client import Client as Client
    from semask.settings.inference import Inference as Inference
    from semask.settings.model import ModelSettings as ModelSettings
    from semask.settings.training import Training as Training
    from semask.training.callbacks import Callback as Callback
    from semask.training.callbacks import Progress as Progress
    from semask.training.callbacks import StopTraining as StopTraining
    from semask.training.loop import train as train

_HOMES = {
    "Augmentation": "semask.data.transforms",
    "Backbone": "semask.encoders.backbone",
    "Callback": "semask.training.callbacks",
    "Classes": "semask.data.classes",
    "Client": "semask.serving.client",
    "Comparison": "semask.evaluation.comparison",
    "ConfusionMatrix": "semask.metrics.confusion",
    "Data": "semask.data.source",
    "Decoder": "semask.decoders.decoder",
    "Evaluation": "semask.evaluation.evaluate",
    "Explanation": "semask.explain.explanation",
    "Inference": "semask.settings.inference",
    "MaskDecoder": "semask.decoders.decoder",
    "MaskLoss": "semask.losses.mask",
    "ModelSettings": "semask.settings.model",
    "Outputs": "semask.prediction.requested",
    "PixelLoss": "semask.losses.pixel",
    "Prediction": "semask.prediction.prediction",
    "Predictor": "semask.prediction.predictor",
    "Progress": "semask.training.callbacks",
    "Result": "semask.prediction.results",
    "SeMask": "semask.model",
    "SegmentationDataset": "semask.data.dataset",
    "SemanticAttention": "semask.semantic.attention",
    "SemanticEncoder": "semask.encoders.encoder",
    "SemanticLayer": "semask.semantic.layer",
    "StopTraining": "semask.training.callbacks",
    "Training": "semask.settings.training",
    "accelerate": "semask.acceleration.accelerate",
    "attach": "semask.encoders.library",
    "build": "semask.builder",
    "compare": "semask.evaluation.comparison",
    "convert": "semask.checkpoints.converting",
    "evaluate": "semask.evaluation.evaluate",
    "export": "semask.engines.export",
    "from_pretrained": "semask.checkpoints.hub",
    "info": "semask.cost",
    "load": "semask.checkpoints.sources",
    "load_exported": "semask.engines.runtime",
    "load_pretrained": "semask.checkpoints.pretrained",
    "open_predictor": "semask.prediction.opening",
    "predict": "semask.prediction.results",
    "predict_images": "semask.prediction.results",
    "push_to_hub": "semask.checkpoints.hub",
    "report": "semask.reporting.report",
    "save": "semask.checkpoints.saving",
    "save_pretrained": "semask.checkpoints.hub",
    "train": "semask.training.loop",
}
"""Where each public name lives."""

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _HOMES:
        raise AttributeError(f"module 'semask' has no attribute {name!r}: its names are {', '.join(_HOMES)}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted({*globals(), *__all__})
