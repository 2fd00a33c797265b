"""The explanation of small models equals a slow plain computation."""

import math

import numpy as np
import pytest
import torch
from small_models import small
from torch.utils.flop_counter import FlopCounterMode

from semask import Inference, Predictor, build
from semask.acceleration.accelerate import plain
from semask.cost import flops, flops_until
from semask.data.normalization import Normalization
from semask.explain.compute import semantic_layers
from semask.explain.explanation import distinct_classes, first_agreeing, first_settled
from semask.semantic.layer import SemanticLayer
from semask.semantic.windows import pad_image


def photo(height: int = 70, width: int = 90) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 9 + k) + np.cos(y / (5 + k)) for k in range(3)]
    return ((np.stack(waves, -1) + 2) * 63).astype(np.uint8)


def plain_steps(model, image):
    """Map before and after each semantic layer of the plain model, [h, w, C], and the layer."""
    x = Normalization()(torch.from_numpy(image).permute(2, 0, 1))[None]
    steps = []
    with plain(model), torch.no_grad():
        backbone = model.encoder.backbone
        state = backbone.stem(pad_image(x, model.size_divisor))
        for i, stage in enumerate(backbone.stages):
            state = stage(state)
            before = backbone.read(state, i)
            layer = model.encoder.semantic_layers[i]
            after = layer(before)[0] if isinstance(layer, SemanticLayer) else before
            state = backbone.write(state, after, i)
            steps.append((layer, before[0], after[0]))
    return steps


def slow_attention(layer, x, row, column):
    """Weights of a location by loops; a padded token's query and key are the biases."""
    h, w, _ = x.shape
    side = layer.window
    rows = range(h) if side is None else range(row // side * side, row // side * side + side)
    columns = range(w) if side is None else range(column // side * side, column // side * side + side)
    (attention,) = layer.attentions
    with torch.no_grad():
        query = attention.semantic_query(layer.norm(x[row, column]))
        weights = {}
        for r in rows:
            for c in columns:
                token = layer.norm(x[r, c]) if r < h and c < w else torch.zeros_like(x[0, 0])
                weights[r, c] = math.exp(float(query @ attention.semantic_key(token)))
    total = sum(weights.values())
    found = np.zeros((h, w))
    for (r, c), weight in weights.items():
        if r < h and c < w:
            found[r, c] = weight / total
    return found


def slow_prior(model, image, stage):
    """Class and confidence of a stage's prior at each pixel: resized, then the softmax of each pixel by itself."""
    height, width, divisor = *image.shape[:2], model.size_divisor
    padded = tuple(-(-x // divisor) * divisor for x in (height, width))
    with plain(model), torch.no_grad():
        prior = model(Normalization()(torch.from_numpy(image).permute(2, 0, 1))[None]).priors[stage]
    scores = torch.nn.functional.interpolate(prior.double(), padded, mode="bilinear")[0].numpy()
    label, confidence = np.zeros((height, width), int), np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            shares = [math.exp(score) for score in scores[:, y, x]]
            label[y, x] = int(np.argmax(shares))
            confidence[y, x] = max(shares) / sum(shares)
    return label, confidence


@pytest.mark.parametrize("decoder", ["fpn", "mask2former"])
def test_explanation_is_that_of_loops_over_the_plain_model(decoder):
    model, image = small(decoder), photo()
    predictor = Predictor(model)
    found = predictor.explain(image)
    expected = predictor(image, priors=True)
    assert np.array_equal(found.prediction.label, expected.label)
    assert np.allclose(found.prediction.confidence, expected.confidence)
    assert [stage.stage for stage in found.stages] == [1, 2, 3, 4]
    for stage, prior, (layer, before, after) in zip(
        found.stages, expected.priors, plain_steps(model, image), strict=True
    ):
        label, sure = slow_prior(model, image, stage.stage - 1)
        assert np.allclose(stage.confidence, sure, atol=1e-4)
        assert np.array_equal(stage.label, prior)
        assert (stage.label == label).mean() > 0.999  # but for ties
        assert stage.agreement == (prior == expected.label).mean()
        start = layer.norm(before)
        change = ((after - start).norm(dim=-1) / start.norm(dim=-1)).detach().numpy()
        assert np.allclose(stage.change, change, rtol=1e-3, atol=1e-6)
        assert stage.scales == pytest.approx([layer.attentions[0].scale.item()])
        h, w = change.shape
        for location in [(0, 0), (69, 89), (37, 50)]:
            padded = [-(-x // model.size_divisor) * model.size_divisor for x in (70, 90)]
            row, column = (int((x + 0.5) * n / p) for x, n, p in zip(location, (h, w), padded, strict=True))
            slow = slow_attention(layer, before, min(row, h - 1), min(column, w - 1))
            weights = found.attention_of(stage.stage, location)
            assert np.allclose(weights, slow, atol=1e-5)
            assert weights.sum() <= 1 + 1e-5
            assert layer.window is not None or weights.sum() == pytest.approx(1)


def test_where_and_when_stages_agree_is_that_of_loops():
    rng = np.random.default_rng(0)
    final, *labels = rng.integers(0, 3, (5, 8, 9)).astype(np.uint8)
    settled, distinct = first_settled(labels, final), distinct_classes(labels, final.shape)
    early = first_agreeing(labels, final)
    for y in range(8):
        for x in range(9):
            values = [label[y, x] for label in labels]
            first = 4
            while first > 0 and values[first - 1] == final[y, x]:
                first -= 1
            assert settled[y, x] == first
            assert early[y, x] == next((i for i in range(4) if values[i] == final[y, x]), 4)
            assert distinct[y, x] == len(set(values))
    assert settled.dtype == distinct.dtype == np.uint8


def test_the_model_is_left_as_it_was_and_explained_in_one_pass():
    model = small()
    predictor = Predictor(model, Inference(ratios=(1.0, 0.5), flip=True, mode="slide"))
    passes = []
    handle = model.register_forward_hook(lambda _, inputs, __: passes.append(inputs[0].device.type))
    predictor.explain(photo())
    handle.remove()
    assert passes.count("cpu") == 1  # another one on the meta device counts FLOPs
    assert all(not module._forward_hooks for module in model.modules())
    assert predictor.inference.flip


def test_an_early_exit_costs_a_part():
    model = small()
    found = Predictor(model).explain(photo())
    costs = [stage.flops for stage in found.stages]
    assert costs == sorted(costs)
    assert 0 < costs[0] < costs[-1] < found.flops
    with plain(model):
        assert found.flops == flops(model, (70, 90))
        assert costs == flops_until(model, (70, 90))
        with FlopCounterMode(display=False) as counter, torch.no_grad():  # of a real pass, module by module
            model(torch.zeros(1, 3, 70, 90))
    counted = {name: sum(x.values()) for name, x in counter.get_flop_counts().items()}
    own = "SeMask.encoder"
    for k, cost in enumerate(costs):
        stages = sum(counted[f"{own}.backbone.stages.{i}"] for i in range(k + 1))
        layers = sum(counted[f"{own}.semantic_layers.{i}"] for i in range(k + 1))
        assert cost == counted[f"{own}.backbone.stem"] + stages + layers


def test_stages_without_semantic_layer_have_no_prior():
    model = build(
        "swin_nano", num_classes=4, channels=8, semantic_window=(4, 4, None, None), semantic_depths=(0, 1, 0, 2)
    )
    with torch.no_grad():
        model.encoder.semantic_layers[3].attentions[0].scale.fill_(0.7)
    found = Predictor(model).explain(photo())
    assert [stage.stage for stage in found.stages] == [2, 4]
    assert found.settled.max() <= 2
    assert [len(stage.scales) for stage in found.stages] == [1, 2]
    with pytest.raises(ValueError, match=r"stage 1 has no semantic layer: choose one of 2, 4$"):
        found.attention_of(1, (0, 0))
    with pytest.raises(ValueError, match=r"location \(70, 0\) is outside of the image"):
        found.attention_of(2, (70, 0))
    layer, before, _ = plain_steps(model, photo())[3]
    with torch.no_grad():  # of two blocks the last one's query is the prior
        tokens = layer.cut(layer.norm(before[None]))
        tokens = tokens + layer.attentions[0](tokens)[1]
        query = layer.attentions[1].semantic_query(tokens)[0]
    assert np.allclose(found.stages[1].attention.query.reshape(-1, 4), query, atol=1e-5)


def test_residual_input_is_compared_with_the_input_itself():
    model = build("swin_nano", num_classes=4, channels=8, residual="input")
    found = Predictor(model).explain(photo())
    assert all(np.array_equal(stage.change, np.zeros_like(stage.change)) for stage in found.stages)  # scale is 0


def test_a_model_without_semantic_layers_has_a_prediction_and_no_stages(tmp_path):
    predictor = Predictor(build("swin_nano", num_classes=4, channels=8, semantic_depths=0))
    found, expected = predictor.explain(photo()), predictor(photo())
    assert np.array_equal(found.prediction.label, expected.label)
    assert found.stages == found.prediction.priors == ()
    assert not any(x.any() for x in (found.first, found.settled, found.disagreement))
    assert found.to_dict()["settled_in_decoder"] == found.to_dict()["first_in_decoder"] == 1
    names = ["image.html", "image.json", "image_confidence.png", "image_prediction.png"]
    assert sorted(path.name for path in found.save(tmp_path)) == names
    with pytest.raises(ValueError, match=r"^stage 1 has no semantic layer: no stage of this model has one$"):
        found.attention_of(1, (0, 0))


def test_priors_with_classes_of_their_own_are_refused():
    with pytest.raises(ValueError, match="priors have 3 classes and the model 4"):
        Predictor(build("swin_nano", num_classes=4, prior_classes=3, channels=8)).explain(photo())


def test_an_exported_file_is_refused():
    with pytest.raises(ValueError, match=r"^an exported file gives no priors: explain the checkpoint"):
        semantic_layers(object())


@pytest.mark.parametrize("size", [(1, 1), (3, 200)])
def test_images_of_any_size(size):
    found = Predictor(small()).explain(photo(*size))
    assert found.settled.shape == size
    assert "<canvas" in found.page()
    for stage in found.stages:
        assert 0 < found.attention_of(stage.stage, (size[0] - 1, size[1] - 1)).sum() <= 1 + 1e-6


def test_numbers_leave_out_what_pads_the_image():
    model = small("mask2former")
    assert model.size_divisor == 32
    found = Predictor(model).explain(photo(40, 72))  # padded to 64 x 96
    for stage, side in zip(found.stages, (4, 8, 16, 32), strict=True):
        assert stage.change.shape == (64 // side, 96 // side)
        kept = stage.change[: -(-40 // side), : -(-72 // side)]
        assert stage.attention.on_image(stage.change).shape == kept.shape
        assert found.to_dict()["stages"][stage.stage - 1]["change"]["mean"] == pytest.approx(kept.mean())
