import json
import os
import shutil
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from disks import full_disk
from PIL import Image

from semask.checkpoints.sources import load
from semask.cli import main
from semask.data.images import read_image
from semask.prediction.files import LONGEST_NAME, find_images, output_names, plain
from semask.prediction.predictor import Predictor
from semask.settings.inference import Inference


@pytest.fixture(scope="module")
def photos(scenes: Path) -> list[Path]:
    return sorted((scenes / "images" / "val").iterdir())


def photo(width: int = 52, height: int = 40) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([x * 4, y * 6, (x + y) * 2], -1).astype(np.uint8))


def test_masks_are_the_predictor_s_labels_in_the_colours_of_the_classes(semask, trained, photos, scenes, tmp_path):
    output = semask("predict", trained, *photos, "--out", tmp_path)
    assert f"3 masks in {tmp_path}" in output.err
    predictor = Predictor(load(trained))
    palette = json.loads((scenes / "classes.json").read_text(encoding="utf-8"))["palette"]
    for path in photos:
        with Image.open(tmp_path / f"{path.stem}.png") as mask:
            assert mask.mode == "P"
            assert np.array_equal(np.array(mask), predictor(path).label)
            colors = np.array(palette, dtype=np.uint8)[np.array(mask)]
            assert np.array_equal(np.array(mask.convert("RGB")), colors)
        with Image.open(tmp_path / f"{path.stem}_overlay.jpg") as picture:
            assert picture.height == 48
            assert picture.width > 64  # the legend is at the right
            left = np.array(picture.convert("RGB"))[:, :64].astype(float)
        blend = 0.45 * np.array(read_image(path)) + 0.55 * colors
        assert np.abs(left - blend).mean() < 12  # JPEG
    assert len(list(tmp_path.iterdir())) == 6


def test_priors_and_confidence(semask, trained, photos, tmp_path):
    semask("predict", trained, photos[0], "--out", tmp_path, "--priors", "--confidence", "--overlays", "false")
    name = photos[0].stem
    expected = Predictor(load(trained))(photos[0], priors=True)
    names = {f"{name}.png", f"{name}_confidence.png", *(f"{name}_prior{i}.png" for i in (1, 2, 3, 4))}
    assert {path.name for path in tmp_path.iterdir()} == names
    palette = np.array(expected.classes.palette, dtype=np.uint8)
    for stage, prior in enumerate(expected.priors, start=1):
        with Image.open(tmp_path / f"{name}_prior{stage}.png") as picture:
            assert np.array_equal(np.array(picture), palette[prior])
    with Image.open(tmp_path / f"{name}_confidence.png") as picture:
        assert picture.mode == "L"
        assert np.abs(np.array(picture) / 255 - expected.confidence).max() <= 0.5 / 255 + 1e-6


def test_a_scale(semask, trained, photos, tmp_path):
    semask("predict", trained, photos[0], "--out", tmp_path, "--scale=[96,72]")
    model = load(trained)
    model.metadata["recipe"]["evaluation"]["scale"] = (96, 72)
    with Image.open(tmp_path / f"{photos[0].stem}.png") as mask:
        assert np.array_equal(np.array(mask), Predictor(model)(photos[0]).label)


def cmyk(path: Path) -> None:
    photo().convert("CMYK").save(path.with_suffix(".jpg"))


def sixteen_bit(path: Path) -> None:
    Image.fromarray((np.arange(40 * 52, dtype=np.uint16) * 31).reshape(40, 52)).save(path.with_suffix(".png"))


def transparent(path: Path) -> None:
    picture = photo().convert("RGBA")
    picture.putalpha(Image.new("L", picture.size, 9))
    picture.save(path.with_suffix(".png"))


def animated(path: Path) -> None:
    photo().save(path.with_suffix(".gif"), save_all=True, append_images=[Image.new("RGB", (52, 40))])


def palette(path: Path) -> None:
    photo().quantize(16).save(path.with_suffix(".png"))


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(40, 52).save(path.with_suffix(".jpg"), exif=exif)


def one_pixel(path: Path) -> None:
    photo(1, 1).save(path.with_suffix(".png"))


def one_row(path: Path) -> None:
    photo(70, 1).save(path.with_suffix(".tif"))


SIZES = {one_pixel: (1, 1), one_row: (70, 1)}


@pytest.mark.parametrize(
    "make", [cmyk, sixteen_bit, transparent, animated, palette, turned, one_pixel, one_row], ids=lambda x: x.__name__
)
def test_images_of_every_kind(semask, trained, tmp_path, make):
    make(tmp_path / "a")
    source = next(tmp_path.iterdir())
    semask("predict", trained, source, "--out", tmp_path / "out", "--priors", "--confidence")
    size = SIZES.get(make, (52, 40))
    for ending in (".png", "_confidence.png", "_prior1.png", "_prior4.png"):
        with Image.open(tmp_path / "out" / f"a{ending}") as picture:
            assert picture.size == size
    with Image.open(tmp_path / "out" / "a_overlay.jpg") as picture:
        picture.load()
        assert picture.width > size[0]
    with Image.open(tmp_path / "out" / "a.png") as mask:
        seen = read_image(source)
        assert seen.mode == "RGB"
        assert np.array_equal(np.array(mask), Predictor(load(trained))(seen).label)


def test_a_turned_photo_is_segmented_as_it_is_displayed(semask, trained, photos, tmp_path):
    """The stored rows of a photo are turned, its orientation says how: the mask is that of the upright photo."""
    upright = read_image(photos[0])
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter clockwise to be displayed
    upright.save(tmp_path / "upright.png")
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    semask("predict", trained, tmp_path / "upright.png", tmp_path / "turned.png", "--out", tmp_path / "out")
    one, other = (np.array(Image.open(tmp_path / "out" / f"{name}.png")) for name in ("upright", "turned"))
    assert len(np.unique(one)) > 1
    assert np.array_equal(one, other)


def test_broken_images_are_listed_and_the_others_are_done(semask, trained, photos, tmp_path):
    source = tmp_path / "photos"
    shutil.copytree(photos[0].parent, source)
    (source / "00002_empty.jpg").touch()
    (source / "00004_cut.jpg").write_bytes(photos[0].read_bytes()[:900])
    (source / "text.png").write_text("no image")
    output = semask("predict", trained, source, "--out", tmp_path / "out", code=2)
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {f"{path.stem}.png" for path in photos}
    assert "3 of 6 images could not be segmented:" in output.err
    lines = [line.strip() for line in output.err.splitlines()]
    assert lines[-3].startswith(f"{source / '00002_empty.jpg'}: the file is empty")
    assert lines[-2].startswith(f"{source / '00004_cut.jpg'}: the image is damaged")
    assert lines[-1].startswith(f"{source / 'text.png'}: not an image")
    assert "Traceback" not in output.err


def test_a_decompression_bomb_stops_nothing(semask, trained, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("SEMASK_MAX_PIXELS", str(64 * 48))
    photo(65, 48).save(tmp_path / "bomb.png")
    output = semask("predict", trained, tmp_path / "bomb.png", photos[0], "--out", tmp_path / "out", code=2)
    assert "65 x 48 pixels, the limit is 3072; if you trust it, set SEMASK_MAX_PIXELS" in output.err
    assert (tmp_path / "out" / f"{photos[0].stem}.png").exists()


def test_files_folders_and_patterns_without_duplicates(tmp_path, monkeypatch):
    for name in ("a/x.jpg", "a/deep/y.PNG", "b/x.jpg", "b/x.png", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        photo().save(tmp_path / name, format="PNG")
    monkeypatch.chdir(tmp_path)
    absolute = str(tmp_path / "a" / "x.jpg")
    files = find_images(["a", "a/x.jpg", "b/*.jpg", absolute, "**/*.png"])
    assert [str(file) for file in files] == ["a/deep/y.PNG", "a/x.jpg", "b/x.jpg", "b/x.png"]
    names = output_names(files)
    assert len(set(names.values())) == 4
    assert names[files[0]] == "y"


def test_names_are_unique_whatever_the_files_are_called():
    files = [
        Path(p) for p in ("x.jpg", "x.png", "x_png.jpg", "a/x.jpg", "b/a/x.jpg", "a_x_jpg.png", "b/x.jpg", "x_1.jpg")
    ]
    names = output_names(files)
    assert list(names) == files
    assert len(set(names.values())) == len(files)


def test_a_number_is_no_other_image_s_name():
    names = output_names([Path("p/x/a.jpg"), Path("q/x/a.jpg"), Path("a_0.jpg"), Path("a_1.jpg")])
    assert len(set(names.values())) == 4


@pytest.mark.parametrize("name", ["a_confidence", "a_prior1", "a_prior12"])
def test_no_image_is_called_like_what_is_written_beside_another(name):
    names = output_names([Path("a.png"), Path(f"{name}.png"), Path("b_confidence.png")])
    assert list(names.values()) == ["a", f"{name}_png", "b_confidence"]


@pytest.mark.parametrize("source", ["nothing.jpg", "empty", "*.jpg"])
def test_no_image_there(semask, trained, tmp_path, source):
    (tmp_path / "empty").mkdir()
    message = semask.refused("predict", trained, tmp_path / source, "--out", tmp_path / "out")
    assert message.startswith(f"{tmp_path / source}: no image there")
    assert not (tmp_path / "out").exists()


def test_images_are_not_written_over(semask, trained, photos, tmp_path):
    read_image(photos[0]).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    message = semask.refused("predict", trained, tmp_path / "a.png", "--out", tmp_path)
    assert (
        message
        == f"{tmp_path / 'a.png'}: an output in {tmp_path} would take the place of this image: choose another --out"
    )
    assert (tmp_path / "a.png").read_bytes() == before
    read_image(photos[0]).save(tmp_path / "b.jpg")
    semask("predict", trained, tmp_path / "b.jpg", "--out", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.jpg", "b.png", "b_overlay.jpg"}


@pytest.mark.parametrize("kind", ["mask", "json"])
def test_labels_next_to_an_image_are_not_replaced(kind, semask, trained, photos, tmp_path):
    shutil.copy(photos[0], tmp_path / "a.jpg")
    labels = tmp_path / {"mask": "a.png", "json": "a.json"}[kind]
    labels.write_text("drawn by hand")
    message = semask.refused("predict", trained, tmp_path / "a.jpg", "--out", tmp_path, "--write", kind)
    assert message == (f"{labels}: lies next to the image already, and could be replaced: choose another --out")
    assert labels.read_text() == "drawn by hand"
    semask("predict", trained, tmp_path / "a.jpg", "--out", tmp_path / "out", "--write", kind)
    semask("predict", trained, tmp_path / "a.jpg", "--out", tmp_path / "out", "--write", kind)  # its own


def test_an_output_that_cannot_be_written(semask, trained, photos, tmp_path):
    (tmp_path / "file").touch()
    message = semask.refused("predict", trained, photos[0], "--out", tmp_path / "file")
    assert "file', which is no folder" in message
    message = semask.refused("predict", trained, photos[0], "--out", tmp_path / "file" / "below")
    assert "could not be written" in message


def test_empty_names(semask, trained, photos):
    assert "empty name" in semask.refused("predict", trained, "")
    assert "which is no folder" in semask.refused("predict", trained, photos[0], "--out", "")


def test_there_is_no_such_device(semask, trained, photos, tmp_path):
    message = semask.refused("predict", trained, photos[0], "--device", "meta", "--out", tmp_path)
    assert message.startswith("device meta can't be used")


def test_memory_runs_out(semask, trained, photos, tmp_path, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 12 bytes")

    monkeypatch.setattr("semask.prediction.predictor.Predictor.__call__", fails)
    output = semask("predict", trained, photos[0], "--out", tmp_path, code=2)
    assert f"{photos[0]}: there is not enough memory (DefaultCPUAllocator: can't allocate" in output.err


def test_one_image_is_in_memory_at_a_time(semask, trained, photos, tmp_path, monkeypatch):
    alive: list[int] = []
    images: list[weakref.ref[Image.Image]] = []

    def watched(path: Path, *, channels: int) -> Image.Image:
        alive.append(sum(image() is not None for image in images))
        image = read_image(path, channels=channels)
        images.append(weakref.ref(image))
        return image

    for i in range(8):
        shutil.copy(photos[0], tmp_path / f"{i}.jpg")
    monkeypatch.setattr("semask.prediction.whole.read_image", watched)
    semask("predict", trained, tmp_path, "--out", tmp_path / "out")
    assert len(alive) == 8
    assert max(alive) <= 1  # the last one, until the next takes its name


def test_tiles(semask, trained, photos, tmp_path):
    """The recipe's scale is left out: tiles have the image's own size."""
    pytest.importorskip("rasterio")
    read_image(photos[0]).save(tmp_path / "b.tif")
    arguments = ["--out", tmp_path / "out", "--tile=256", "--overlap=32", "--confidence"]
    output = semask("predict", trained, photos[0], tmp_path / "b.tif", tmp_path / "none*", *arguments, code=2)
    assert "none*: no image there" in output.err
    (tmp_path / "broken.png").touch()
    output = semask("predict", trained, photos[0], tmp_path / "b.tif", tmp_path / "broken.png", *arguments, code=2)
    assert "2 masks in" in output.err
    assert f"{tmp_path / 'broken.png'}: no image, or damaged" in output.err
    native = Predictor(load(trained), Inference())
    for source, mask in ((photos[0], f"{photos[0].stem}.png"), (tmp_path / "b.tif", "b.tif")):
        assert np.array_equal(np.array(Image.open(tmp_path / "out" / mask)), native(source).label)
    names = {f"{photos[0].stem}{x}" for x in (".png", "_confidence.png", "_overlay.jpg")}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names | {
        "b.tif",
        "b_confidence.tif",
        "b_overlay.jpg",
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--tile=64", "--scale=[96,72]", "--overlap=8"], "tiles have the image's own size; give one of the two"),
        (["--tile=64", "--priors", "--overlap=8"], "priors are not written in tiles"),
        (["--tile=64"], "overlap is 128: give 0 to 32, at most half the tile of 64"),
        (["--tile=0"], "tile is 0"),
    ],
)
def test_what_tiles_cannot_do(semask, trained, photos, tmp_path, settings, message):
    assert message in semask.refused("predict", trained, photos[0], "--out", tmp_path / "out", *settings)
    assert not (tmp_path / "out").exists()


def test_tiles_do_not_write_over_images(semask, trained, tmp_path):
    pytest.importorskip("rasterio")
    photo().save(tmp_path / "a.tif")
    before = (tmp_path / "a.tif").read_bytes()
    message = semask.refused("predict", trained, tmp_path / "a.tif", "--out", tmp_path, "--tile=64", "--overlap=8")
    assert "would take the place of this image" in message
    assert (tmp_path / "a.tif").read_bytes() == before


pytestmark = [
    pytest.mark.filterwarnings("ignore:Dataset has no geotransform"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul:PendingDeprecationWarning"),
]
TILES = ["--tile=64", "--overlap=8"]
NAMES = [
    b"..png",
    b"...png",
    b"x..png",
    b".png.png",
    b"-x.png",
    b"line\nbreak.png",
    b"\x1b[31mred.png",
    b"[bold]x.png",
    b"\\.png",
    b"\xff\xfe.png",
    "\u202egnp.png".encode(),
    b"n" * 251 + b".png",
    ("ü" * 125).encode() + b".png",
]


@pytest.fixture
def odd_names(tmp_path: Path, photos: list[Path]) -> Path:
    """A folder with images that are called like nothing that a program expects."""
    (tmp_path / "in").mkdir()
    read_image(photos[0]).resize((32, 24)).save(tmp_path / "in" / "plain.png")
    content = (tmp_path / "in" / "plain.png").read_bytes()
    for name in NAMES:
        Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/" + name)).write_bytes(content)
    return tmp_path / "in"


@pytest.mark.parametrize("tiles", [[], TILES], ids=["whole", "tiles"])
def test_outputs_stay_in_their_folder_whatever_the_images_are_called(semask, trained, odd_names, tmp_path, tiles):
    out = tmp_path / "a" / "b" / "out"
    without_text = bool(tiles)  # GDAL takes no name that is not UTF-8
    output = semask("predict", trained, odd_names, "--out", out, *tiles, code=2 if without_text else 0)
    assert f"{len(NAMES) + 1 - without_text} masks in" in output.err
    assert "\x1b[31m" not in output.err
    assert {p.name for p in tmp_path.iterdir()} == {"a", "in"}
    assert [p.name for p in (tmp_path / "a").rglob("*") if p.is_dir()] == ["b", "out"]
    names = [p.name for p in out.iterdir()]
    assert len(names) == 2 * (len(NAMES) + 1 - without_text)
    assert all(name.isprintable() and not name.startswith(".") for name in names)
    assert all(len(os.fsencode(p)) == len(os.fsencode(out)) + 1 + len(os.fsencode(p.name)) for p in out.iterdir())


@pytest.mark.parametrize("name", ["", ".", "..", "...", " ", "/", "a/../../b", "a\0b", "\ud800", "x" * 1000, "é" * 500])
def test_a_plain_name_is_a_name(name):
    made = plain(name)
    assert made.isprintable()
    assert Path(made).name == made
    assert 0 < len(made.encode()) <= LONGEST_NAME
    assert plain(made) == made


@pytest.mark.parametrize("tiles", [[], TILES], ids=["whole", "tiles"])
def test_a_pipe_is_no_image(semask, trained, photos, tmp_path, tiles):
    (tmp_path / "in").mkdir()
    shutil.copy(photos[0], tmp_path / "in" / "a.jpg")
    os.mkfifo(tmp_path / "in" / "pipe.png")
    arguments = [tmp_path / "in", tmp_path / "in" / "pipe.png", "--out", tmp_path / "out", *tiles]
    output = semask("predict", trained, *arguments, code=2)
    assert f"{tmp_path / 'in' / 'pipe.png'}: is a pipe, socket or device, not a file" in output.err
    assert (tmp_path / "out" / "a.png").exists()


def long_side(path: Path) -> None:
    photo(70_000, 2).save(path.with_suffix(".png"))


def damaged_exif(path: Path) -> None:
    photo().save(path.with_suffix(".jpg"), exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01\x03\0\x01")


def absurd_exif(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo().save(path.with_suffix(".jpg"), exif=exif.tobytes().replace(b"\x12\x01\x03\x00", b"\x12\x01\x0c\x00"))


def float_samples(path: Path) -> None:
    Image.fromarray(np.ones((40, 52), np.float32)).save(path.with_suffix(".tif"))


def folder_called_image(path: Path) -> None:
    path.with_suffix(".png").mkdir()
    (path.with_suffix(".png") / "no.png").write_bytes(b"BM" + bytes(100))


def link_to_nothing(path: Path) -> None:
    path.with_suffix(".png").symlink_to(path / "nothing")


SPOILERS = [long_side, damaged_exif, absurd_exif, float_samples, folder_called_image, link_to_nothing]


@pytest.mark.parametrize("tiles", [[], ["--tile=64", "--overlap=0"]], ids=["whole", "tiles"])
@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda x: x.__name__)
def test_no_image_stops_a_folder(semask, trained, photos, tmp_path, spoil, tiles):
    if spoil is long_side and tiles:
        pytest.skip("many tiles; the overlay of tiles is always small")
    (tmp_path / "in").mkdir()
    spoil(tmp_path / "in" / "a")
    shutil.copy(photos[0], tmp_path / "in" / "z.jpg")
    scale = ["--scale=[2000,64]"] if spoil is long_side else []
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(trained), str(tmp_path / "in"), f"--out={tmp_path / 'out'}", *tiles, *scale])
    assert stop.value.code in (0, 2)
    error = semask.capsys.readouterr().err
    assert "Traceback" not in error
    assert ("could not be segmented" in error) == (stop.value.code == 2)
    assert (tmp_path / "out" / "z.png").exists()
    assert (tmp_path / "out" / "z_overlay.jpg").exists()


def test_an_overlay_that_no_jpeg_can_hold_is_made_smaller(semask, trained, tmp_path):
    long_side(tmp_path / "a")
    output = semask("predict", trained, tmp_path / "a.png", "--out", tmp_path / "out", "--scale=[2000,64]")
    assert f"{tmp_path / 'a.png'}: overlays are smaller than the image: a JPEG takes 65000 pixels a side" in (
        output.err
    )
    with Image.open(tmp_path / "out" / "a_overlay.jpg") as picture:
        assert 35_000 < picture.width < 36_000
    with Image.open(tmp_path / "out" / "a.png") as mask:
        assert mask.size == (70_000, 2)


@pytest.mark.parametrize("tiles", [[], TILES], ids=["whole", "tiles"])
def test_dark_images_are_told_once(semask, trained, tmp_path, tiles):
    for name, highest in (("a", 3000), ("b", 2000), ("c", 65535)):
        gray = np.linspace(1, highest, 40 * 52).astype(np.uint16).reshape(40, 52)
        Image.fromarray(gray).save(tmp_path / f"{name}.png")
    output = semask("predict", trained, tmp_path, "--out", tmp_path / "out", *tiles)
    lines = [line for line in output.err.splitlines() if "warning" in line]
    assert lines == [
        f"warning: {tmp_path / 'a.png'}: 16-bit values reach 3,000 of 65,535, so the image is nearly black as the "
        "model sees it: stretch it to the full range first (and 1 more images)"
    ]
    (tmp_path / "c_out").mkdir()
    assert "warning" not in semask("predict", trained, tmp_path / "c.png", "--out", tmp_path / "c_out", *tiles).err


@pytest.fixture
def geotiff(tmp_path: Path) -> Path:
    rasterio = pytest.importorskip("rasterio")
    pixels = np.asarray(photo()).transpose(2, 0, 1).copy()
    pixels[pixels == 0] = 1
    pixels[:, :10, :20] = 0
    place = {"crs": "EPSG:32633", "transform": rasterio.transform.from_origin(400_000, 5_000_000, 0.5, 0.25)}
    shape = {"height": 40, "width": 52, "count": 3, "dtype": "uint8", "photometric": "RGB", "nodata": 0}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **shape, **place) as file:
        file.write(pixels)
    return tmp_path / "a.tif"


def test_a_georeferenced_image_keeps_its_place_without_tiles_too(semask, trained, geotiff, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    semask("predict", trained, geotiff, "--out", tmp_path / "out", "--confidence")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"a.tif", "a_confidence.tif", "a_overlay.jpg"}
    label = Predictor(load(trained))(geotiff).label
    label[:10, :20] = 255
    with rasterio.open(geotiff) as source:
        for name in ("a.tif", "a_confidence.tif"):
            with rasterio.open(tmp_path / "out" / name) as file:
                assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
                if name == "a.tif":
                    assert np.array_equal(file.read(1), label)
                    assert file.nodata == 255


def test_without_rasterio_it_is_told_that_the_place_is_lost(semask, trained, geotiff, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    output = semask("predict", trained, geotiff, "--out", tmp_path / "out")
    assert f"{geotiff}: masks are without the place on earth: pip install 'semask[geo]' to keep it" in output.err
    assert (tmp_path / "out" / "a.png").exists()


def test_a_world_file_says_where_an_image_lies(semask, trained, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    photo().save(tmp_path / "a.tif")
    (tmp_path / "a.tfw").write_text("0.5\n0\n0\n-0.25\n400000.25\n4999999.875\n")
    for tiles in ([], TILES):
        semask("predict", trained, tmp_path / "a.tif", "--out", tmp_path / "out", *tiles)
        with rasterio.open(tmp_path / "out" / "a.tif") as file:
            assert file.transform == rasterio.transform.from_origin(400_000, 5_000_000, 0.5, 0.25)


def test_a_tiff_that_pillow_does_not_read_is_called_what_it_is(semask, trained, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    shape = {"height": 40, "width": 52, "count": 5, "dtype": "uint16"}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **shape) as file:
        file.write(np.full((5, 40, 52), 3000, np.uint16))
    output = semask("predict", trained, tmp_path / "a.tif", "--out", tmp_path / "out", code=2)
    assert "a.tif: is a TIFF of 5 bands of 16-bit unsigned integers, which is not read: `semask predict --tile" in (
        output.err
    )
    output = semask("predict", trained, tmp_path / "a.tif", "--out", tmp_path / "out", *TILES)
    assert "16-bit values reach 3,000 of 65,535" in output.err


@pytest.mark.parametrize("tiles", [[], TILES], ids=["whole", "tiles"])
def test_a_full_disk_leaves_only_whole_files(semask, trained, photos, geotiff, tmp_path, tiles):
    arguments = ["predict", trained, photos[0], geotiff, "--confidence", *tiles, *([] if tiles else ["--priors"])]
    semask(*arguments, "--out", tmp_path / "whole")
    whole = {p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()}
    largest = max(map(len, whole.values()))
    for number, size in enumerate([0, 1, 200, 500, 2000, largest // 2, largest - 1]):
        with full_disk(size):
            semask(*arguments, "--out", tmp_path / str(number), code=2)
        for path in (tmp_path / str(number)).glob("[!.]*"):
            assert path.read_bytes() == whole[path.name]
        left = [path.name for path in (tmp_path / str(number)).glob(".*")]
        assert all(tiles and name.endswith(".parts") for name in left)
    semask(*arguments, "--out", tmp_path / "6")  # tiles go on with what is done
    assert {p.name: p.read_bytes() for p in (tmp_path / "6").iterdir()} == whole
