import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from semask import Inference, SeMask
from semask.builder import build
from semask.engines.check import LIMITS, Check, compare, measure
from semask.engines.description import metadata
from semask.engines.exported import Exported
from semask.engines.format import Engine
from semask.engines.runtime import Runtime

Change = Callable[[list[Tensor]], list[Tensor]]
K = 4
INFERENCE = Inference(scale=(64, 48))


def model(**settings) -> SeMask:
    return build(**{"encoder": "swin_nano", "num_classes": K, "channels": 32, **settings}).eval()


def masks() -> SeMask:
    return model(decoder="maskformer", queries=5, decoder_layers=1)


def unchanged(outputs: list[Tensor]) -> list[Tensor]:
    return outputs


def runtime_of(module: SeMask, change: Change = unchanged) -> Runtime:
    """An exported file that is the model itself, with its outputs changed in some way."""
    values = metadata(module, precision="fp32")

    def run(image: Tensor) -> list[Tensor]:
        prediction = module(image).prediction
        return change([prediction.classes, prediction.masks] if values["makes_masks"] else [prediction.logits])

    return Runtime(Exported(Engine(json.dumps(values), tuple(values["outputs"]), run, {}), values, Path("model.onnx")))


def images(*sizes: tuple[int, int]) -> list[Tensor]:
    return [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes or [(50, 70), (48, 64)]]


@pytest.mark.parametrize("make", [model, masks])
@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_a_model_is_its_own_equal(make, mode):
    module = make()
    inference = Inference(scale=(64, 48), mode=mode, crop=(40, 40), stride=(24, 24), ratios=(1.0, 2.0), flip=True)
    check = compare(module, runtime_of(module), images(), inference)
    assert (check.different, check.max_difference, check.mean_difference, check.largest_lead) == (0, 0, 0, 0)
    assert check.passes(0)


def test_one_image_is_seen_at_an_odd_size_too():
    module = model()
    check = compare(module, runtime_of(module), images(), INFERENCE)
    assert check.sizes == ((65, 65), (46, 64), (48, 64))
    assert check.pixels == 65 * 65 + 50 * 70 + 48 * 64


def test_differences_of_scores_are_exact():
    module = model()

    def change(outputs: list[Tensor]) -> list[Tensor]:
        offset = torch.zeros(K)
        offset[2] = 0.25
        return [outputs[0] + offset[:, None, None]]

    check = compare(module, runtime_of(module, change), images(), INFERENCE)
    assert check.max_difference == pytest.approx(0.25, rel=1e-4)
    assert check.mean_difference == pytest.approx(0.25 / K, rel=1e-4)


def test_labels_that_differ_are_counted():
    module = model()
    all_differ = compare(module, runtime_of(module, lambda x: [x[0].roll(1, dims=1)]), images(), INFERENCE)
    assert all_differ.different == all_differ.pixels
    assert all_differ.percent == 100
    assert all_differ.largest_lead > 0

    def upper_half(outputs: list[Tensor]) -> list[Tensor]:
        scores = outputs[0].clone()
        scores[:, :, : scores.shape[2] // 2] = scores[:, :, : scores.shape[2] // 2].roll(1, dims=1)
        return [scores]

    half = compare(module, runtime_of(module, upper_half), images(), INFERENCE)
    assert 40 < half.percent < 60
    assert not half.passes(40)
    assert half.passes(60)


def test_masks_are_compared_by_what_they_say_of_classes():
    """The order of the masks means nothing, their classes do."""
    module = masks()
    reordered = compare(module, runtime_of(module, lambda x: [y.flip(1) for y in x]), images(), INFERENCE)
    assert reordered.max_difference < 1e-5
    assert reordered.different == 0
    other = compare(module, runtime_of(module, lambda x: [x[0].roll(1, dims=-1), x[1]]), images(), INFERENCE)
    assert other.max_difference > 1e-3


def test_near_ties_are_told_from_errors():
    module = model()
    noise = compare(module, runtime_of(module, lambda x: [x[0] + 1e-3 * torch.randn_like(x[0])]), images(), INFERENCE)
    assert 0 < noise.largest_lead < 1e-3
    error = compare(module, runtime_of(module, lambda x: [-x[0]]), images(), INFERENCE)
    assert error.largest_lead > 10 * noise.largest_lead


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_scores_that_are_no_numbers_never_pass(value):
    module = model()

    def change(outputs: list[Tensor]) -> list[Tensor]:
        outputs[0][0, 0, 0, 0] = value
        return outputs

    check = compare(module, runtime_of(module, change), images(), INFERENCE)
    assert not check.passes(100)


def test_limits():
    assert LIMITS == {"fp32": 0.1, "fp16": 0.5, "bf16": 0.5, "int8": 2.0}
    check = Check(sizes=((1, 1000),), pixels=1000, different=1, max_difference=1, mean_difference=0.1, largest_lead=0.5)
    assert check.passes(0.1)
    assert not check.passes(0.09)


def test_latency_is_that_of_both():
    module = model()
    calls: list[int] = []
    latency = measure(module, runtime_of(module, lambda x: calls.append(1) or x), torch.randn(1, 3, 32, 64))
    assert latency.size == (32, 64)
    assert latency.model > 0
    assert latency.exported > 0
    assert len(calls) == 6
