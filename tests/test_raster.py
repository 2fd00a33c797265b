from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data.images import read_image

rasterio = pytest.importorskip("rasterio")
from semask.raster import Raster  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rasterio"),
]


def photo() -> np.ndarray:
    """Smooth colours [H, W, C]."""
    y, x = np.mgrid[:100, :150]
    return np.stack([127 + 120 * np.sin((i + 1) * x / 40 + i * y / 30) for i in range(3)], -1).astype(np.uint8)


def saved(suffix: str, mode: str = "RGB", **options: object):
    def make(path: Path) -> Path:
        Image.fromarray(photo()).convert(mode).save(path.with_suffix(suffix), **options)
        return path.with_suffix(suffix)

    return make


def turned(suffix: str):
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(suffix, exif=exif)


def sixteen_bit(path: Path) -> Path:
    Image.fromarray(photo()[..., 0].astype(np.uint16) * 257).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def negative(bits: int):
    def make(path: Path) -> Path:
        grey = photo()[..., 0]
        stored = 255 - grey if bits == 8 else (255 - grey).astype(np.uint16) * 257
        kind = {"driver": "GTiff", "dtype": stored.dtype, "count": 1, "photometric": "MINISWHITE"}
        with rasterio.open(path.with_suffix(".tif"), "w", height=100, width=150, **kind) as file:
            file.write(stored, 1)
        return path.with_suffix(".tif")

    return make


KINDS = {
    "negative of 8 bits": negative(8),
    "negative of 16 bits": negative(16),
    "grey": saved(".png", "L"),
    "one bit": saved(".png", "1"),
    "one bit TIFF": saved(".tif", "1"),
    "palette": saved(".png", "P"),
    "grey with alpha": saved(".png", "LA"),
    "16 bits": sixteen_bit,
    "CMYK": saved(".jpg", "CMYK"),
    "BMP": saved(".bmp"),
    "GIF": saved(".gif"),
    "WebP": saved(".webp", lossless=True),
    "turned JPEG": turned(".jpg"),
    "turned PNG": turned(".png"),
    "turned TIFF": turned(".tif"),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_files_are_read_as_read_image_reads_them(make, channels, tmp_path):
    path = make(tmp_path / "a")
    image = read_image(path, channels=channels)
    expected = np.array(image).reshape(image.height, image.width, channels)
    raster = Raster(path, channels=channels)
    windows = [range(40), range(30, 70), range(raster.height - 40, raster.height)]
    for window, seen in zip(windows, raster.windows(windows), strict=True):
        assert np.array_equal(seen.permute(1, 2, 0), expected[window.start : window.stop])
    assert raster.invalid(range(10)) is None
    raster.close()


@pytest.mark.parametrize("bits", [8, 16])
def test_negatives(bits, tmp_path):
    assert np.array_equal(np.array(read_image(negative(bits)(tmp_path / "a"), channels=1)), photo()[..., 0])
