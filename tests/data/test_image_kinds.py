"""Images that are no photos."""

import numpy as np
import pytest
from PIL import Image

from semask.data.image_kinds import kind_of_images

rasterio = pytest.importorskip("rasterio")


def raster(path, bands, dtype):
    options = {"driver": "GTiff", "height": 4, "width": 4, "count": bands, "dtype": dtype}
    with rasterio.open(path, "w", **options) as file:
        file.write(np.ones((bands, 4, 4), dtype=dtype))
    return path


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_bands_and_samples(tmp_path):
    assert kind_of_images([raster(tmp_path / "a.tif", 5, "uint16")]) == (5, "5 bands of uint16")
    assert kind_of_images([raster(tmp_path / "b.tif", 1, "float32")]) == (1, "1 band of float32")
    assert kind_of_images([raster(tmp_path / "c.tif", 3, "uint8")]) is None
    with pytest.raises(ValueError, match=r"the images differ: 1 band of float32 and 5 bands of uint16: give data"):
        kind_of_images([tmp_path / "a.tif", tmp_path / "b.tif"])


def test_photos_and_what_cannot_be_read(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg")
    Image.new("RGBA", (4, 4)).save(tmp_path / "b.png")
    (tmp_path / "c.png").write_bytes(b"x")
    assert kind_of_images([tmp_path / name for name in ("a.jpg", "b.png", "c.png")]) is None
    assert kind_of_images([]) is None
    Image.fromarray(np.full((4, 4), 900, dtype=np.uint16)).save(tmp_path / "d.png")
    assert kind_of_images([tmp_path / "d.png"]) == (1, "1 band of uint16")
