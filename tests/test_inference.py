from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from semask import Inference, Predictor, SeMask
from semask.inference import look, slide, starts, to_image, to_tensor
from semask.views import View, probabilities


@pytest.fixture(scope="module")
def model() -> SeMask:
    """A model that sees several classes in noise."""
    torch.manual_seed(0)
    module = SeMask(encoder="swin_nano", num_classes=4, channels=8, semantic_window=(7, 7, None, None)).eval()
    nn.init.normal_(module.decoder.classifier.weight, std=3)
    for layer in module.encoder.semantic_layers:
        nn.init.normal_(layer.attentions[0].semantic_query.weight)
    return module


def photo(height: int = 45, width: int = 62, bands: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, bands), dtype=np.uint8)


def test_windows_cover_the_axis():
    rng = np.random.default_rng(0)
    for length, crop, stride in rng.integers(1, 60, (300, 3)).tolist():
        crop, stride = min(crop, length), min(stride, crop, length)
        firsts = starts(length, crop, stride)
        assert firsts == sorted(set(firsts))
        assert {i for first in firsts for i in range(first, first + crop)} == set(range(length))
        assert all(b - a <= stride for a, b in pairwise(firsts))


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("window_batch", [1, 3, 100])
def test_slide_averages_windows(batch, window_batch):
    image = torch.randn(batch, 3, 23, 31)
    inference = Inference(mode="slide", crop=(10, 12), stride=(7, 5), window_batch=window_batch)
    passes = []

    def run(x: Tensor) -> list[View]:
        passes.append(x.shape)
        return [View(y, (10, 12), (10, 12)) for y in (x.mean((2, 3), keepdim=True).expand_as(x), x[:, :1])]

    means, same = (view.scores for view in slide(run, image, inference))
    torch.testing.assert_close(same, image[:, :1])
    total, count = torch.zeros_like(image), torch.zeros(23, 31)
    for y in (0, 7, 13):
        for x in (0, 5, 10, 15, 19):
            area = (..., slice(y, y + 10), slice(x, x + 12))
            total[area] += image[area].mean((2, 3), keepdim=True)
            count[area] += 1
    torch.testing.assert_close(means, total / count)
    assert sum(shape[0] for shape in passes) == 15 * batch
    assert {tuple(shape[1:]) for shape in passes} == {(3, 10, 12)}
    assert max(shape[0] for shape in passes) <= window_batch * batch


def test_slide_with_a_crop_that_covers_the_image_is_whole(model):
    image = torch.randn(1, 3, 45, 62)
    with torch.no_grad():
        whole = look(model, image, Inference(), priors=True)
        slid = look(model, image, Inference(mode="slide", crop=(64, 64), stride=(40, 40)), priors=True)
    assert len(whole) == len(slid) == 5
    for a, b in zip(whole, slid, strict=True):
        torch.testing.assert_close(probabilities([a], (90, 124)), probabilities([b], (90, 124)))


def test_every_source_gives_the_same(model, tmp_path):
    array = photo()
    Image.fromarray(array).save(tmp_path / "photo.png")
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    predictor = Predictor(model)
    reference = predictor(array, priors=True)
    assert reference.label.shape == reference.confidence.shape == (45, 62)
    assert reference.label.dtype == np.uint8
    assert len(np.unique(reference.label)) > 1
    assert 0.25 <= reference.confidence.min() <= reference.confidence.max() <= 1
    assert len(reference.priors) == 4
    path = tmp_path / "photo.png"
    for image in (path, str(path), Image.fromarray(array), tensor, tensor / 255, array.astype(np.float32) / 255):
        prediction = predictor(image, priors=True)
        np.testing.assert_array_equal(prediction.label, reference.label)
        np.testing.assert_allclose(prediction.confidence, reference.confidence, atol=1e-5)
        for prior, expected in zip(prediction.priors, reference.priors, strict=True):
            np.testing.assert_array_equal(prior, expected)
    plain = predictor(array, confidence=False)
    assert (plain.priors, plain.confidence) == ((), None)
    assert np.array_equal(plain.label, reference.label)
    assert reference.classes.names == ("class 0", "class 1", "class 2", "class 3")


def test_grey_images(model, tmp_path):
    grey = photo(bands=1)[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    reference = Predictor(model)(np.stack([grey] * 3, axis=-1)).label
    for image in (grey, Image.fromarray(grey), tmp_path / "grey.png"):
        np.testing.assert_array_equal(Predictor(model)(image).label, reference)


def test_a_rotated_photo_gives_a_mask_of_the_displayed_size(model, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo()).save(tmp_path / "photo.jpg", exif=exif)
    prediction = Predictor(model)(tmp_path / "photo.jpg")
    assert prediction.label.shape == (62, 45)
    with Image.open(tmp_path / "photo.jpg") as stored:
        upright = ImageOps.exif_transpose(stored)
    np.testing.assert_array_equal(prediction.label, Predictor(model)(upright).label)


@pytest.mark.parametrize("mode", ["whole", "slide"])
def test_flip_makes_the_prediction_symmetric(model, mode):
    array = photo()
    symmetric = Predictor(model, Inference(mode=mode, crop=(32, 32), stride=(20, 20), flip=True))
    a, b = symmetric(array), symmetric(array[:, ::-1])
    np.testing.assert_allclose(a.confidence, b.confidence[:, ::-1], atol=1e-5)
    assert (a.label == b.label[:, ::-1]).mean() > 0.999  # but for ties
    plain = Predictor(model, Inference(mode=mode, crop=(32, 32), stride=(20, 20)))
    assert not np.allclose(plain(array).confidence, plain(array[:, ::-1]).confidence[:, ::-1], atol=1e-3)


def test_scales_and_flips(model):
    inference = Inference(scale=(100, 50), ratios=(0.5, 1.0), flip=True)
    predictor, image = Predictor(model, inference), torch.from_numpy(photo()).permute(2, 0, 1)
    (seen,) = predictor.views(image)
    assert [view.size for view in seen] == [(25, 34)] * 2 + [(50, 69)] * 2
    assert predictor(image).label.shape == (45, 62)
    best = probabilities(seen, (45, 62)).max(1)
    np.testing.assert_array_equal(predictor(image).label, best.indices[0])


@pytest.mark.parametrize("scale", [(40, 20), (62, 45), (200, 100)], ids=["smaller", "same", "larger"])
def test_antialias_resizes_as_pil_does(model, scale):
    array = photo()
    normalization, ((seen, _),) = resized(model, array, Inference(scale=scale, antialias=True))
    size = (seen.shape[-1], seen.shape[-2])
    expected = torch.from_numpy(np.array(Image.fromarray(array).resize(size, Image.Resampling.BILINEAR)))
    grey_level = 1 / 255 / min(normalization.std)
    torch.testing.assert_close(seen[0], normalization(expected.permute(2, 0, 1)), atol=1.001 * grey_level, rtol=0)
    _, ((plain, _),) = resized(model, array, Inference(scale=scale))
    assert ((plain - seen).abs().max() > 10 * grey_level) == (scale == (40, 20))  # it matters for smaller images only


def resized(model: SeMask, array: np.ndarray, inference: Inference):
    predictor = Predictor(model, inference)
    return predictor.normalization, list(predictor._inputs(torch.from_numpy(array).permute(2, 0, 1)))


def test_settings_of_the_recipe(model):
    assert Predictor(model).inference == Inference()
    model.metadata = {"recipe": {"evaluation": {"scale": [128, 64], "mode": "slide", "ratios": [1.0, 1.5]}}}
    try:
        assert Predictor(model).inference == Inference(scale=(128, 64), mode="slide", ratios=(1.0, 1.5))
        assert Predictor(model, Inference(flip=True)).inference == Inference(flip=True)
    finally:
        model.metadata = {}


def test_prediction_is_in_evaluation_mode(model):
    model.train()
    first, second = Predictor(model)(photo()), Predictor(model)(photo())
    np.testing.assert_array_equal(first.confidence, second.confidence)
    assert not model.training


@pytest.mark.parametrize("bands", [1, 4])
def test_other_bands(bands):
    settings = {"mean": [0.5] * bands, "std": [0.2] * bands, "in_channels": bands}
    predictor = Predictor(SeMask(encoder="swin_nano", num_classes=2, channels=8, **settings))
    assert predictor(photo(bands=bands)).label.shape == (45, 62)
    assert predictor(Image.fromarray(photo())).label.shape == (45, 62)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((5, 6, 4), np.uint8), r"image has shape \[4, 5, 6\] as \[C, H, W\], the model takes 3 bands"),
        (np.zeros((5, 6, 3, 1), np.uint8), r"image array has shape \[5, 6, 3, 1\]"),
        (np.zeros((0, 6, 3), np.uint8), r"image has shape \[3, 0, 6\]"),
        (torch.zeros(5, 6), r"image has shape \[5, 6\]"),
        (np.zeros((5, 6, 3), np.int64), "values of type torch.int64: give uint8, or float"),
        (np.full((5, 6, 3), 255.0), r"float values outside \[0, 1\]: divide"),
        (np.full((5, 6, 3), np.nan), r"float values outside \[0, 1\]"),
        ("no_such_photo.jpg", "no_such_photo.jpg: cannot be opened"),
    ],
)
def test_images_that_are_refused(model, image, message):
    with pytest.raises(ValueError, match=message):
        Predictor(model)(image)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "tiles"}, "evaluation.mode is 'tiles': give one of whole, slide"),
        ({"scale": (100, 200)}, "give the long side, then the short side"),
        ({"crop": (0, 5)}, "whole number from 1 to"),
        ({"window_batch": 0}, "whole number from 1 to 256"),
        ({"crop": (64, 64), "stride": (65, 64)}, "larger than crop"),
        ({"ratios": ()}, "evaluation.ratios is"),
        ({"ratios": (1.0, 0.0)}, "evaluation.ratios is"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(ValueError, match=message):
        Inference(**settings)


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_picture_of_an_image(bands):
    tensor = to_tensor(photo(bands=bands), channels=bands)
    picture = np.asarray(to_image(tensor))
    shown = photo(bands=bands)[..., [0, 1, 2] if bands >= 3 else [0, 0, 0]]
    np.testing.assert_array_equal(picture, shown)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_are_refused(wrong):
    model = SeMask(encoder="swin_nano", num_classes=3, channels=8)
    model.decoder.classifier.bias.data[1] = wrong
    with pytest.raises(ValueError, match="no numbers"):
        Predictor(model)(np.zeros((32, 48, 3), np.uint8))
