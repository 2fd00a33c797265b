from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.transforms.functional import to_pil_image

from semask import Inference, Prediction, Predictor, SeMask
from semask.builder import build
from semask.prediction.inputs import starts
from semask.prediction.pictures import to_picture
from semask.prediction.predictor import look, slide, to_tensor
from semask.prediction.score_maps import View, probabilities
from semask.settings.inference import inference_of


@pytest.fixture(scope="module")
def model() -> SeMask:
    """A model that sees several classes in noise."""
    torch.manual_seed(0)
    module = build("swin_nano", num_classes=4, channels=8, semantic_window=(7, 7, None, None)).eval()
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
        np.testing.assert_allclose(prediction.confidence, reference.confidence, rtol=1e-4, atol=1e-5)
        for prior, expected in zip(prediction.priors, reference.priors, strict=True):
            np.testing.assert_array_equal(prior, expected)
    plain = predictor(array, confidence=False)
    assert (plain.priors, plain.confidence) == ((), None)
    assert np.array_equal(plain.label, reference.label)
    assert reference.classes.names == ("class 0", "class 1", "class 2", "class 3")


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_floats_of_any_kind(model, dtype):
    array = photo() / 255
    expected = Predictor(model)(array.astype(dtype).astype(np.float32)).label
    np.testing.assert_array_equal(Predictor(model)(array.astype(dtype)).label, expected)


def assert_same(found: list[Prediction], expected: list[Prediction]) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.label, other.label)
        np.testing.assert_allclose(one.confidence, other.confidence, rtol=1e-4, atol=1e-5)
        for prior, its in zip(one.priors, other.priors, strict=True):
            np.testing.assert_array_equal(prior, its)


@pytest.mark.parametrize(
    "inference",
    [Inference(), Inference(ratios=(0.5, 1.0), flip=True), Inference(mode="slide", crop=(32, 32), stride=(20, 20))],
    ids=["whole", "views", "slide"],
)
def test_several_images_are_predicted_as_one_by_one(model, tmp_path, inference):
    rng = np.random.default_rng(1)
    sizes = [(45, 62), (62, 45), (45, 62), (45, 62), (30, 30), (45, 62), (62, 45), (45, 62)]
    arrays = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    Image.fromarray(arrays[1]).save(tmp_path / "1.png")
    mixed = [arrays[0], tmp_path / "1.png", torch.from_numpy(arrays[2]).permute(2, 0, 1), Image.fromarray(arrays[3])]
    mixed += [arrays[4], str(tmp_path / "1.png"), arrays[6].astype(np.float32) / 255, arrays[7]]
    predictor = Predictor(model, inference)
    expected = [predictor(image, priors=True) for image in mixed]
    assert len({prediction.confidence.tobytes() for prediction in expected}) == 7  # one image is there twice
    for several in (mixed, tuple(mixed), iter(mixed)):
        assert_same(predictor(several, priors=True), expected)
    alike = [array for array in arrays if array.shape == (45, 62, 3)]
    expected = [predictor(image) for image in alike]
    batch = np.stack(alike)
    for several in (batch, torch.from_numpy(batch).permute(0, 3, 1, 2)):
        assert_same(predictor(several), expected)
    shares = batch.astype(np.float32) / 255
    assert_same(predictor(shares), [predictor(image) for image in shares])
    assert [x.confidence for x in predictor(alike, confidence=False)] == [None] * len(alike)
    for nothing in ([], batch[:0], iter(())):
        assert predictor(nothing) == []


@pytest.mark.parametrize(("window_batch", "pixels", "expected"), [(4, 2**21, [4, 3, 1]), (4, 6000, [2, 2, 2, 1, 1])])
def test_images_of_one_size_go_through_the_model_together(model, monkeypatch, window_batch, pixels, expected):
    monkeypatch.setattr("semask.prediction.predictor.PIXELS_AT_ONCE", pixels)
    batches = []
    with model.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0]))):
        Predictor(model, Inference(window_batch=window_batch))([photo()] * 5 + [photo(30, 30)] + [photo()] * 2)
    assert batches == expected


def test_a_mask_decoder_predicts_several_images_as_one_by_one():
    torch.manual_seed(0)
    decoder = {"decoder": "mask2former", "channels": 32, "queries": 7, "decoder_layers": 2}
    model = build("swin_nano", num_classes=4, **decoder).eval()
    nn.init.normal_(model.decoder.class_predictor.weight)
    images = np.random.default_rng(2).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    expected = [Predictor(model)(image) for image in images]
    assert len({prediction.confidence.tobytes() for prediction in expected}) == 3
    assert_same(Predictor(model)(images), expected)


def test_grey_images(model, tmp_path):
    gray = photo(bands=1)[..., 0]
    Image.fromarray(gray).save(tmp_path / "gray.png")
    reference = Predictor(model)(np.stack([gray] * 3, axis=-1)).label
    for image in (gray, Image.fromarray(gray), tmp_path / "gray.png"):
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
    predictor = Predictor(build("swin_nano", num_classes=2, channels=8, **settings))
    assert predictor(photo(bands=bands)).label.shape == (45, 62)
    assert predictor(Image.fromarray(photo())).label.shape == (45, 62)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((5, 6, 4), np.uint8), r"image has shape \[4, 5, 6\] as \[C, H, W\], the model takes 3 channels"),
        (np.zeros((5, 6, 3, 1), np.uint8), r"image 0 of the list.*image has shape \[1, 6, 3\]"),
        (np.zeros((1, 5, 6, 3, 1), np.uint8), r"image array has shape \[1, 5, 6, 3, 1\]"),
        (np.zeros((3, 50, 60), np.uint8), r"is this \[C, H, W\]\? transpose it .* or give a tensor"),
        (np.zeros((2, 3, 50, 60), np.uint8), r"image 0 of the list.*is this \[C, H, W\]\?"),
        (torch.zeros(50, 60, 3), r"is this \[H, W, C\]\? give an array"),
        (np.array(0.5), r"image array has shape \[\]"),
        (torch.tensor(0.5), r"image has shape \[\]"),
        (np.zeros((5, 6, 3), bool), "values of type bool: give uint8, or float"),
        (torch.zeros(3, 5, 6, dtype=torch.bool), "values of type torch.bool"),
        (np.full((5, 6, 3), "x"), "values of type <U1"),
        (np.full((5, 6, 3), None), "values of type object"),
        (b"JFIF", "image is a bytes, not a path.*BytesIO"),
        (None, "image is a NoneType, not a path"),
        ({"image": 1}, "image is a dict, not a path"),
        ([[1, 2], [3, 4]], "image 0 of the list.*image is a list, not a path"),
        ([photo(), "no_such_photo.jpg"], "image 1 of the list.*no_such_photo.jpg: no such file"),
        (Image.fromarray(np.full((5, 6), 3000, np.uint16)), "image of mode I;16: give the path of its file"),
        (Path(__file__).parents[1], "tests: a folder: give its images"),
        (np.zeros((0, 6, 3), np.uint8), r"image has shape \[3, 0, 6\]"),
        (torch.zeros(5, 6), r"image has shape \[5, 6\]"),
        (np.zeros((5, 6, 3), np.int64), "values of type int64: give uint8, or float"),
        (np.full((5, 6, 3), 255.0), r"float values outside \[0, 1\]: divide"),
        (np.full((5, 6, 3), np.nan), r"float values outside \[0, 1\]"),
        ("no_such_photo.jpg", "no_such_photo.jpg: no such file"),
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


def test_what_was_asked_for_is_called_by_its_own_name():
    with pytest.raises(ValueError, match=r"^scale is \(100, 200\): give the long side, then the short side"):
        inference_of(Inference(), {"scale": (100, 200)})


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
def test_picture_of_an_image(bands):
    tensor = to_tensor(photo(bands=bands), channels=bands)
    picture = np.asarray(to_picture(tensor.permute(1, 2, 0).numpy()))
    shown = photo(bands=bands)[..., [0, 1, 2] if bands >= 3 else [0, 0, 0]]
    np.testing.assert_array_equal(picture, shown)


def test_picture_of_an_image_of_floats_is_torchvisions():
    image = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
    np.testing.assert_array_equal(
        np.asarray(to_picture(image.permute(1, 2, 0).numpy())), np.asarray(to_pil_image(image))
    )


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_nan_and_infinite_scores_are_refused(wrong):
    model = build("swin_nano", num_classes=3, channels=8)
    model.decoder.classifier.bias.data[1] = wrong
    with pytest.raises(ValueError, match="NaN or infinite"):
        Predictor(model)(np.zeros((32, 48, 3), np.uint8))
