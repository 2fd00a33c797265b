"""What `predict` writes with --write, whole and in tiles, in one process and in several."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import semask as package
from semask.checkpoints.sources import load
from semask.prediction.output import find, names
from semask.prediction.predictor import Predictor
from semask.prediction.requested import Outputs
from semask.prediction.results import finish, predict_images

rasterio = pytest.importorskip("rasterio")
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rasterio"),
]
TILES = ("--tile=64", "--overlap=16")
JOINED = (
    "all.csv", "coco/annotations.json", "label_studio/tasks.json", "label_studio/config.xml", "cvat/annotations.xml",
    "cvat/labels.json",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(scenes, tmp_path_factory):
    """A photo, a GeoTIFF with a black border, and a file that is no image."""
    path = tmp_path_factory.mktemp("photos")
    with Image.open(sorted((scenes / "images" / "val").iterdir())[0]) as image:
        pixels = np.array(image.convert("RGB").resize((96, 80))) | 1
    Image.fromarray(pixels).save(path / "photo.png")
    pixels[:10] = 0
    with rasterio.open(
        path / "scan.tif", "w", driver="GTiff", dtype="uint8", count=3, height=80, width=96, crs="EPSG:32633",
        transform=rasterio.transform.from_origin(400_000, 5_000_000, 2, 2), photometric="RGB",
    ) as file:  # fmt: skip
        file.write(pixels.transpose(2, 0, 1))
    return path


def test_each_output_is_a_file_with_a_row():
    assert {"mask", "overlay", "json", "coco", "labelme", "geojson", "gpkg", "cog", "qgis"} < set(names())
    assert {"label_studio", "cvat"} < set(names())
    for name in names():
        assert find(name).write


@pytest.mark.parametrize(
    ("settings", "kinds"),
    [
        ({}, ("mask", "overlay")),
        ({"overlays": False, "confidence": True}, ("mask", "confidence")),
        ({"write": ["json"]}, ("json",)),
        ({"write": ["json", "mask", "json"], "overlays": True, "priors": True}, ("json", "mask", "overlay", "priors")),
        ({"write": ["overlay"], "overlays": False}, ()),
    ],
)
def test_what_is_written(settings, kinds):
    assert Outputs(**settings).kinds == kinds


@pytest.mark.parametrize("tiles", [(), TILES], ids=["whole", "tiles"])
def test_everything(semask, trained, folder, tmp_path, tiles):
    kinds = ["mask", "overlay", "confidence", "probabilities", "json", "geojson", "gpkg", "qgis", "cog"]
    whole = [] if tiles else ["coco", "labelme", "label_studio", "cvat", "priors"]
    for package_name in ("pyogrio", "shapely", "pycocotools"):
        pytest.importorskip(package_name)
    out = tmp_path / "out"
    printed = semask(
        "predict", trained, folder, "--out", out, "--write", *kinds, *whole, "--nodata=0", *tiles,
        "--summary", tmp_path / "all.csv",
    )  # fmt: skip
    assert "photo.png: no geojson, which is of georeferenced images" in printed.err
    assert "square meters" in printed.out
    expected = {
        "photo.png", "photo_overlay.jpg", "photo_confidence.png", "photo_probabilities.npz", "photo.json", "photo.qml",
        "photo_cog.tif", "photo_cog.qml", "scan.tif", "scan_overlay.jpg", "scan_confidence.tif",
        "scan_probabilities.tif", "scan.json", "scan.geojson", "scan.gpkg", "scan.qml", "scan_cog.tif", "scan_cog.qml",
        *(["coco", "labelme", *(f"{x}_prior{i}.png" for x in ("photo", "scan") for i in (1, 2, 3, 4))] * bool(whole)),
        *(["label_studio", "cvat"] * bool(whole)),
    }  # fmt: skip
    assert {file.name for file in out.iterdir()} == expected
    with rasterio.open(out / "scan.tif") as file:
        label = file.read(1)
    assert (label[:10] == 255).all()
    assert not (label[10:] == 255).any()
    report = json.loads((out / "scan.json").read_text())
    counts = np.bincount(label.ravel(), minlength=256)
    assert report["ignored_pixels"] == counts[255] == 960
    assert [x["pixels"] for x in report["classes"]] == counts[: len(report["classes"])].tolist()
    assert [x["square_meters"] for x in report["classes"]] == [4.0 * x["pixels"] for x in report["classes"]]
    with rasterio.open(out / "scan_probabilities.tif") as file:
        p, descriptions = file.read(), file.descriptions
    assert list(descriptions) == [x["name"] for x in report["classes"]]
    assert (p[:, :10] == 0).all()
    assert np.allclose(p[:, 10:].sum(0), 1, atol=5e-3)
    chosen = np.take_along_axis(p, np.where(label == 255, 0, label)[None].astype(int), 0)[0]
    assert (chosen >= p.max(0))[10:].all()
    with np.load(out / "photo_probabilities.npz") as archive:
        assert archive["probabilities"].dtype == np.float16
        assert list(archive["classes"]) == list(descriptions)
        mask = np.array(Image.open(out / "photo.png"))
        assert (archive["probabilities"].argmax(0) == mask).mean() > 0.99  # but for what float16 makes alike
    with open(tmp_path / "all.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(report["classes"])
    assert sum(int(row["pixels"]) for row in rows) == 2 * 80 * 96 - 960


def test_the_probabilities_of_a_prediction(trained, folder):
    (result,) = package.predict(trained, folder / "photo.png", write=["probabilities"])
    expected = result.prediction.probabilities
    assert expected.shape == (11, 80, 96)
    assert expected.dtype == np.float16
    sure = Predictor(load(trained))(folder / "photo.png").confidence
    assert np.abs(expected.max(0) - sure).max() < 1e-3


def test_probabilities_in_tiles_go_on_after_a_stop(trained, folder, tmp_path):
    from semask.prediction.tiles import predict_tiles
    from semask.settings.inference import Inference

    predictor = Predictor(load(trained), Inference())
    settings = {"kinds": ("mask", "probabilities"), "tile": 32, "overlap": 8}
    predict_tiles(predictor, folder / "scan.tif", tmp_path / "whole", **settings)

    class Stopping(Predictor):
        left = 5

        def views(self, image, **options):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt
            return super().views(image, **options)

    with pytest.raises(KeyboardInterrupt):
        predict_tiles(Stopping(load(trained), Inference()), folder / "scan.tif", tmp_path / "out", **settings)
    assert (tmp_path / ".out.tif.parts" / "probabilities-0.f16").exists()
    predict_tiles(predictor, folder / "scan.tif", tmp_path / "out", **settings)
    with (
        rasterio.open(tmp_path / "whole_probabilities.tif") as one,
        rasterio.open(tmp_path / "out_probabilities.tif") as other,
    ):
        assert np.array_equal(one.read(), other.read())
    assert not (tmp_path / ".out.tif.parts").exists()


def test_processes_write_the_same_table_and_annotations(trained, scenes, tmp_path):
    pytest.importorskip("pycocotools")
    files = sorted((scenes / "images" / "val").iterdir())
    (tmp_path / "bad.png").write_bytes(b"no image")
    files.append(tmp_path / "bad.png")
    predictor = Predictor(load(trained))
    texts = []
    for count in (1, 2):
        out = tmp_path / f"{count}"
        outputs = Outputs(write=["coco", "label_studio", "cvat"], summary=out / "all.csv")
        shares = [
            list(predict_images(predictor, files, outputs, out=out, rank=i, world_size=count)) for i in range(count)
        ]
        if count > 1:
            assert not (out / "all.csv").exists()
            finish([result for share in shares for result in share], outputs, out, predictor.classes)
        texts.append([(out / name).read_bytes() for name in JOINED])
    assert texts[0] == texts[1]
    assert b"bad.png,,,,," in texts[0][0]


def test_a_summary_without_files(trained, scenes, tmp_path):
    results = package.predict(trained, scenes / "images" / "val", summary=tmp_path / "all.csv")
    assert [sum(result.areas.pixels) for result in results] == [48 * 64] * 3
    assert len((tmp_path / "all.csv").read_text().splitlines()) == 1 + 3 * 11


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--write", "masks"], "no output is called 'masks': write one of coco, cog, confidence"),
        (["--write", "../x"], "no output is called '../x'"),
        (["--write", "coco", *TILES], "coco annotations are of whole images: leave out coco or --tile"),
        (["--write", "labelme", *TILES], "labelme holds an image as a whole: leave out labelme or --tile"),
        (["--write", "label_studio", *TILES], "label_studio holds an image as a whole: leave out label_studio or --"),
        (["--write", "cvat", *TILES], "cvat holds an image as a whole: leave out cvat or --tile"),
        (["--simplify=-1"], "simplify is -1.0: give pixels, 0 (exact) to 1000"),
        (["--summary="], "summary is '': give the name of a CSV file to write"),
    ],
)
def test_refused(semask, trained, folder, tmp_path, arguments, message):
    assert semask.refused("predict", trained, folder, "--out", tmp_path, *arguments).startswith(message)


def test_a_number_that_is_none(trained, folder):
    with pytest.raises(ValueError, match="simplify is nan: give pixels"):
        package.predict(trained, folder, simplify=float("nan"))


def test_what_is_missing_is_told_before_the_model_is_opened(semask, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("semask.extras.find_spec", lambda package: None)
    message = semask.refused("predict", "no.safetensors", folder, "--out", tmp_path, "--write", "gpkg")
    assert message == "pyogrio is not installed: it comes with the geo extra, pip install 'semask[geo]'"


def test_outputs_do_not_replace_images_nor_each_other(semask, trained, folder, tmp_path):
    for name in ("a.jpg", "a_cog.tif"):
        with Image.open(folder / "photo.png") as image:
            image.save(tmp_path / name)
    message = semask.refused("predict", trained, tmp_path, "--out", tmp_path, "--write", "cog")
    assert message.startswith(f"{tmp_path / 'a_cog.tif'}: an output in")
    semask("predict", trained, tmp_path, "--out", tmp_path / "out", "--write", "mask", "cog")
    written = {file.name for file in (tmp_path / "out").iterdir()}
    assert written == {"a.png", "a_cog.tif", "a_cog_tif.png", "a_cog_tif_cog.tif"}


def test_nodata_of_a_photo_is_its_own_value(semask, trained, folder, tmp_path):
    pixels = np.array(Image.open(folder / "photo.png"))
    pixels[:, :7], pixels[40, 40] = 200, (200, 200, 1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    semask("predict", trained, tmp_path / "a.png", "--out", tmp_path / "out", "--write", "mask", "--nodata=200")
    label = np.array(Image.open(tmp_path / "out" / "a.png"))
    assert (label[:, :7] == 255).all()
    assert not (label[:, 7:] == 255).any()
