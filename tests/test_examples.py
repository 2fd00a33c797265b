import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exported_files import described, write_onnx, write_openvino
from PIL import Image

from semask import Predictor
from semask.checkpoints.sources import load
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


@pytest.fixture
def looked(trained, scenes, tmp_path):
    """What the example for FiftyOne finds, its functions and its predictor."""
    functions = runpy.run_path(str(EXAMPLES / "fiftyone_predictions.py"))
    (tmp_path / "broken.png").write_bytes(b"no image")
    predictor = Predictor(load(trained))
    images = [str(scenes / "images" / "val"), str(tmp_path / "broken.png")]
    return list(functions["look"](predictor, images, tmp_path / "out")), functions, predictor


def test_files_for_fiftyone(looked, scenes, capsys):
    found, _, predictor = looked
    assert [x.image for x in found] == [path.resolve() for path in sorted((scenes / "images" / "val").iterdir())]
    for x in found:
        prediction = predictor(x.image)
        with Image.open(x.mask) as mask, Image.open(x.confidence) as confidence:
            assert np.array_equal(np.array(mask), prediction.label + 1)  # FiftyOne does not show 0
            assert np.abs(np.array(confidence) / 255 - prediction.confidence).max() < 0.01
        assert x.mean_confidence == pytest.approx(float(prediction.confidence.mean()))
        assert x.classes == [prediction.classes.names[k] for k in np.unique(prediction.label)]


def test_a_data_set_of_fiftyone(looked):
    """Needs FiftyOne and its database: was run with FiftyOne 1.22.1 and MongoDB 6.0.5."""
    pytest.importorskip("fiftyone")
    found, functions, predictor = looked
    dataset = functions["dataset_of"](found, predictor.classes, "test of semask")
    try:
        assert dataset.values("mean_confidence") == sorted(x.mean_confidence for x in found)
        assert dataset.default_mask_targets[1] == predictor.classes.names[0]
        by_path = {str(x.image): x for x in found}
        for sample in dataset:
            with Image.open(by_path[sample.filepath].mask) as mask:
                assert np.array_equal(sample.prediction.get_mask(), np.array(mask))
            assert [x.label for x in sample.classes.classifications] == by_path[sample.filepath].classes
    finally:
        dataset.delete()
