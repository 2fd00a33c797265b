import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_files import described, write_onnx, write_openvino
from PIL import Image

from semask import Predictor
from semask.engines.runtime import load_exported

EXAMPLES = Path(__file__).parents[1] / "examples"
EXAMPLE = {"onnx": ("model.onnx", write_onnx), "openvino": ("model.xml", write_openvino)}
WITHOUT_TORCH = "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"


def photo(path: Path, width: int, height: int) -> Path:
    """A picture that changes slowly, so that few pixels lie where classes meet."""
    noise = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path


@pytest.mark.parametrize("engine", EXAMPLE)
@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize(
    "evaluation",
    [{}, {"scale": [128, 64]}, {"scale": [60, 50]}, {"scale": [60, 50], "antialias": True}],
    ids=["own size", "larger", "smaller", "smaller and smooth"],
)
def test_the_example_without_torch_predicts_the_same(tmp_path, masks, evaluation, engine):
    description = described(masks=masks, recipe={"data": {}, "evaluation": evaluation})
    name, write = EXAMPLE[engine]
    model = write(tmp_path / name, description, masks=masks)
    image = photo(tmp_path / "photo.png", 100, 76)
    command = [
        sys.executable,
        "-c",
        WITHOUT_TORCH,
        EXAMPLES / f"{engine}_without_torch.py",
        model,
        image,
        tmp_path / "mask.png",
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    prediction = Predictor(load_exported(model))(image)
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.mode == "P"
        label = np.array(mask)
        colors = np.array(mask.convert("RGB"))
    assert label.shape == prediction.label.shape
    assert (label == prediction.label).mean() > 0.99
    assert np.array_equal(colors, np.array(prediction.classes.palette, np.uint8)[label])
    assert output.strip() == ", ".join(prediction.classes.names[k] for k in np.unique(label))
    assert torch.from_numpy(label).unique().numel() > 1
