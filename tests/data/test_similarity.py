"""Images that show nearly the same."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from semask.data import similarity
from semask.data.similarity import grouped, near_duplicates, read_thumbnail, thumbnail
from semask.synthetic.scene import draw_scene


def scene(number: int) -> Image.Image:
    return draw_scene(0, number, size=(96, 128))[0]


def pairs(*images: Image.Image) -> set[tuple[int, int]]:
    return {(i, j) for i, j, _ in near_duplicates(np.stack([thumbnail(image) for image in images]))}


def test_copies_of_other_size_and_quality(tmp_path):
    image = scene(1)
    image.save(tmp_path / "low.jpg", quality=30)
    with Image.open(tmp_path / "low.jpg") as low:
        assert pairs(scene(2), image, low.copy(), image.resize((64, 48)), scene(3)) == {(1, 2), (1, 3), (2, 3)}


def test_other_scenes_differ():
    assert pairs(*(scene(number) for number in range(12))) == set()


def test_another_brightness_is_another_image():
    assert pairs(scene(1), ImageEnhance.Brightness(scene(1)).enhance(1.5)) == set()


def test_images_of_one_color_say_nothing():
    assert pairs(Image.new("RGB", (40, 40), "gray"), Image.new("RGB", (40, 40), "gray")) == set()


def test_many_images_are_compared_with_the_next_ones_only(monkeypatch):
    monkeypatch.setattr(similarity, "MOST", 3)
    monkeypatch.setattr(similarity, "NEXT", 1)
    assert pairs(scene(1), scene(1), scene(2), scene(3), scene(1)) == {(0, 1)}


def test_groups():
    assert grouped(6, [(0, 2, 1.0), (2, 4, 1.0), (3, 5, 0.0)]) == [0, 1, 0, 3, 0, 3]
    assert grouped(2, []) == [0, 1]


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_file_is_read_as_it_is_turned(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(1).resize((800, 600)).save(tmp_path / f"a{suffix}", exif=exif)
    upright = thumbnail(scene(1).resize((800, 600)).transpose(Image.Transpose.ROTATE_270))
    found = read_thumbnail(tmp_path / f"a{suffix}")
    assert np.abs(found.astype(int) - upright).mean() < 2
