import os
import signal
import subprocess
import sys
import time
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from semask import Inference, Predictor, SeMask
from semask.builder import build
from semask.checkpoints.saving import save
from semask.checkpoints.sources import load
from semask.commands.console import ConsoleReporter
from semask.data.classes import Classes
from semask.data.geo_files import gdal
from semask.data.images import read_image
from semask.prediction.blending import Span, blend, check_grid, rising, spans
from semask.prediction.files import Unreadable
from semask.prediction.outputs import overlay
from semask.prediction.raster import Raster
from semask.prediction.score_maps import probabilities
from semask.prediction.segmentation import Segmentation
from semask.prediction.tiles import Parts, predict_file

rasterio = pytest.importorskip("rasterio")
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rasterio"),
]
TILES = {"tile": 64, "overlap": 16}


def random_model(decoder: str = "fpn", classes: int = 5, **options: object) -> SeMask:
    """A model that sees several classes in noise."""
    torch.manual_seed(0)
    model = build("swin_nano", decoder=decoder, num_classes=classes, channels=32, **options).eval()
    if decoder == "fpn":
        nn.init.normal_(model.decoder.classifier.weight, std=3)
    return model


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(random_model())


def photo(height: int = 100, width: int = 150, bands: int = 3) -> np.ndarray:
    """Smooth colors with some noise."""
    y, x = np.mgrid[:height, :width]
    smooth = np.stack([127 + 120 * np.sin((i + 1) * x / 40 + i * y / 30) for i in range(bands)], -1)
    return (smooth + np.random.default_rng(0).integers(0, 8, smooth.shape)).astype(np.uint8)


def write_png(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def write_tiff(path: Path, pixels: np.ndarray, **profile: object) -> Path:
    """A GeoTIFF of pixels [H, W, C]."""
    settings = {
        "crs": "EPSG:32633",
        "transform": rasterio.transform.from_origin(400_000, 5_000_000, 0.5, 0.25),
        "dtype": pixels.dtype,
        **profile,
    }
    height, width, count = pixels.shape
    with rasterio.open(path, "w", driver="GTiff", height=height, width=width, count=count, **settings) as file:
        file.write(pixels.transpose(2, 0, 1))
    return path


def mask(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def blended(predictor: Predictor, image: Tensor, tile: int, overlap: int) -> Tensor:
    """Probabilities [K, H, W]; NaN where no tile decides, an error where two do."""
    rows, columns = spans(image.shape[1], tile, overlap), spans(image.shape[2], tile, overlap)
    bands: dict[tuple[int, int], dict[str, Tensor]] = {}
    result = torch.full((5, *image.shape[1:]), torch.nan)
    for row, span in enumerate(rows):
        seen = image[:, span.tile.start : span.tile.stop]
        for strip, part, p in blend(predictor, seen, rows, columns, row, bands):
            where = result[:, strip.start : strip.stop, part.start : part.stop]
            assert where.isnan().all()
            where.copy_(p[0])
    return result


def weights(span: Span) -> Tensor:
    """Weight of a tile in each of its pixels along an axis."""
    at = torch.arange(span.tile.start, span.tile.stop)
    weight = ((at >= span.rise.start) & (at < span.fall.stop)).float()
    for ramp, fades in ((span.rise, False), (span.fall, True)):
        if ramp:
            w = rising(ramp, ramp, torch.device("cpu"))
            weight[(at >= ramp.start) & (at < ramp.stop)] *= 1 - w if fades else w
    return weight


@pytest.mark.parametrize("overlap", [0, 1, 7, 20])
@pytest.mark.parametrize("length", [1, 39, 40, 41, 60, 79, 81, 100, 333])
def test_tiles_have_one_size_and_decide_every_pixel_once(length, overlap):
    grid = spans(length, 40, overlap)
    assert {len(span.tile) for span in grid} == {min(40, length)}
    assert [pixel for span in grid for pixel in span.own] == list(range(length))
    total = torch.zeros(length)
    for i, span in enumerate(grid):
        assert 0 <= span.tile.start <= span.own.start <= span.own.stop <= span.fall.stop <= span.tile.stop <= length
        if i > 0:
            assert span.rise == grid[i - 1].fall
            assert len(span.rise) == overlap
        total[span.tile.start : span.tile.stop] += weights(span)
    torch.testing.assert_close(total, torch.ones(length))


def test_a_ramp_rises_and_can_be_taken_in_parts():
    ramp, cpu = range(10, 26), torch.device("cpu")
    weights = rising(ramp, ramp, cpu)
    assert (weights.diff() > 0).all()
    assert 0 < weights[0] < 0.01
    torch.testing.assert_close(weights + weights.flip(0), torch.ones(16))
    torch.testing.assert_close(torch.cat([rising(ramp, range(10, 15), cpu), rising(ramp, range(15, 26), cpu)]), weights)


@pytest.mark.parametrize(("tile", "overlap"), [(0, 0), (64, -1), (64, 33), (64, 64), (64, 100)])
def test_a_grid_that_cannot_be_laid_is_refused(tile, overlap, predictor, tmp_path):
    with pytest.raises(ValueError, match=r"^(tile|overlap) is .*give"):
        check_grid(tile, overlap)
    with pytest.raises(ValueError, match=r"^(tile|overlap) is "):
        predict_file(predictor, write_png(tmp_path / "a.png", photo()), tmp_path / "out", tile=tile, overlap=overlap)
    assert not list(tmp_path.glob(".*"))


INFERENCES = {"plain": Inference(), "ratios and flip": Inference(ratios=(0.75, 1.0), flip=True)}
DECODERS = {"fpn": {}, "mask2former": {"queries": 6, "decoder_layers": 1}}


@pytest.mark.parametrize("inference", INFERENCES.values(), ids=INFERENCES)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("overlap", [0, 24])
def test_probabilities_are_the_weighted_sum_of_the_tiles(decoder, inference, overlap):
    """What is kept of a tile and put together later is the same as all tiles at once."""
    predictor = Predictor(random_model(decoder, **DECODERS[decoder]), inference)
    image, tile = torch.from_numpy(photo()).permute(2, 0, 1), 50  # no multiple of the strides
    rows, columns = spans(100, tile, overlap), spans(150, tile, overlap)
    expected = torch.zeros(5, 100, 150)
    for row in rows:
        for column in columns:
            y, x = (slice(span.tile.start, span.tile.stop) for span in (row, column))
            weight = weights(row)[:, None] * weights(column)
            expected[:, y, x] += probabilities(predictor.views(image[:, y, x])[0], (tile, tile))[0] * weight
    assert expected.std() > 0.01
    torch.testing.assert_close(blended(predictor, image, tile, overlap), expected, atol=2e-6, rtol=1e-4)


def test_a_seam_vanishes_where_the_tiles_agree():
    """A classifier of constants: whatever the tiles, their probabilities are the same."""
    model = random_model()
    nn.init.zeros_(model.decoder.classifier.weight)
    nn.init.normal_(model.decoder.classifier.bias)
    p = blended(Predictor(model), torch.from_numpy(photo()).permute(2, 0, 1), 40, 12)
    torch.testing.assert_close(p, p[:, :1, :1].expand_as(p), atol=1e-7, rtol=0)


def test_blending_leaves_no_step(predictor):
    """Without an overlap the probabilities jump at the seams; with one they go over."""
    image = torch.from_numpy(photo(64, 200)).permute(2, 0, 1)
    jumps = []
    for overlap in (0, 32):
        p = blended(predictor, image, 64, overlap)
        steps = (p[:, :, 1:] - p[:, :, :-1]).abs().mean((0, 1))
        seams = [span.own.start - 1 for span in spans(200, 64, overlap)[1:]]
        jumps.append(float(steps[seams].mean() / steps.median()))
    assert jumps[0] > 3
    assert jumps[1] < 1.5


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_an_image_in_one_tile_is_as_the_predictor_has_it(decoder, suffix, tmp_path):
    predictor = Predictor(random_model(decoder, **DECODERS[decoder]))
    path = write_png(tmp_path / f"a{suffix}", photo())
    whole = predictor(path)
    out = predict_file(predictor, path, tmp_path / "out" / "b", tile=256, overlap=32, confidence=True, overlays=True)
    assert out == tmp_path / "out" / f"b{suffix}"
    assert np.array_equal(mask(out), whole.label)
    confidence = mask(tmp_path / "out" / f"b_confidence{suffix}") / 255
    assert np.abs(confidence - whole.confidence.clip(max=1)).max() <= 0.5 / 255 + 1e-5
    assert {p.name for p in out.parent.iterdir()} == {out.name, f"b_confidence{suffix}", "b_overlay.jpg"}
    with Image.open(out) as image:
        table = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
        assert np.array_equal(table[:5], np.array(whole.classes.palette))


def test_tiles_agree_with_the_image_in_one_piece(trained, scenes, tmp_path):
    """Even for a hardly trained model, which sees less around each pixel in tiles than in the image."""
    pictures = [np.array(read_image(path)) for path in sorted((scenes / "images" / "val").iterdir())]
    image = np.concatenate([np.concatenate(pictures, axis=1)] * 3)  # 144 x 192
    predictor = Predictor(load(trained), Inference())
    out = predict_file(predictor, write_png(tmp_path / "a.png", image), tmp_path / "out", tile=96, overlap=32)
    assert (mask(out) == predictor(image).label).mean() > 0.7


def test_a_geotiff_keeps_its_place_and_what_is_no_data(predictor, tmp_path):
    pixels = photo()
    pixels[pixels == 0] = 1
    pixels[10:70, 20:90] = 0
    path = write_tiff(tmp_path / "a.tif", pixels, nodata=0)
    out = predict_file(predictor, path, tmp_path / "out", confidence=True, **TILES)
    with rasterio.open(path) as source, rasterio.open(out) as file:
        assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, (100, 150))
        assert (file.nodata, file.dtypes, file.count) == (255, ("uint8",), 1)
        assert file.colormap(1)[2][:3] == predictor.classes.palette[2]
        assert file.profile["compress"] == "deflate"
        assert file.profile["tiled"]
        label = file.read(1)
    assert (label[10:70, 20:90] == 255).all()
    assert ((label == 255).sum(), label[label < 255].max()) == (60 * 70, 4)
    assert (mask(tmp_path / "out_confidence.tif")[10:70, 20:90] == 0).all()


def test_alpha_of_a_tiff_is_no_data_and_that_of_a_png_is_not(predictor, tmp_path):
    pixels = np.concatenate([photo(), np.full((100, 150, 1), 255, np.uint8)], axis=-1)
    pixels[:50, :, 3] = 0
    tiff = predict_file(predictor, write_tiff(tmp_path / "a.tif", pixels), tmp_path / "out", **TILES)
    png = predict_file(predictor, write_png(tmp_path / "a.png", pixels), tmp_path / "out", **TILES)
    assert (mask(tiff)[:50] == 255).all()
    assert np.array_equal(mask(tiff)[50:], mask(png)[50:])
    assert mask(png).max() < 5


def test_more_bands_than_colours(tmp_path):
    predictor = Predictor(random_model(in_channels=5, mean=[0.5] * 5, std=[0.2] * 5))
    pixels = photo(bands=5)
    out = predict_file(predictor, write_tiff(tmp_path / "a.tif", pixels), tmp_path / "out", tile=256)
    assert np.array_equal(mask(out), predictor(pixels).label)
    with pytest.raises(Unreadable, match="4 bands, the model takes 5"):
        predict_file(predictor, write_tiff(tmp_path / "b.tif", pixels[..., :4]), tmp_path / "out")


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("no image")


def cut(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (100, 150, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])


def floats(path: Path) -> None:
    Image.fromarray(photo(bands=1)[..., 0].astype(np.float32)).save(path, format="TIFF")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("spoil", [empty, text, cut, floats, None], ids=lambda x: x.__name__ if x else "missing")
def test_a_file_that_cannot_be_read_leaves_nothing(predictor, tmp_path, spoil, suffix):
    path = tmp_path / f"a{suffix}"
    if spoil:
        spoil(path)
    with pytest.raises(Unreadable) as error:
        predict_file(predictor, path, tmp_path / "out" / "a", **TILES)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


class Stopped(Exception):
    """What stops a run in the middle."""


class Stopping(Predictor):
    """Stops before it sees a tile."""

    def __init__(self, model: SeMask, tiles: int) -> None:
        super().__init__(model)
        self.tiles = tiles

    def views(self, image, *, priors=False):
        if self.tiles == 0:
            raise Stopped
        self.tiles -= 1
        return super().views(image, priors=priors)


@pytest.mark.parametrize("tiles", [1, 3, 4, 8])  # of 2 rows of 3
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_stopped_run_goes_on_to_the_same_bits(predictor, tmp_path, suffix, tiles, capsys):
    path = write_png(tmp_path / f"a{suffix}", photo(150, 140))  # 3 rows of 3 tiles
    whole = predict_file(predictor, path, tmp_path / "whole", confidence=True, **TILES)
    with pytest.raises(Stopped):
        predict_file(Stopping(predictor.model, tiles), path, tmp_path / "out", confidence=True, **TILES)
    assert not (tmp_path / f"out{suffix}").exists()
    capsys.readouterr()
    rest = Stopping(predictor.model, 9 - tiles // 3 * 3)  # what is finished is not done again
    out = predict_file(rest, path, tmp_path / "out", confidence=True, **TILES, reporter=ConsoleReporter())
    assert rest.tiles == 0
    assert ("goes on after" in capsys.readouterr().err) == (tiles >= 3)
    assert out.read_bytes() == whole.read_bytes()
    endings = [f"_confidence{suffix}", suffix]
    assert (tmp_path / f"out{endings[0]}").read_bytes() == (tmp_path / f"whole{endings[0]}").read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {path.name, *(f"{n}{e}" for n in ("out", "whole") for e in endings)}


@pytest.mark.parametrize("kind", ["row", "band"])
def test_parts_that_are_damaged_are_made_again(predictor, tmp_path, kind):
    path = write_png(tmp_path / "a.png", photo(150, 140))
    whole = predict_file(predictor, path, tmp_path / "whole", **TILES)
    with pytest.raises(Stopped):
        predict_file(Stopping(predictor.model, 7), path, tmp_path / "out", **TILES)
    part = sorted((tmp_path / ".out.png.parts").glob(f"{kind}-*.safetensors"))[-1]
    content = bytearray(part.read_bytes())
    content[-3] ^= 1
    part.write_bytes(content)
    assert predict_file(predictor, path, tmp_path / "out", **TILES).read_bytes() == whole.read_bytes()


def another_tile(path: Path, model: SeMask) -> dict[str, int]:
    return {"tile": 64, "overlap": 8}


def another_image(path: Path, model: SeMask) -> dict[str, int]:
    write_png(path, photo(150, 140)[::-1])
    return TILES


def another_model(path: Path, model: SeMask) -> dict[str, int]:
    nn.init.normal_(model.decoder.classifier.bias)
    return TILES


@pytest.mark.parametrize("change", [another_tile, another_image, another_model], ids=lambda x: x.__name__)
def test_what_belongs_to_something_else_is_done_anew(tmp_path, change):
    model, path = random_model(), write_png(tmp_path / "a.png", photo(150, 140))
    with pytest.raises(Stopped):
        predict_file(Stopping(model, 7), path, tmp_path / "out", **TILES)
    settings = change(path, model)
    out = predict_file(Predictor(model), path, tmp_path / "out", **settings)
    assert out.read_bytes() == predict_file(Predictor(model), path, tmp_path / "new", **settings).read_bytes()


def test_a_killed_command_goes_on(tmp_path, semask):
    model = random_model()
    save(tmp_path / "model.safetensors", model, {})
    path = write_png(tmp_path / "a.png", photo(400, 150))
    arguments = [
        "predict",
        tmp_path / "model.safetensors",
        path,
        "--tile=64",
        "--overlap=16",
        "--device=cpu",
        "--precision=fp32",
    ]
    command = [sys.executable, "-m", "semask.cli", *map(str, arguments), f"--out={tmp_path / 'out'}"]
    parts = tmp_path / "out" / ".a.png.parts"
    with subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not (parts / "row-1.safetensors").exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert {p.name for p in (tmp_path / "out").iterdir()} == {".a.png.parts"}
    output = semask(*arguments, f"--out={tmp_path / 'out'}")
    assert "a.png: goes on after" in output.err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.png", "a_overlay.jpg"}
    whole = predict_file(Predictor(model), path, tmp_path / "whole", **TILES)
    assert np.array_equal(mask(tmp_path / "out" / "a.png"), mask(whole))


def test_an_overlay_is_made_without_the_whole_label_map(tmp_path):
    height, width = 60_000, 200
    path = write_tiff(tmp_path / "a.tif", np.zeros((height, width, 3), np.uint8))
    with Parts(tmp_path / "parts", {"a": 1}) as parts, gdal():
        for _ in range(20):
            parts.finish({"label": torch.ones(height // 20, width, dtype=torch.uint8)})
        image = Raster(path, channels=3)
        tracemalloc.start()
        overlay.write(
            Segmentation(
                image=path,
                stem=tmp_path / "a",
                classes=Classes(("a", "b"), ((255, 0, 0), (0, 0, 255))),
                size=(height, width),
                rows=partial(parts.rows, "label"),
                picture=image.overview,
                scratch=parts.folder,
            )
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < height * width / 2
    assert Image.open(tmp_path / "a_overlay.jpg").height == 2000


def test_parts_that_are_not_needed_any_more_are_deleted(tmp_path):
    with Parts(tmp_path / "parts", {"a": 1}) as parts:
        for row in range(3):
            for column in range(2):
                parts[row, column] = {"scores0": torch.full((2,), row)}
            assert row == 0 or torch.equal(parts[row - 1, 1]["scores0"], torch.full((2,), row - 1))
            parts.finish({"label": torch.full((3, 4), row, dtype=torch.uint8)})
            assert len(list(parts.folder.glob("band-*"))) == 2
        assert [rows[:, 0].tolist() for rows in parts.rows("label", 4)] == [[0, 0, 0, 1], [1, 1, 2, 2], [2]]
    for identity, done in (({"a": 1}, 3), ({"a": 2}, 0), ({"a": 1}, 0)):
        with Parts(tmp_path / "parts", identity) as parts:
            assert parts.done == done
    parts.remove()
    assert list(tmp_path.iterdir()) == []


def test_two_runs_never_write_one_result(predictor, tmp_path):
    path = write_png(tmp_path / "a.png", photo())
    with Parts(tmp_path / ".out.png.parts", {"a": 1}) as parts:
        parts.finish({"label": torch.zeros(3, 4, dtype=torch.uint8)})
        with pytest.raises(ValueError, match="another run is writing this result"):
            predict_file(predictor, path, tmp_path / "out", **TILES)
        assert (parts.folder / "row-0.safetensors").exists()
    assert predict_file(predictor, path, tmp_path / "out", **TILES).exists()


def test_an_output_that_cannot_be_written_keeps_what_is_done(predictor, tmp_path):
    path = write_png(tmp_path / "a.png", photo())
    (tmp_path / "out_confidence.png").mkdir()
    with pytest.raises(ValueError, match="could not be written") as error:
        predict_file(predictor, path, tmp_path / "out", confidence=True, **TILES)
    assert not isinstance(error.value, Unreadable)
    (tmp_path / "out_confidence.png").rmdir()
    predict_file(Stopping(predictor.model, 0), path, tmp_path / "out", confidence=True, **TILES)
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "out.png", "out_confidence.png"}


def test_a_scale_is_refused(predictor, tmp_path):
    scaled = Predictor(predictor.model, Inference(scale=(64, 64)))
    with pytest.raises(ValueError, match="tiles have the image's own size"):
        predict_file(scaled, write_png(tmp_path / "a.png", photo()), tmp_path / "out")


MEMORY = """
import resource, sys
import torch
from semask import Predictor, build
from semask.prediction.tiles import predict_file
torch.set_num_threads(1)
model = build("swin_nano", num_classes=200, channels=16)
predict_file(Predictor(model), sys.argv[1], sys.argv[2], tile=128, overlap=32, confidence=True)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units")
def test_memory_is_flat_in_the_size_of_the_image(tmp_path):
    """Whole probabilities would take 210 MB; the allocator alone varies by 20."""
    peaks = []
    for height, width in ((256, 128), (2048, 128)):
        path = write_tiff(tmp_path / f"{height}.tif", np.zeros((height, width, 3), np.uint8), tiled=True)
        command = [sys.executable, "-c", MEMORY, str(path), str(tmp_path / "out")]
        result = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        assert result.returncode == 0, result.stderr[-2000:]
        peaks.append(float(result.stdout))
    assert peaks[1] < peaks[0] + 60


def test_without_rasterio_one_line_says_what_to_install(semask, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    save(tmp_path / "model.safetensors", random_model(), {})
    arguments = ["predict", tmp_path / "model.safetensors", write_png(tmp_path / "a.png", photo())]
    message = semask.refused(*arguments, f"--out={tmp_path / 'out'}", "--tile=64", "--overlap=16")
    assert message == "tiles are read and written with rasterio: pip install 'semask[geo]'"
    assert not (tmp_path / "out").exists()
    semask(*arguments, f"--out={tmp_path / 'out'}")
