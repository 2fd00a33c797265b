from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data.bands import Bands, Reading, Window
from semask.data.images import read_image
from semask.data.reading import read_picture, read_picture_size

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def write(path: Path, samples: np.ndarray, **profile: object) -> Path:
    count, height, width = samples.shape
    kind = {"driver": "GTiff", "dtype": samples.dtype, "count": count, "height": height, "width": width}
    with rasterio.open(path, "w", **kind, **profile) as file:
        file.write(samples)
    return path


def samples(channels: int = 5, dtype: type = np.uint16, most: int = 4000) -> np.ndarray:
    return np.random.default_rng(0).integers(1, most, (channels, 20, 30)).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_samples_of_any_kind_are_brought_to_0_and_1(tmp_path, dtype):
    values = samples(dtype=dtype, most=100)
    reading = Reading(5, value_range=tuple((10.0 + i, 90.0) for i in range(5)))
    pixels, reach, holes = read_picture(write(tmp_path / "a.tif", values), reading)
    low = np.arange(10, 15)[:, None, None]
    expected = ((values.astype(float) - low) / (90 - low)).clip(0, 1).transpose(1, 2, 0)
    assert pixels.dtype == np.float32
    assert np.allclose(pixels, expected, atol=1e-6)
    assert (reach, holes) == (None, None)


def test_bands_are_chosen_in_any_order_and_windows_are_parts_of_the_whole(tmp_path):
    values = samples()
    path = write(tmp_path / "a.tif", values)
    reading = Reading(3, bands=(5, 1, 5), value_range=((0.0, 65_535.0),) * 3)
    whole = read_picture(path, reading).pixels
    assert np.allclose(whole.transpose(2, 0, 1) * 65_535, values[[4, 0, 4]], atol=0.01)
    part = read_picture(path, reading, window=Window(range(3, 9), range(10, 30))).pixels
    assert np.array_equal(part, whole[3:9, 10:30])
    with pytest.raises(ValueError, match=r"a.tif: has no band 6, only 5: see data.bands"):
        read_picture(path, Reading(1, bands=(6,)))
    with pytest.raises(ValueError, match=r"a.tif: 5 bands, the model takes 4: choose them with data\.bands"):
        read_picture(path, Reading(4, value_range=((0.0, 1.0),) * 4))


def test_of_16_bits_without_a_range_the_upper_8_are_taken(tmp_path):
    values = samples(most=65_000)
    with Bands(write(tmp_path / "a.tif", values), Reading(5)) as bands:
        assert np.array_equal(bands.read().image, values >> 8)
        assert bands.reach == (values.max(), 16)


def test_what_is_no_data_gets_the_mean(tmp_path):
    values = samples(2, np.float32)
    values[:, 0, :5] = -9999
    values[0, 1, :5] = np.nan
    values[1, 2, :5] = np.inf
    values[1, 3, :5] = 7
    path = write(tmp_path / "a.tif", values, nodata=-9999)
    reading = Reading(2, value_range=((0.0, 4000.0),) * 2, fill=(0.25, 0.5), nodata=7)
    pixels, _, holes = read_picture(path, reading)
    assert np.array_equal(holes, np.isin(np.arange(20), [0])[:, None] & (np.arange(30) < 5))
    assert (pixels[0, :5] == [0.25, 0.5]).all()
    assert (pixels[1, :5, 0] == 0.25).all()
    assert (pixels[2:4, :5, 1] == 0.5).all()
    assert not (pixels[1, :5, 1] == 0.5).any()


def test_bands_in_files_of_their_own(tmp_path):
    values = samples(3)
    for ending, band in zip(("_B02", "_B03", "_B8A"), values, strict=True):
        write(tmp_path / f"a{ending}.tif", band[None])
    reading = Reading(3, band_files=("_B02", "_B03", "_B8A"), value_range=((0.0, 65_535.0),) * 3)
    pixels = read_picture(tmp_path / "a_B02.tif", reading).pixels
    assert np.allclose(pixels.transpose(2, 0, 1) * 65_535, values, atol=0.01)
    assert read_picture_size(tmp_path / "a_B02.tif", reading) == (20, 30)
    write(tmp_path / "a_B03.tif", values[:1, :10])
    with pytest.raises(ValueError, match=r"a_B03.tif: 30 x 10 pixels, but a_B02.tif has 30 x 20: bring all bands"):
        read_picture(tmp_path / "a_B02.tif", reading)
    (tmp_path / "a_B03.tif").unlink()
    with pytest.raises(ValueError, match=r"a_B03.tif: no such file"):
        read_picture(tmp_path / "a_B02.tif", reading)


@pytest.mark.parametrize("way", range(1, 9))
def test_turned_images_are_turned_as_photos_are(tmp_path, way):
    exif = Image.Exif()
    exif[0x0112] = way
    Image.fromarray(samples(3, np.uint8, 255).transpose(1, 2, 0)).save(tmp_path / "a.png", exif=exif)
    reading = Reading(3, value_range=((0.0, 255.0),) * 3)
    for upright in (True, False):
        pixels = read_picture(tmp_path / "a.png", reading, upright=upright).pixels
        assert np.array_equal((pixels * 255).round(), np.array(read_image(tmp_path / "a.png", upright=upright)))


def test_four_bands_are_four_channels_and_not_alpha(tmp_path):
    values = samples(4, np.uint8, 255)
    for name, profile in {"gray": {"photometric": "MINISBLACK"}, "rgb": {"photometric": "RGB", "alpha": "NO"}}.items():
        path = write(tmp_path / f"{name}.tif", values, **profile)
        assert np.array_equal(read_picture(path, Reading(4)).pixels, values.transpose(1, 2, 0))
        assert read_picture_size(path, Reading(4)) == (20, 30)


def test_what_is_too_large_to_be_read_whole_says_what_to_do(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif", samples())
    monkeypatch.setenv("SEMASK_MAX_PIXELS", "500")
    with pytest.raises(ValueError, match=r"too large: 30 x 20 pixels of 5 channels, .* data\.format raster"):
        read_picture(path, Reading(5))
    assert read_picture(path, Reading(5), window=Window(range(2), range(30))).pixels.shape == (2, 30, 5)


@pytest.mark.parametrize("content", [b"", b"no image", b"II*\0" + b"\xff" * 200, b'{"type": "FeatureCollection"}'])
def test_what_is_no_image_is_one_line(tmp_path, content):
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.tif: ") as error:
        read_picture(tmp_path / "a.tif", Reading(5))
    assert "\n" not in str(error.value)


def test_a_damaged_file_is_one_line(tmp_path):
    path = write(tmp_path / "a.tif", samples(), compress="deflate")
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"a\.tif: no image, or damaged") as error:
        read_picture(path, Reading(5))
    assert "\n" not in str(error.value)
