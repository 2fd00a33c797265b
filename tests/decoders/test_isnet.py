import pytest
import torch

from semask import load, save
from semask.builder import build
from semask.decoders.isnet import ContextAttention, ImageLevelContext, ISNet, SemanticLevelContext, class_averages
from semask.losses.pixel import PixelLoss

CHANNELS, STRIDES = (4, 6, 8, 10), (4, 8, 16, 32)


def maps(height: int, width: int, *, images: int = 2, levels: int = 4) -> list[torch.Tensor]:
    return [
        torch.randn(images, channels, -(-height // stride), -(-width // stride))
        for channels, stride in list(zip(CHANNELS, STRIDES, strict=True))[-levels:]
    ]


def literal_averages(x: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    """Class by class, image by image."""
    result = torch.zeros_like(x)
    for image, score, averages in zip(x, scores, result, strict=True):
        for k in range(len(score)):
            own = score.argmax(0) == k  # [h, w]
            if own.any():
                averages[:, own] = (image[:, own] * score[k][own].softmax(0)).sum(1, keepdim=True)
    return result


def test_class_averages():
    x, scores = torch.randn(2, 6, 5, 7), torch.randn(2, 4, 5, 7)
    scores[0, 2] -= 100  # a class without a cell
    torch.testing.assert_close(class_averages(x, scores), literal_averages(x, scores))


def test_even_scores_give_the_mean_of_each_class():
    x = torch.randn(1, 6, 4, 6)
    left = torch.zeros(1, 2, 4, 6)
    left[:, 0, :, :2] = left[:, 1, :, 2:] = 1
    averages = class_averages(x, left)
    for columns in (slice(0, 2), slice(2, 6)):
        own = x[..., columns]
        torch.testing.assert_close(averages[..., columns], own.mean((2, 3), keepdim=True).expand_as(own))


def test_gradients_of_the_averages_are_finite():
    x, scores = torch.randn(1, 6, 3, 4, requires_grad=True), torch.zeros(1, 9, 3, 4, requires_grad=True)
    class_averages(x, scores).square().sum().backward()
    assert x.grad.isfinite().all()
    assert scores.grad.isfinite().all()


def test_attention_is_a_softmax_of_products():
    attention, x, context = ContextAttention(6, 8).eval(), torch.randn(2, 6, 4, 5), torch.randn(2, 8, 3, 2)
    query, key, value = (
        part(y).flatten(2) for part, y in ((attention.query, x), (attention.key, context), (attention.value, context))
    )
    weights = (query.mT @ key / 3**0.5).softmax(-1)  # [B, 20, 6], 3 being half the channels
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 20))
    expected = attention.output((value @ weights.mT).reshape(2, 3, 4, 5))
    torch.testing.assert_close(attention(x, context), expected)


def seen_by_attention(module: ImageLevelContext | SemanticLevelContext, *arguments: torch.Tensor) -> torch.Tensor:
    """What is attended to."""
    seen: list[torch.Tensor] = []
    module.attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    module(*arguments)
    return seen[0]


def test_the_image_level_shows_each_cell_beside_the_average():
    x = torch.randn(2, 6, 5, 7)
    average, cells = seen_by_attention(ImageLevelContext(6), x).chunk(2, dim=1)
    assert cells.equal(x)
    torch.testing.assert_close(average, x.mean((2, 3), keepdim=True).expand_as(x))


def test_the_semantic_level_shows_the_averages_of_the_classes():
    x, scores = torch.randn(2, 6, 5, 7), torch.randn(2, 4, 5, 7)
    seen = seen_by_attention(SemanticLevelContext(6), x, scores, torch.randn_like(x))
    torch.testing.assert_close(seen, literal_averages(x, scores))


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_shapes(levels):
    decoder = ISNet(CHANNELS[-levels:], STRIDES[-levels:], num_classes=5, channels=8)
    features = maps(70, 90, levels=levels)
    output = decoder(features)
    assert output.logits.shape == (2, 5, *features[0].shape[-2:])
    coarse = features[1] if levels == 4 else features[0]  # stride 8, or the finest there is
    assert [x.shape for x in output.auxiliary] == [(2, 5, *coarse.shape[-2:])]
    assert decoder.eval()(features).auxiliary == ()


def test_a_single_cell_can_not_be_trained_on():
    with pytest.raises(ValueError, match="coarsest map of the batch is a single location"):
        ISNet(CHANNELS, STRIDES, num_classes=5, channels=8)(maps(32, 32, images=1))


def test_trains_and_is_saved(tmp_path):
    image, label = torch.randn(1, 3, 70, 90), torch.randint(0, 5, (1, 70, 90))
    model = build("swin_nano", "isnet", num_classes=5, channels=32).train()
    PixelLoss()(model(image), label).total.backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.decoder.parameters())
    loaded = load(save(tmp_path / "model.safetensors", model, {}))
    assert loaded(image).logits.equal(model.eval()(image).logits)


def test_half_precision():
    decoder = ISNet(CHANNELS, STRIDES, num_classes=5, channels=8)
    with torch.autocast("cpu", torch.bfloat16):
        output = decoder(maps(70, 90))
    assert output.logits.dtype == torch.bfloat16
    assert all(x.isfinite().all() for x in (output.logits, *output.auxiliary))
