from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data.file_types import file_type
from semask.data.images import read_image


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"\x00\x00\x00\x0cjP  \r\n", "a JPEG 2000 file"),
        (b"\x00\x00\x00\x18ftypheic", "a HEIC file"),
        (b"\x00\x00\x00\x18ftypavif", "an AVIF file"),
        (b"%PDF-1.7", "a PDF"),
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"\x89HDF\r\n", "an HDF5 file"),
    ],
)
def test_files_that_are_not_read_are_called_by_their_name(tmp_path, head, words):
    path = tmp_path / "a.png"
    path.write_bytes(head + bytes(200))
    with pytest.raises(ValueError, match=f"a.png: is {words}, which is not read: convert it to TIFF, PNG or JPEG"):
        read_image(path)


SHAPES = {
    "5 bands of 16-bit unsigned": (5, "uint16", {}, "--tile"),
    "2 bands of 16-bit unsigned": (2, "uint16", {}, "--tile"),
    "3 bands of 32-bit floating-point": (3, "float32", {}, "convert it to 8 or 16 bits"),
    "3 bands of 8-bit unsigned integers, compressed as LERC": (3, "uint8", {"compress": "lerc"}, "--tile"),
    "3 bands of 8-bit unsigned integers, compressed as WebP": (3, "uint8", {"compress": "webp"}, "--tile"),
}


@pytest.mark.parametrize("words", SHAPES)
@pytest.mark.parametrize("big", ["YES", "NO"])
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_tiffs_that_pillow_does_not_read_are_described(tmp_path, words, big):
    rasterio = pytest.importorskip("rasterio")
    count, dtype, options, advice = SHAPES[words]
    shape = {"height": 40, "width": 52, "count": count, "dtype": dtype, "BIGTIFF": big}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **shape, **options) as file:
        file.write(np.ones((count, 40, 52), dtype))
    with pytest.raises(ValueError, match=f"a.tif: is a TIFF of {words}.*, which is not read: .*{advice}") as error:
        read_image(tmp_path / "a.tif")
    assert "damaged" not in str(error.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_headers_have_no_file_type(tmp_path):
    path = tmp_path / "a.tif"
    Image.new("RGB", (9, 9)).save(path)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for size in (*range(4, 60), len(whole) - 4):
        path.write_bytes(whole[:size])
        file_type(path)
    for _ in range(200):
        bad = bytearray(whole)
        for place in rng.integers(4, len(bad), 6):
            bad[place] = rng.integers(256)
        path.write_bytes(bad)
        file_type(path)
    assert file_type(Path(tmp_path / "nothing")) is None
