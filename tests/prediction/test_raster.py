import contextlib
import http.server
import itertools
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from disks import full_disk
from PIL import Image

from semask.data.images import read_image

rasterio = pytest.importorskip("rasterio")
from semask.data.geo_files import gdal, local_name  # noqa: E402
from semask.prediction.files import Unreadable  # noqa: E402
from semask.prediction.raster import Place, Raster  # noqa: E402
from semask.prediction.raster_writing import BLOCK, write  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rasterio"),
]


def photo() -> np.ndarray:
    """Smooth colors [H, W, C]."""
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
        gray = photo()[..., 0]
        stored = 255 - gray if bits == 8 else (255 - gray).astype(np.uint16) * 257
        kind = {"driver": "GTiff", "dtype": stored.dtype, "count": 1, "photometric": "MINISWHITE"}
        with rasterio.open(path.with_suffix(".tif"), "w", height=100, width=150, **kind) as file:
            file.write(stored, 1)
        return path.with_suffix(".tif")

    return make


KINDS = {
    "negative of 8 bits": negative(8),
    "negative of 16 bits": negative(16),
    "gray": saved(".png", "L"),
    "one bit": saved(".png", "1"),
    "one bit TIFF": saved(".tif", "1"),
    "palette": saved(".png", "P"),
    "gray with alpha": saved(".png", "LA"),
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
        assert np.array_equal(seen.transpose(1, 2, 0), expected[window.start : window.stop])
    assert raster.invalid(range(10)) is None
    raster.close()


@pytest.mark.parametrize("bits", [8, 16])
def test_negatives(bits, tmp_path):
    assert np.array_equal(np.array(read_image(negative(bits)(tmp_path / "a"), channels=1)), photo()[..., 0])


@pytest.fixture
def server() -> Iterator[tuple[int, list[str]]]:
    """A server on this machine that notes what it is asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_port, asked
        running.shutdown()


WMS = """<GDAL_WMS><Service name="WMS"><Version>1.1.1</Version><ServerUrl>http://127.0.0.1:{port}/wms?</ServerUrl>
<SRS>EPSG:4326</SRS><ImageFormat>image/jpeg</ImageFormat><Layers>x</Layers></Service><DataWindow><UpperLeftX>-180</UpperLeftX>
<UpperLeftY>90</UpperLeftY><LowerRightX>180</LowerRightX><LowerRightY>-90</LowerRightY><SizeX>150</SizeX><SizeY>100</SizeY>
</DataWindow><BandsCount>3</BandsCount></GDAL_WMS>"""
WCS = "<WCS_GDAL><ServiceURL>http://127.0.0.1:{port}/wcs?</ServiceURL><CoverageName>x</CoverageName></WCS_GDAL>"
WMTS = "<GDAL_WMTS><GetCapabilitiesUrl>http://127.0.0.1:{port}/wmts?</GetCapabilitiesUrl></GDAL_WMTS>"
VRT = """<VRTDataset rasterXSize="150" rasterYSize="100"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename>/vsicurl/http://127.0.0.1:{port}/vrt.tif</SourceFilename><SourceBand>1</SourceBand></SimpleSource>
</VRTRasterBand></VRTDataset>"""


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".gif"])
@pytest.mark.parametrize("text", [WMS, WCS, WMTS, VRT], ids=["WMS", "WCS", "WMTS", "VRT"])
def test_a_text_with_an_address_opens_no_connection(tmp_path, server, text, suffix):
    port, asked = server
    path = tmp_path / f"a{suffix}"
    path.write_text(text.format(port=port))
    with gdal(), pytest.raises(Unreadable, match="no image of a known format"):
        Raster(path, channels=3)
    assert asked == []


PAM = """<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">/vsicurl/http://127.0.0.1:{port}/o.tif</MDI>
</Metadata></PAMDataset>"""


@pytest.mark.parametrize("text", [WMS, VRT, PAM], ids=["WMS", "VRT", "PAM"])
@pytest.mark.parametrize("beside", ["a.tif.ovr", "a.tif.msk", "a.tif.aux.xml", "a.aux", "a.tfw", "a.wld", "a.ovr"])
def test_files_beside_an_image_are_not_followed(tmp_path, server, beside, text):
    port, asked = server
    Image.fromarray(photo()).save(tmp_path / "a.tif")
    (tmp_path / beside).write_text(text.format(port=port))
    read_all(tmp_path / "a.tif")
    assert asked == []


def test_an_address_in_the_tags_of_an_image_is_not_followed(tmp_path, server):
    port, asked = server
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", height=100, width=150, count=3, dtype="uint8") as file:
        file.write(photo().transpose(2, 0, 1))
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"/vsicurl/http://127.0.0.1:{port}/o.tif")
    read_all(tmp_path / "a.tif")
    assert asked == []


def read_all(path: Path) -> None:
    with gdal(), contextlib.closing(Raster(path, channels=3)) as raster:
        (seen,) = raster.windows([range(100)])
        assert np.array_equal(seen.transpose(1, 2, 0), photo())
        raster.overview(4)
        raster.invalid(range(100))
        assert raster.place is not None


@pytest.mark.parametrize(
    "name",
    [
        "http:/127.0.0.1:{port}/a.tif",
        "https:/127.0.0.1:{port}/a.tif",
        "vsicurl/http:/127.0.0.1:{port}/a.tif",
        "zip:/a.zip!/a.tif",
        "s3:/bucket/a.tif",
        "GTIFF_DIR:1:a.tif",
        "a.zip!a.tif",
        "<VRTDataset>.tif",
    ],
)
def test_a_name_like_an_address_is_that_of_a_file(tmp_path, monkeypatch, server, name):
    port, asked = server
    monkeypatch.chdir(tmp_path)
    path = Path(name.format(port=port))
    for file in (path, Path(f"{name.format(port=port)}x")):  # one that is there, one that is not
        if file == path:
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo()).save(file, format="TIFF")
            read_all(file)
        else:
            with pytest.raises(Unreadable, match="no such file"):
                Raster(file, channels=3)
    assert asked == []


@pytest.mark.parametrize("name", ["/vsicurl/http://127.0.0.1:{port}/a.tif", "/vsizip//tmp/a.zip/a.tif", "/vsistdin/"])
def test_names_of_gdal_are_no_files(server, name):
    port, asked = server
    with pytest.raises(Unreadable, match="no such file"):
        Raster(Path(name.format(port=port)), channels=3)
    assert asked == []
    assert not str(local_name(Path(name))).startswith("/vsi")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.tif")
    with pytest.raises(Unreadable, match="is a pipe"):
        Raster(tmp_path / "a.tif", channels=3)


def test_a_file_is_read_by_what_it_is_not_by_its_ending(tmp_path):
    Image.fromarray(photo()).save(tmp_path / "a.png", format="TIFF")
    read_all(tmp_path / "a.png")


@pytest.mark.parametrize("nodata", [None, 65535])
def test_the_reach_of_16_bits_is_known_without_what_is_no_data(tmp_path, nodata):
    pixels = np.full((1, 100, 150), 3000, np.uint16)
    pixels[0, 0, 0] = 3001 if nodata is None else nodata
    kind = {"driver": "GTiff", "dtype": "uint16", "count": 1, "height": 100, "width": 150, "nodata": nodata}
    with rasterio.open(tmp_path / "a.tif", "w", **kind) as file:
        file.write(pixels)
    with contextlib.closing(Raster(tmp_path / "a.tif", channels=1)) as raster:
        list(raster.windows([range(100)]))
        assert raster.reach == (3001 if nodata is None else 3000, 16)
        assert raster.reach.dark


@pytest.mark.parametrize("place", [Place(None, rasterio.Affine(1, 0, 5, 0, -1, 7)), None], ids=["TIFF", "PNG"])
def test_what_is_written_is_read_again(tmp_path, place, monkeypatch):
    """As if the disk had kept something else than it was given."""
    rows = [np.random.default_rng(i).integers(0, 9, (BLOCK, 600), dtype=np.uint8) for i in range(2)]
    write(tmp_path / "a.x", rows, (2 * BLOCK, 600), place=place, scratch=tmp_path, palette=[(1, 2, 3)])
    with rasterio.open(tmp_path / "a.x") as file:
        assert np.array_equal(file.read(1), np.concatenate(rows))
    before = (tmp_path / "a.x").read_bytes()
    numbers = itertools.count()
    monkeypatch.setattr("semask.prediction.raster_writing.zlib.crc32", lambda _: next(numbers))
    with pytest.raises(ValueError, match="what was written is not what can be read: is the disk full"):
        write(tmp_path / "a.x", rows, (2 * BLOCK, 600), place=place, scratch=tmp_path)
    assert (tmp_path / "a.x").read_bytes() == before


@pytest.mark.parametrize("place", [Place(None, rasterio.Affine(1, 0, 5, 0, -1, 7)), None], ids=["TIFF", "PNG"])
@pytest.mark.parametrize("size", [0, 1, 100, 1000, 20_000, 150_000])
def test_a_full_disk_leaves_no_part_of_a_map(tmp_path, place, size):
    rows = [np.random.default_rng(i).integers(0, 9, (BLOCK, 600), dtype=np.uint8) for i in range(2)]
    (tmp_path / "scratch").mkdir()
    with full_disk(size), pytest.raises(ValueError, match="could not be written") as error:
        write(tmp_path / "a.x", rows, (2 * BLOCK, 600), place=place, scratch=tmp_path / "scratch")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "a.x").exists()
