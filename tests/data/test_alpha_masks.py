"""Labels in the alpha channel: found, read, and never dropped without a word."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data.alpha_masks import AlphaMask, found_in_alpha, from_alpha
from semask.data.images import read_mask
from semask.data.source import Data

ALPHA = np.where(np.arange(12) < 5, 255, 0)[None].repeat(8, 0).astype(np.uint8)  # [8, 12]


def save(path: Path, alpha: np.ndarray = ALPHA, color: object = (255, 255, 255)) -> Path:
    """A mask of one color, or of the colors of an array [H, W, 3]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.broadcast_to(np.array(color, dtype=np.uint8), (*alpha.shape, 3))
    Image.fromarray(np.dstack([colors, alpha])).save(path)
    return path


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (8, 12, 3))


@pytest.fixture
def folder(tmp_path):
    """Four images, masks of which lie in the alpha channel; one does not show the object."""
    for index in range(4):
        image = tmp_path / f"set/images/{index}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise().astype(np.uint8)).save(image)
        save(tmp_path / f"set/masks/{index}.png", ALPHA * (index > 0))
    return tmp_path / "set"


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_alone_is_not_dropped_in_silence(tmp_path, mode):
    Image.open(save(tmp_path / "a.png")).convert(mode).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"one color, .* set data\.mask_channel to alpha"):
        read_mask(tmp_path / "a.png")
    assert (AlphaMask(tmp_path / "a.png").read() == ALPHA).all()


def test_colors_stay_colors(tmp_path):
    two = np.where(ALPHA[..., None] > 0, [255, 0, 0], [0, 0, 255])
    assert read_mask(save(tmp_path / "a.png", color=two)).shape == (8, 12, 3)
    assert read_mask(save(tmp_path / "b.png", np.full_like(ALPHA, 255))).shape == (8, 12, 3)  # nothing is lost
    assert found_in_alpha([tmp_path / "a.png", tmp_path / "b.png"]) is None


def test_where_the_labels_are(tmp_path):
    nothing = save(tmp_path / "0.png", ALPHA * 0)
    assert found_in_alpha([nothing]) is None
    assert "one color" in str(found_in_alpha([nothing, save(tmp_path / "1.png")]))
    cut = save(tmp_path / "2.png", color=noise())
    assert "photo" in str(found_in_alpha([cut, nothing]))
    Image.fromarray(ALPHA).save(tmp_path / "3.png")
    assert found_in_alpha([cut, tmp_path / "3.png"]) is None  # a mask without alpha


def test_a_data_set(folder):
    data = Data(
        str(folder), "folders", label_dir="masks", mask_channel="alpha",
        classes={"background": [0], "object": [255]},
    )  # fmt: skip
    whole = [data.dataset("train"), data.dataset("val")]
    labels = [part.label_array(index) for part in whole for index in range(len(part))]
    assert sorted(int(label.sum()) for label in labels) == [0, 40, 40, 40]


def test_a_mask_without_alpha_is_told(folder):
    Image.fromarray(ALPHA).save(folder / "masks/2.png")
    data = Data(str(folder), "folders", label_dir="masks", mask_channel="alpha", classes={"a": [0], "b": [255]})
    with pytest.raises(ValueError, match=r"2\.png: data.mask_channel is alpha, but the mask has no alpha"):
        data.dataset("train").check()


def test_drawn_labels_have_no_alpha(folder):
    class Drawn:
        path = folder / "a.json"

        def read(self):
            return ALPHA

    whole = Data(str(folder), "folders", label_dir="masks").everything()
    with pytest.raises(ValueError, match=r"masks that are images, not for .*a\.json"):
        from_alpha(whole.labeled_by([(whole.pairs[0][0], Drawn())]))
