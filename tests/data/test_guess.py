"""Classes of masks that nobody named."""

import numpy as np
import pytest
from PIL import Image

from semask.data.guess import guess_classes
from semask.data.survey import MaskKinds, mask_kinds


def masks(tmp_path, *arrays: object, mode: str | None = None):
    paths = []
    for number, array in enumerate(arrays):
        image = Image.fromarray(np.array(array, dtype=np.uint8))
        (image if mode is None else image.convert(mode)).save(tmp_path / f"{number}.png")
        paths.append(tmp_path / f"{number}.png")
    return mask_kinds(paths)


def shapes(colors: object, side: int = 64) -> Image.Image:
    """Squares of some colors on the first one."""
    colors = list(colors)
    image = Image.new("RGB" if isinstance(colors[0], tuple) else "L", (side, side), colors[0])
    for place, color in enumerate(colors[1:]):
        image.paste(color, (8 + 18 * place, 10, 22 + 18 * place, 40))
    return image


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 255], {"background": [0], "object": [255]}),
        ([0, 1], {"background": [0], "object": [1]}),
        ([0, 7], {"background": [0], "object": [7]}),
        ([0, 1, 255], {"background": [0], "object": [1]}),
        ([1, 2], {"class_1": [1], "class_2": [2]}),
        ([0, 1, 5, 255], {"background": [0], "class_1": [1], "class_5": [5]}),
    ],
)
def test_values(tmp_path, values, expected):
    guess = guess_classes(masks(tmp_path, [values], [values]))
    assert guess.classes == expected
    assert guess.tolerance == 0


def test_masks_of_one_bit(tmp_path):
    assert guess_classes(masks(tmp_path, [[0, 255]], mode="1")).classes == {"background": [0], "object": [1]}


def test_colors(tmp_path):
    red, black, white = [255, 0, 0], [0, 0, 0], [255, 255, 255]
    assert guess_classes(masks(tmp_path, [[black, red]])).classes == {"background": ["#000000"], "object": ["#ff0000"]}
    found = guess_classes(masks(tmp_path, [[black, red, white]])).classes
    assert found == {"background": ["#000000"], "color_ff0000": ["#ff0000"], "color_ffffff": ["#ffffff"]}


@pytest.mark.parametrize(
    "colors",
    [
        [(0, 0, 0), (255, 0, 0), (0, 0, 255)],
        [(0, 0, 0), (255, 255, 255)],
        [(128, 64, 128), (70, 70, 70), (0, 130, 180)],
    ],
)
def test_smoothed_colors(tmp_path, colors):
    smooth = shapes(colors, 128).resize((97, 101), Image.Resampling.BICUBIC)
    guess = guess_classes(masks(tmp_path, smooth, smooth.transpose(Image.Transpose.ROTATE_90)))
    assert {int(code[1:], 16) for (code,) in guess.classes.values()} == {r << 16 | g << 8 | b for r, g, b in colors}
    assert guess.tolerance == 255
    assert "take the nearest" in guess.reason


def test_smoothed_values(tmp_path):
    smooth = shapes([0, 255], 128).resize((90, 97), Image.Resampling.BICUBIC)
    guess = guess_classes(masks(tmp_path, smooth))
    assert guess.classes == {"background": [0], "object": [255]}
    assert guess.tolerance > 0


def test_what_are_no_classes(tmp_path):
    rng = np.random.default_rng(0)
    for pictures in (rng.integers(0, 255, (64, 64, 3)), rng.integers(0, 255, (64, 64))):
        with pytest.raises(ValueError, match=r"different (colors|values): these are pictures"):
            guess_classes(masks(tmp_path, pictures))
    for values in ([[0, 0]], [[255, 255]], [[3, 3]]):
        with pytest.raises(ValueError, match=r"there is nothing to tell apart|different"):
            guess_classes(masks(tmp_path, values))
    with pytest.raises(ValueError, match="some masks hold values, others colors"):
        guess_classes(masks(tmp_path, [[0, 1]], [[[0, 0, 0], [255, 0, 0]]]))


@pytest.mark.parametrize("between", [{128: 30}, {64: 20, 128: 30}, {1: 3, 254: 5}])
def test_a_few_smoothed_pixels_do_not_make_the_object_ignored(between):
    guess = guess_classes(MaskKinds({0: 9000, 255: 4000, **between}, {}, {}, 1))
    assert (guess.classes, guess.tolerance) == ({"background": [0], "object": [255]}, 255)


@pytest.mark.parametrize(
    "values",
    [
        {0: 9000, 255: 4000, 1: 3},  # a rare class next to much that is ignored
        {0: 9000, 255: 4000, 1: 3, 2: 3},
        {0: 5000, 255: 4000, 128: 900},  # a border
        {0: 9000, 255: 10, 7: 300},
    ],
)
def test_few_pixels_of_a_class_stay_a_class(values):
    guess = guess_classes(MaskKinds(values, {}, {}, 1))
    assert [entry for (entry,) in guess.classes.values()] == sorted(values.keys() - {255})
    assert guess.tolerance == 0


def test_gray_masks_stored_as_rgb(tmp_path):
    gray = np.repeat(np.array([[0, 1, 2]])[..., None], 3, axis=2)
    assert [code for (code,) in guess_classes(masks(tmp_path, gray)).classes.values()] == [
        "#000000",
        "#010101",
        "#020202",
    ]


def test_one_color():
    with pytest.raises(ValueError, match=r"one color, \(0, 0, 0\): there is nothing to tell apart"):
        guess_classes(MaskKinds({}, {(0, 0, 0): 90}, {}, 1))
