import colorsys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from semask.data.normalization import Normalization
from semask.data.rare import RareClasses
from semask.data.sizes import fitted_size
from semask.data.transform_steps import (
    Blur,
    Jpeg,
    Noise,
    Normalize,
    PadTo,
    PhotometricDistortion,
    RandomCrop,
    RandomResize,
    Rotate,
)
from semask.data.transforms import Augmentation, training_transform

PLAIN = Normalization(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
STILL = {"scale": None, "scale_range": (1.0, 1.0), "flip": 0.0, "photometric": False, "largest_class": 1.0}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def sample(height: int, width: int, *, classes: int = 5) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Image whose first channel repeats the label, so that both can be compared after any geometry."""
    blocks = torch.randint(classes, (height // 8 + 1, width // 8 + 1), dtype=torch.uint8)
    label = blocks.repeat_interleave(8, 0).repeat_interleave(8, 1)[:height, :width]
    return tv_tensors.Image(torch.stack([label, label, label])), tv_tensors.Mask(label)


def test_normalization():
    image = torch.tensor([0, 128, 255], dtype=torch.uint8)[:, None, None]
    out = Normalization()(image)
    expected = (image.flatten().double() / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    assert out.dtype == torch.float32
    assert torch.allclose(out.flatten().double(), expected, atol=1e-6)
    assert torch.allclose(Normalization()(image / 255), out, atol=1e-6)
    assert torch.equal(Normalization()(image[None]), out[None])
    assert Normalization((0.5,), (0.5,))(torch.ones(1, 2, 2)).unique().tolist() == [1.0]


def test_normalization_checks():
    with pytest.raises(ValueError, match="one mean and one std"):
        Normalization((0.5,), (0.5, 0.5))
    with pytest.raises(ValueError, match="above 0"):
        Normalization((0.5,), (0.0,))
    with pytest.raises(ValueError, match="an image of 1 channels, but mean and std have 3"):
        Normalization()(torch.zeros(1, 4, 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale_ratios": (1.0,)}, "set the other to null"),
        ({"scale_range": None}, "set the other to null"),
        ({"scale_range": None, "scale_ratios": ()}, "1 to 256 of them"),
        ({"scale_range": (2.0, 0.5)}, "give the least ratio first"),
        ({"scale_range": (0.0, 0.5)}, "above 0"),
        ({"scale": (512, 2048)}, "the long side, then the short side"),
        ({"crop": (0, 4)}, "crop"),
        ({"largest_class": 0.0}, "largest_class"),
        ({"flip": 1.5}, "flip"),
        ({"rotation": 181}, "rotation is 181: give a number from 0 to 180"),
        ({"blur_sigma": (2.0, 1.0)}, "blur_sigma is .2.0, 1.0.: give the least first"),
        ({"jpeg_quality": (90, 30)}, "jpeg_quality is .90, 30.: give the least first"),
        ({"jpeg_quality": (0, 30)}, "jpeg_quality is .0, 30."),
        ({"rare_temperature": 0}, "rare_temperature is 0"),
    ],
)
def test_augmentation_checks(settings, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**settings)


@pytest.mark.parametrize(
    ("size", "scale", "ratio", "expected"),
    [
        ((512, 683), (2048, 512), 1.0, (512, 683)),
        ((1024, 2048), (2048, 1024), 0.5, (512, 1024)),
        ((100, 1000), (2048, 512), 1.0, (205, 2048)),  # the long side is the limit
        ((1000, 500), (2048, 512), 1.5, (1536, 768)),
        ((30, 50), None, 1.5, (45, 75)),
        ((1, 1), None, 0.25, (1, 1)),
        ((1, 1000), (64, 32), 1.0, (1, 64)),
    ],
)
def test_fitted_size(size, scale, ratio, expected):
    assert fitted_size(size, scale, ratio=ratio) == expected


def test_scale_ratios_are_chosen_and_ranges_are_uniform():
    image, label = sample(40, 60)
    chosen = RandomResize(None, ratios=(0.5, 1.0, 1.5))
    sizes = [tuple(chosen(image, label)[1].shape) for _ in range(200)]
    assert set(sizes) == {(20, 30), (40, 60), (60, 90)}
    drawn = RandomResize(None, ratio_range=(0.5, 2.0))
    widths = np.array([drawn(image)[0].shape[-1] for _ in range(300)])
    assert widths.min() >= 30
    assert widths.max() <= 120
    assert len(set(widths)) > 60
    assert abs(widths.mean() - 75) < 6


def test_labels_are_resized_to_the_nearest_pixel_and_images_bilinearly():
    label = tv_tensors.Mask(torch.tensor([[0, 255], [7, 100]], dtype=torch.uint8))
    image = tv_tensors.Image(label[None].repeat(3, 1, 1))
    image, label = RandomResize(None, ratios=(4.0,))(image, label)
    assert label.unique().tolist() == [0, 7, 100, 255]
    assert torch.equal(label[:4, :4], torch.zeros(4, 4, dtype=torch.uint8))
    assert len(image.unique()) > 10


def test_images_are_resized_without_antialias():
    stripes = np.zeros((8, 32), dtype=np.uint8)
    stripes[:, ::4] = 255  # sampled at x = 1.5, 5.5, ...: between two black columns
    image = tv_tensors.Image(torch.from_numpy(np.array(Image.fromarray(stripes).convert("RGB"))).permute(2, 0, 1))
    out = RandomResize((8, 2))(image)
    assert out.shape == (3, 2, 8)
    assert (out == 0).all()


def test_shapes_and_dtypes_of_training_samples():
    transform = training_transform(Augmentation(scale=(256, 64), crop=(64, 96)), Normalization())
    for height, width in [(50, 80), (300, 20), (1, 1), (7, 400)]:
        image, label = transform(*sample(height, width))
        assert image.shape == (3, 64, 96)
        assert image.dtype == torch.float32
        assert torch.isfinite(image).all()
        assert label.shape == (64, 96)
        assert label.dtype == torch.uint8


def test_image_and_label_stay_together():
    transform = training_transform(
        Augmentation(scale=None, scale_range=(1.0, 1.0), crop=(24, 40), photometric=False), PLAIN
    )
    places = set()
    for _ in range(20):
        image, label = transform(*sample(64, 64))
        assert torch.equal((image[0] * 255).round().to(torch.uint8), label)
        places.add(tuple(label[0].tolist()))
    assert len(places) > 5


def test_padding_is_zero_after_normalization_and_ignored_in_the_label():
    image, label = sample(10, 12)
    out, padded = training_transform(Augmentation(**STILL, crop=(16, 20)), Normalization())(image, label)
    assert torch.equal(padded[:10, :12], label)
    assert (padded[10:] == 255).all()
    assert (padded[:, 12:] == 255).all()
    assert (out[:, 10:] == 0).all()
    assert (out[:, :, 12:] == 0).all()
    assert torch.equal(PadTo((4, 4))(image), image)


def test_flip():
    image, label = sample(16, 24)
    out, flipped = training_transform(Augmentation(**STILL | {"flip": 1.0}, crop=(16, 24)), PLAIN)(image, label)
    assert torch.equal(flipped, label.flip(-1))
    assert torch.equal((out[0] * 255).round(), label.flip(-1).float())


def test_crop_avoids_a_class_that_covers_nearly_all():
    label = torch.zeros(64, 64, dtype=torch.uint8)
    label[:26, :26] = 1
    label[40:, :] = 255
    image = tv_tensors.Image(torch.zeros(3, 64, 64, dtype=torch.uint8))

    def share_of_varied_crops(largest_class: float) -> float:
        crop = RandomCrop((24, 24), largest_class=largest_class)
        varied = 0
        for _ in range(100):
            counts = torch.bincount(crop(image, tv_tensors.Mask(label))[1].flatten(), minlength=256)[:255]
            varied += bool((counts > 0).sum() > 1 and counts.max() < 0.75 * counts.sum())
        return varied / 100

    assert share_of_varied_crops(1.0) < 0.45
    assert share_of_varied_crops(0.75) > 0.8


def test_crop_gives_up_where_no_crop_is_varied():
    image, label = sample(64, 64, classes=1)
    assert RandomCrop((16, 16), largest_class=0.5)(image, label)[1].shape == (16, 16)


def distort(image: torch.Tensor, **given: float | bool | None) -> torch.Tensor:
    params = dict.fromkeys(("brightness", "contrast", "saturation", "hue")) | {"contrast_first": True} | given
    return PhotometricDistortion().transform(tv_tensors.Image(image), params)


def test_photometric_distortion_is_that_of_hsv():
    image = torch.rand(3, 9, 9)
    for name, factor in (("saturation", 1.4), ("saturation", 0.6), ("hue", 0.08), ("hue", -0.1)):
        out = distort(image, **{name: factor}).flatten(1).T
        for before, after in zip(image.flatten(1).T.tolist(), out.tolist(), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*before)
            if name == "hue":
                hue = (hue + factor) % 1
            else:
                saturation = min(1, saturation * factor)
            assert after == pytest.approx(colorsys.hsv_to_rgb(hue, saturation, value), abs=2e-4)


def test_photometric_distortion_stays_in_range_and_has_an_order():
    image = torch.rand(3, 8, 8)
    assert torch.allclose(distort(image, brightness=0.1), (image + 0.1).clamp(0, 1))
    assert torch.allclose(distort(image, contrast=1.5), (image * 1.5).clamp(0, 1))
    assert torch.equal(distort(image), image)
    settings = {"contrast": 1.5, "saturation": 1.5}
    first, last = (distort(image, contrast_first=first, **settings) for first in (True, False))
    assert not torch.allclose(first, last)
    for _ in range(50):
        out = PhotometricDistortion()(tv_tensors.Image(image))
        assert 0 <= out.min() <= out.max() <= 1 + 1e-6


def test_photometric_parameters_have_the_published_ranges():
    drawn = [PhotometricDistortion().make_params([]) for _ in range(600)]
    for name, low, high in (
        ("brightness", -32 / 255, 32 / 255),
        ("contrast", 0.5, 1.5),
        ("saturation", 0.5, 1.5),
        ("hue", -0.1, 0.1),
    ):
        values = np.array([params[name] for params in drawn if params[name] is not None])
        assert 220 < len(values) < 380, name
        assert low <= values.min() < low + 0.05 * (high - low), name
        assert high - 0.05 * (high - low) < values.max() <= high, name


def test_gray_image_has_no_saturation_or_hue():
    gray = torch.rand(1, 8, 8)
    assert torch.equal(distort(gray, saturation=1.5, hue=0.1), gray)
    transform = training_transform(Augmentation(crop=(32, 32)), Normalization((0.5,), (0.5,)))
    image, label = sample(40, 40)
    assert transform(tv_tensors.Image(image[:1]), label)[0].shape == (1, 32, 32)


def test_what_is_off_draws_no_number():
    """Published recipes see the samples that they saw before there was more than these six steps."""
    augmentation = Augmentation(scale=(96, 64), crop=(32, 40))
    before = v2.Compose(
        [
            RandomResize((96, 64), ratio_range=(0.5, 2.0)),
            RandomCrop((32, 40), largest_class=0.75),
            v2.RandomHorizontalFlip(0.5),
            PhotometricDistortion(),
            Normalize(Normalization()),
            PadTo((32, 40)),
        ]
    )
    pair = sample(50, 70)
    results = []
    for transform in (before, training_transform(augmentation, Normalization())):
        torch.manual_seed(3)
        results.append([*(x for _ in range(5) for x in transform(*pair)), torch.rand(1)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_each_new_step_changes_samples():
    pair = sample(50, 70)
    pair[0].random_(0, 256)

    def varied(**settings) -> torch.Tensor:
        torch.manual_seed(3)
        return training_transform(Augmentation(**STILL, crop=(48, 64), **settings), Normalization())(*pair)[0]

    plain = varied()
    for settings in (
        {"vertical_flip": 1.0},
        {"rotation": 30.0},
        {"blur": 1.0, "blur_sigma": (1.0, 2.0)},
        {"jpeg": 1.0},
        {"noise": 1.0},
    ):
        assert not torch.equal(varied(**settings), plain), settings
        assert torch.equal(varied(**settings), varied(**settings)), settings  # from torch's generator of the CPU


def test_probabilities_of_the_new_steps():
    image, label = sample(24, 24)
    image.random_(0, 256)
    for name in ("vertical_flip", "blur", "jpeg", "noise"):
        augmentation = Augmentation(**STILL, crop=(24, 24), blur_sigma=(1.0, 2.0), **{name: 0.3})
        transform = training_transform(augmentation, PLAIN)
        same = sum(torch.equal((transform(image, label)[0] * 255).round(), image.float()) for _ in range(300))
        assert 180 < same < 240, name


def test_vertical_flip():
    image, label = sample(16, 24)
    settings = STILL | {"vertical_flip": 1.0, "crop": (16, 24)}
    out, flipped = training_transform(Augmentation(**settings), PLAIN)(image, label)
    assert torch.equal(flipped, label.flip(-2))
    assert torch.equal((out[0] * 255).round(), label.flip(-2).float())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_rotation_moves_image_and_label_together_and_ignores_the_corners(dtype):
    normalization = Normalization(mean=(0.2, 0.4, 0.6), std=(1.0, 1.0, 1.0))
    rotate = Rotate(90, normalization)
    image, label = sample(32, 32)
    image = tv_tensors.Image(image if dtype == torch.uint8 else image.float() / 255)
    turned, label_turned = (rotate.transform(x, {"angle": 90.0}) for x in (image, label))
    assert torch.equal(label_turned, label.rot90())
    assert torch.allclose(turned.float(), image.rot90(1, (-2, -1)).float(), atol=1e-3)
    turned, label_turned = (rotate.transform(x, {"angle": 45.0}) for x in (image, label))
    assert label_turned[0, 0] == 255
    assert set(label_turned.unique().tolist()) <= {0, 1, 2, 3, 4, 255}
    assert normalization(turned)[:, 0, 0].abs().max() < 0.003  # the mean, rounded to 8 bits
    angles = [rotate.make_params([])["angle"] for _ in range(200)]
    assert -90 <= min(angles) < -70
    assert 70 < max(angles) <= 90


def test_blur_keeps_the_mean_and_lowers_the_contrast():
    image = tv_tensors.Image(torch.rand(3, 40, 40))
    label = tv_tensors.Mask(torch.randint(0, 5, (40, 40)))
    out, same = Blur((2.0, 2.0))(image, label)
    assert same is label
    assert out.std() < 0.3 * image.std()
    assert abs(out.mean() - image.mean()) < 0.02
    one = tv_tensors.Image(torch.rand(3, 1, 9))
    assert torch.equal(Blur((2.0, 2.0))(one), one)  # no neighbors to reflect


def test_jpeg_loses_what_its_quality_says():
    image = tv_tensors.Image(torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8))
    losses = [(Jpeg((q, q))(image).float() - image.float()).abs().mean() for q in (20, 60, 95)]
    assert losses[0] > losses[1] > losses[2] > 0
    as_float = tv_tensors.Image(image.float() / 255)
    out = Jpeg((60, 60))(as_float)
    assert out.dtype == torch.float32
    assert torch.equal((out * 255).round().to(torch.uint8), Jpeg((60, 60))(image))


def test_jpeg_of_many_channels_is_refused():
    four = Normalization((0.5,) * 4, (0.5,) * 4)
    with pytest.raises(ValueError, match=r"augmentation\.jpeg is 0.5, but the images have 4 channels") as error:
        training_transform(Augmentation(jpeg=0.5), four)
    assert "\n" not in str(error.value)
    gray = training_transform(Augmentation(jpeg=1.0, crop=(16, 16)), Normalization((0.5,), (0.5,)))
    image, label = sample(40, 40)
    assert gray(tv_tensors.Image(image[:1]), label)[0].shape == (1, 16, 16)


def test_many_channels_are_rotated_blurred_and_noisy():
    augmentation = Augmentation(rotation=20, vertical_flip=0.5, blur=1.0, noise=1.0, photometric=False, crop=(32, 32))
    transform = training_transform(augmentation, Normalization((0.3,) * 7, (0.2,) * 7))
    image, label = transform(tv_tensors.Image(torch.rand(7, 40, 50)), sample(40, 50)[1])
    assert image.shape == (7, 32, 32)
    assert image.isfinite().all()
    assert label.shape == (32, 32)


def test_noise_is_in_standard_deviations_of_the_channel():
    image = tv_tensors.Image(torch.zeros(3, 64, 64))
    params = [Noise(0.5).make_params([])["sigma"] for _ in range(300)]
    assert 0 <= min(params) < 0.03
    assert 0.47 < max(params) <= 0.5
    assert abs(Noise(0.5).transform(image, {"sigma": 0.4}).std() - 0.4) < 0.02
    label = tv_tensors.Mask(torch.zeros(4, 4))
    assert Noise(0.5).transform(label, {"sigma": 0.4}) is label


def dotted() -> tuple[tv_tensors.Image, tv_tensors.Mask, RareClasses]:
    """One class with a single pixel of another in a corner, and an ignored stripe."""
    label = torch.zeros(64, 64, dtype=torch.uint8)
    label[20:30] = 255
    label[1, 61] = 2
    pixels = np.bincount(label.numpy().ravel(), minlength=256)[None, :3]
    image = tv_tensors.Image(torch.zeros(3, 64, 64, dtype=torch.uint8))
    return image, tv_tensors.Mask(label), RareClasses.of(pixels, temperature=0.01)


def test_crops_show_a_rare_class():
    image, label, rare = dotted()
    shows = {}
    for probability in (0.0, 0.5, 1.0):
        crop = RandomCrop((16, 16), rare=rare, rare_probability=probability)
        crops = [crop(image, label)[1] for _ in range(100)]
        assert all(x.shape == (16, 16) for x in crops)
        shows[probability] = sum(bool((x == 2).any()) for x in crops)
        places = {tuple((x == 2).nonzero()[0].tolist()) for x in crops if (x == 2).any()}
    assert shows[0.0] < 10
    assert 30 < shows[0.5] < 70
    assert shows[1.0] == 100
    assert len(places) == 2 * 3  # wherever the pixel may be in a crop


def test_crops_of_images_smaller_than_the_crop_or_without_a_label():
    _, label, rare = dotted()
    crop = RandomCrop((99, 16), rare=rare, rare_probability=1.0)
    assert crop(label).shape == (64, 16)
    assert (crop(label) == 2).any()
    ignored = tv_tensors.Mask(torch.full_like(label, 255))
    assert crop(ignored).shape == (64, 16)


def test_rare_crop_needs_to_know_what_is_rare():
    with pytest.raises(ValueError, match=r"augmentation\.rare_crop needs to know how rare the classes are"):
        training_transform(Augmentation(rare_crop=0.5), Normalization())
