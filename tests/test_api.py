import json
import subprocess
import sys

import semask

PUBLIC = [
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


def test_public_names():
    assert semask.__all__ == PUBLIC
    assert all(getattr(semask, name).__doc__ for name in PUBLIC)


def test_import_brings_nothing_heavy_that_prediction_does_not_need():
    code = "import json, sys, semask; print(json.dumps([name.split('.')[0] for name in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"accelerate", "tensorboard", "timm"} & set(json.loads(result.stdout))
