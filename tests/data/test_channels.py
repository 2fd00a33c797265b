import numpy as np
import pytest
from PIL import Image

from semask.data.classes import Classes
from semask.data.formats.folder import write_classes
from semask.data.source import Data


@pytest.mark.parametrize("channels", [1, 3, 4, 2, 7])
def test_images_are_read_with_the_bands_of_the_settings(tmp_path, channels):
    for folder in ("images/train", "annotations/train"):
        (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(np.full((5, 7), 9, dtype=np.uint8)).save(tmp_path / "images/train/a.png")
    Image.fromarray(np.zeros((5, 7), dtype=np.uint8)).save(tmp_path / "annotations/train/a.png")
    write_classes(tmp_path / "classes.json", Classes(("one", "two")), name="tiny")
    image, _ = Data(root=str(tmp_path), channels=channels).dataset("train")[0]
    assert image.shape == (channels, 5, 7)


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match=r"data\.channels is 1025: give a whole number from 1 to 1,024"):
        Data(root=".", channels=1025)
    with pytest.raises(ValueError, match=r"data\.channels is for the format .*folder.*, not for ade20k: leave it out"):
        Data(root=".", format="ade20k", channels=1)
