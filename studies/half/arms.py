"""The arms of the study that matter most, at half the side length: a run takes a quarter of the time."""

from dataclasses import replace

from arm import study

SEMASK = study("semask")
RECIPE = SEMASK.recipe
HALF = {
    "augmentation.scale": (240, 180),
    "augmentation.crop": (112, 144),
    "evaluation.scale": (240, 180),
    "training.evaluate_every": 500,
}
NAMES = ("plain", "semask", "prior-only", "attention-only", "normed", "layer-norm", "self-attention")

ARMS = {name: replace(SEMASK.arms[name], settings={**HALF, **SEMASK.arms[name].settings}) for name in NAMES}
"""Name -> arm."""
