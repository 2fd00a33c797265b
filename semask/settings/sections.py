"""All sections of a recipe."""

from typing import Any

from semask.data.source import Data
from semask.data.transforms import Augmentation
from semask.losses.mask import MaskLoss
from semask.losses.pixel import PixelLoss
from semask.settings.inference import Inference
from semask.settings.model import ModelSettings
from semask.settings.training import Training

SECTIONS: dict[str, Any] = {
    "model": ModelSettings,
    "data": Data,
    "augmentation": Augmentation,
    "loss": PixelLoss,
    "mask_loss": MaskLoss,
    "training": Training,
    "evaluation": Inference,
}
"""Sections of a recipe, and what each is made of."""
