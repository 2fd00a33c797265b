import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from semask.data.classes import Classes
from semask.data.formats.folder import write_classes
from semask.data.source import Data

rasterio = pytest.importorskip("rasterio")
shapely = pytest.importorskip("shapely")
pyogrio = pytest.importorskip("pyogrio")
from rasterio.warp import transform_geom  # noqa: E402

PLACE = rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
FIELD = shapely.box(500_400, 4_998_000, 502_000, 4_999_000)  # rows 100 to 200, columns 40 to 200
POND = shapely.box(501_500, 4_998_500, 502_500, 4_999_500)  # rows 50 to 150, columns 150 to 250


def scene(path: Path, samples: np.ndarray, **profile: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = samples.shape
    kind = {"driver": "GTiff", "dtype": samples.dtype, "count": count, "height": height, "width": width}
    kind = {"crs": "EPSG:32633", "transform": PLACE, **kind, **profile}
    with rasterio.open(path, "w", **kind) as file:
        file.write(samples)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    samples = np.random.default_rng(0).integers(1, 3000, (5, 300, 500)).astype(np.uint16)
    scene(tmp_path / "images/train/a.tif", samples, nodata=0)
    write_classes(tmp_path / "classes.json", Classes(("background", "field", "pond")), name="land")
    return tmp_path


def features(*shapes: tuple[object, str], crs: str | None = "OGC:CRS84") -> dict:
    geometries = [
        shapely.geometry.mapping(shape) if crs is None else transform_geom("EPSG:32633", crs, shape.__geo_interface__)
        for shape, _ in shapes
    ]
    return {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": {"class": name}, "geometry": geometry}
            for geometry, (_, name) in zip(geometries, shapes, strict=True)
        ],
    }


def geojson(root: Path, *shapes: tuple[object, str]) -> Path:
    (root / "labels.geojson").write_text(json.dumps(features(*shapes)), encoding="utf-8")
    return root / "labels.geojson"


def geopackage(root: Path, *shapes: tuple[object, str], layer: str = "land", **options: object) -> Path:
    geometries = np.array([shapely.to_wkb(shape) for shape, _ in shapes], dtype=object)
    names = np.array([name for _, name in shapes], dtype=object)
    kind = {"geometry_type": "Polygon", "crs": "EPSG:32633", "driver": "GPKG", "layer": layer, **options}
    pyogrio.raw.write(root / "labels.gpkg", geometries, [names], ["class"], **kind)
    return root / "labels.gpkg"


def chips(root: Path, **settings: object):
    return Data(root=str(root), format="raster", channels=5, chip=(128, 200), **settings).dataset("train")


def whole(dataset) -> np.ndarray:
    label = np.full((300, 500), 99)
    for index, window in enumerate(dataset.windows):
        rows, columns = window
        label[rows.start : rows.stop, columns.start : columns.stop] = dataset.label(index)
    return label


def expected() -> np.ndarray:
    label = np.zeros((300, 500), int)
    label[100:200, 40:200] = 1
    label[50:150, 150:250] = 2
    return label


@pytest.mark.parametrize("write", [geojson, geopackage])
def test_drawn_labels_are_burned_into_chips(root, write):
    write(root, (FIELD, "field"), (POND, "pond"))
    dataset = chips(root)
    assert len(dataset) == 9
    assert np.array_equal(whole(dataset), expected())
    image, label = dataset[4]
    with rasterio.open(root / "images/train/a.tif") as file:
        rows, columns = dataset.windows[4]
        stored = file.read(window=((rows.start, rows.stop), (columns.start, columns.stop)))
    assert np.array_equal(image.numpy(), stored >> 8)
    assert image.shape[1:] == label.shape
    assert dataset.check().pixels.tolist() == np.bincount(expected().ravel()).tolist()


def test_without_a_background_the_rest_is_ignored_and_empty_chips_are_left_out(root):
    write_classes(root / "classes.json", Classes(("pond", "field")), name="land")
    geopackage(root, (FIELD, "field"))
    dataset = chips(root)
    assert len(dataset) == 2
    label = whole(dataset)
    assert (label[100:200, 40:200] == 1).all()
    assert set(np.unique(label)) == {1, 99, 255}


def test_masks_of_the_same_grid_are_cut_as_the_images_are(root):
    numbers = expected().astype(np.int16)
    numbers[:20] = -1
    scene(root / "annotations/train/a.tif", numbers[None], nodata=-1)
    label = whole(chips(root))
    assert (label[:20] == 255).all()
    assert np.array_equal(label[20:], expected()[20:])
    scene(root / "annotations/train/a.tif", numbers[None], transform=PLACE * rasterio.Affine.translation(1, 0))
    with pytest.raises(ValueError, match=r"a\.tif: lies somewhere else than its image a\.tif"):
        chips(root)
    scene(root / "annotations/train/a.tif", numbers[None, 1:])
    with pytest.raises(ValueError, match=r"the mask has 500 x 299 pixels, its image .* 500 x 300"):
        chips(root)


def test_pixels_without_data_are_ignored_and_chips_of_nothing_else_are_no_fault(root):
    samples = np.random.default_rng(0).integers(1, 3000, (5, 300, 500)).astype(np.uint16)
    samples[:, :110] = 0
    scene(root / "images/train/a.tif", samples, nodata=0)
    geojson(root, (FIELD, "field"))
    dataset = chips(root)
    assert (dataset[0][1] == 255).all()
    assert torch.equal((dataset[3][1] == 255).any(1), torch.arange(100) < 10)
    assert dataset.check().empty == 3


FAULTS = {
    "class": (lambda root: geojson(root, (FIELD, "road")), "the class 'road' is no class: expected background, field"),
    "attribute": (
        lambda root: (root / "labels.geojson").write_text(
            json.dumps(features((FIELD, "field"))).replace("class", "kind")
        ),
        "feature 0 has no class, but kind: see data.attribute",
    ),
    "elsewhere": (
        lambda root: geojson(root, (shapely.box(0, 0, 9, 9), "field")),
        "none of the drawn labels lies on an",
    ),
    "no JSON": (lambda root: (root / "labels.geojson").write_text("{"), "labels.geojson: "),
    "no features": (lambda root: (root / "labels.geojson").write_text("[]"), "not a GeoJSON file with features"),
    "an address": (
        lambda root: (root / "labels.geojson").write_text(
            json.dumps(
                features((FIELD, "field")) | {"crs": {"properties": {"name": "/vsicurl/http://127.0.0.1:9/crs.txt"}}}
            )
        ),
        "its reference system '/vsicurl/http://127.0.0.1:9/crs.txt' is not known",
    ),
    "geometry": (
        lambda root: (root / "labels.geojson").write_text(
            json.dumps(features((FIELD, "field"))).replace("Polygon", "Blob")
        ),
        "labels.geojson: ",
    ),
    "no GeoPackage": (lambda root: (root / "labels.gpkg").write_text("SELECT 1"), "labels.gpkg: not a GeoPackage"),
    "any database": (
        lambda root: (root / "labels.gpkg").write_bytes(b"SQLite format 3\0" + bytes(4096)),
        "labels.gpkg: not a GeoPackage",
    ),
    "damaged": (
        lambda root: cut(geopackage(root, (FIELD, "field"))),
        "labels.gpkg: ",
    ),
    "layers": (
        lambda root: [geopackage(root, (FIELD, "field"), layer=x, append=bool(i)) for i, x in enumerate(("a", "b"))],
        "its layers with shapes are a, b: choose one with data.layer",
    ),
    "nothing": (lambda root: None, "no labels for the image of that name"),
}


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + bytes(len(content) - 4096))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_labels_is_one_line(root, name):
    fault, message = FAULTS[name]
    fault(root)
    if name == "elsewhere":
        write_classes(root / "classes.json", Classes(("field", "pond")), name="land")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        chips(root).check()
    assert "\n" not in str(error.value)


def test_a_layer_and_an_attribute_are_chosen(root):
    geopackage(root, (FIELD, "2"), layer="a")
    geopackage(root, (POND, "1"), layer="b", append=True)
    assert np.array_equal(whole(chips(root, layer="a")) == 2, FIELD_PIXELS)


FIELD_PIXELS = np.zeros((300, 500), bool)
FIELD_PIXELS[100:200, 40:200] = True
