"""What a few files of a folder show."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data import survey
from semask.data.classes import Classes
from semask.data.dataset import SegmentationDataset
from semask.data.survey import evenly, image_sizes, mask_kinds, measured_objects, similar_groups
from semask.synthetic.scene import draw_scene


def saved(path: Path, array: object, dtype: type = np.uint8) -> Path:
    Image.fromarray(np.array(array, dtype=dtype)).save(path)
    return path


def test_values_are_counted(tmp_path):
    kinds = mask_kinds([saved(tmp_path / "a.png", [[0, 0, 7]]), saved(tmp_path / "b.png", [[0, 255, 0]])])
    assert kinds.values == {0: 4, 7: 1, 255: 1}
    assert (kinds.colors, kinds.masks_of, kinds.masks) == ({}, {0: 2, 7: 1, 255: 1}, 2)


def test_values_of_16_bits_and_colors(tmp_path):
    wide = saved(tmp_path / "a.png", [[0, 300, 40000]], np.uint16)
    color = saved(tmp_path / "b.png", [[[1, 2, 3], [1, 2, 3], [255, 0, 0]]])
    kinds = mask_kinds([wide, color])
    assert kinds.values == {0: 1, 300: 1, 40000: 1}
    assert list(kinds.colors.items()) == [((1, 2, 3), 2), ((255, 0, 0), 1)]


def test_of_pictures_the_rarest_colors_are_forgotten(tmp_path, monkeypatch):
    monkeypatch.setattr(survey, "MOST_COUNTED", 50)
    monkeypatch.setattr(survey, "MOST_KINDS", 10)
    rng = np.random.default_rng(0)
    paths = []
    for number in range(4):
        array = rng.integers(1, 255, (16, 16, 3))
        array[:8] = (200, 0, 0)
        paths.append(saved(tmp_path / f"{number}.png", array))
    kinds = mask_kinds(paths)
    assert kinds.colors[200, 0, 0] == 4 * 8 * 16
    assert kinds.masks_of[200, 0, 0] == 4
    assert len(kinds.colors) == len(kinds.masks_of) == 10


def test_a_mask_that_cannot_be_read(tmp_path):
    (tmp_path / "a.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a\.png"):
        mask_kinds([tmp_path / "a.png"])


def test_sizes_are_those_of_the_upright_image(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (8, 4)).save(tmp_path / "b.jpg")
    assert image_sizes([tmp_path / "a.jpg", tmp_path / "b.jpg"]).tolist() == [[8, 4], [4, 8]]
    assert image_sizes([]).shape == (0, 2)


def test_objects(tmp_path):
    mask = np.zeros((40, 40), dtype=np.uint8)
    mask[2:6, 2:6] = mask[20:24, 20:24] = 1
    mask[30:, :2] = 255
    Image.new("RGB", (40, 40)).save(tmp_path / "i.png")
    pairs = [(tmp_path / "i.png", saved(tmp_path / "m.png", mask))]
    found = measured_objects(SegmentationDataset(pairs, Classes(("ground", "stone", "never")), name="yard"))
    assert found.pixels == {0: 1600 - 32 - 20, 1: 32}
    assert found.sides == {0: (1600 - 32 - 20) ** 0.5, 1: 4.0}


def test_groups_of_similar_images(tmp_path):
    for name, number in (("a", 1), ("b", 2), ("c", 1)):
        draw_scene(0, number, size=(96, 128))[0].save(tmp_path / f"{name}.jpg", quality=60 if name == "c" else 95)
    assert similar_groups([tmp_path / f"{name}.jpg" for name in "abc"]) == [0, 1, 0]


def test_evenly():
    assert evenly(range(100), 3) == [0, 49, 99]
    assert evenly([5, 6], 9) == [5, 6]
    assert evenly([], 9) == []
