import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import semask

PUBLIC = [
    "Augmentation",
    "Backbone",
    "Callback",
    "Classes",
    "Client",
    "Comparison",
    "ConfusionMatrix",
    "Data",
    "Decoder",
    "Evaluation",
    "Explanation",
    "Inference",
    "MaskDecoder",
    "MaskLoss",
    "ModelSettings",
    "Outputs",
    "PixelLoss",
    "Prediction",
    "Predictor",
    "Progress",
    "Result",
    "SeMask",
    "SegmentationDataset",
    "SemanticAttention",
    "SemanticEncoder",
    "SemanticLayer",
    "StopTraining",
    "Training",
    "accelerate",
    "attach",
    "build",
    "compare",
    "convert",
    "evaluate",
    "export",
    "from_pretrained",
    "info",
    "load",
    "load_exported",
    "load_pretrained",
    "open_predictor",
    "predict",
    "predict_images",
    "push_to_hub",
    "report",
    "save",
    "save_pretrained",
    "train",
]


def test_public_names():
    assert sorted(semask.__all__) == sorted(["__version__", *PUBLIC])
    assert all(getattr(semask, name).__doc__ for name in PUBLIC)


def test_type_checkers_see_the_names_that_are_loaded():
    """The imports for type checkers and the table of homes say the same."""
    tree = ast.parse(Path(semask.__file__).read_text(encoding="utf-8"))
    checked = {
        f"{node.module}.{alias.name}": alias.asname
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert checked == {f"{home}.{name}": name for name, home in semask._HOMES.items()}


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'segment': its names are Augmentation"):
        semask.segment  # noqa: B018


def test_import_loads_nothing():
    code = "import json, sys, semask; print(json.dumps([name.split('.')[0] for name in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"accelerate", "numpy", "PIL", "rich", "tensorboard", "timm", "torch", "torchvision", "yaml"}
    assert not heavy & set(json.loads(result.stdout))
