import numpy as np
import pytest
from PIL import Image

from semask.data.classes import Classes
from semask.prediction.pictures import colorize, confidence_map, index_mask, overlay, side_by_side, with_legend

CLASSES = Classes(("road", "sky", "tree"), ((128, 64, 128), (70, 130, 180), (107, 142, 35)))
LABEL = np.array([[0, 1, 2], [255, 2, 2]], dtype=np.uint8)


def many(count: int) -> tuple[np.ndarray, Classes]:
    """A label map of `count` classes with long names."""
    classes = Classes(tuple(f"a class with a long name, number {i}" for i in range(count)))
    return np.arange(count, dtype=np.uint8).repeat(1000).reshape(count, 1000), classes


def test_colours():
    painted = np.asarray(colorize(LABEL, CLASSES))
    assert painted.shape == (2, 3, 3)
    for value in np.unique(LABEL):
        color = CLASSES.palette[value] if value < 3 else (0, 0, 0)
        assert (painted[value == LABEL] == color).all()


def test_index_mask_keeps_the_indices_and_shows_the_colours(tmp_path):
    index_mask(LABEL, CLASSES).save(tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.mode == "P"
        np.testing.assert_array_equal(np.asarray(mask), LABEL)
        np.testing.assert_array_equal(np.asarray(mask.convert("RGB")), np.asarray(colorize(LABEL, CLASSES)))


def test_overlay():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8))
    np.testing.assert_array_equal(overlay(image, LABEL, CLASSES, opacity=0.0), np.asarray(image))
    np.testing.assert_array_equal(overlay(image, LABEL, CLASSES, opacity=1.0), np.asarray(colorize(LABEL, CLASSES)))
    half = np.asarray(overlay(image, LABEL, CLASSES, opacity=0.5), dtype=float)
    np.testing.assert_allclose(
        half, (np.asarray(image, float) + np.asarray(colorize(LABEL, CLASSES), float)) / 2, atol=1
    )
    assert overlay(image.convert("L"), LABEL, CLASSES).mode == "RGB"


@pytest.mark.parametrize("size", [(2, 3), (40, 60), (400, 300)])
def test_legend_stands_at_the_right(size):
    label = np.zeros(size, dtype=np.uint8)
    picture = colorize(label, CLASSES)
    canvas = with_legend(picture, label, CLASSES)
    assert canvas.width > picture.width + 100
    assert canvas.height >= picture.height
    np.testing.assert_array_equal(canvas.crop((0, 0, *picture.size)), np.asarray(picture))


def test_legend_shows_the_classes_that_occur():
    label = np.full((120, 100), 255, dtype=np.uint8)
    label[:60] = 2
    label[60:70] = 0
    legend = with_legend(colorize(label, CLASSES), label, CLASSES).crop((100, 0, 280, 120))
    rows = {color: y for y in range(119, -1, -1) for color in CLASSES.palette if (legend.getpixel((12, y)) == color)}
    assert rows.keys() == {CLASSES.palette[2], CLASSES.palette[0]}
    assert rows[CLASSES.palette[2]] < rows[CLASSES.palette[0]]  # the most frequent first
    nothing = with_legend(colorize(np.full_like(label, 255), CLASSES), np.full_like(label, 255), CLASSES)
    assert nothing.crop((100, 0, 280, 120)).getcolors() == [(180 * 120, (255, 255, 255))]


def test_legend_of_many_classes_ends_with_their_number():
    label, classes = many(200)
    legend = with_legend(colorize(label, classes), label, classes)
    assert legend.height == 200
    shown = {color for _, color in legend.crop((1000, 0, legend.width, 200)).getcolors(100_000)}
    assert 5 < sum(color in shown for color in classes.palette) < 30


def test_confidence():
    painted = np.asarray(confidence_map(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)))
    assert painted.tolist() == [[0, 128, 255]]


def test_side_by_side():
    left, right = Image.new("RGB", (10, 20), "red"), Image.new("L", (30, 40), 90)
    row = side_by_side([left, right], gap=4)
    assert row.size == (10 + 4 + 15, 20)
    assert row.getpixel((9, 19)) == (255, 0, 0)
    assert row.getpixel((11, 10)) == (255, 255, 255)
    assert row.getpixel((14, 0)) == row.getpixel((28, 19)) == (90, 90, 90)
