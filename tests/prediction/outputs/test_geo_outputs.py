"""Outputs of georeferenced images: vectors, styles, cloud-optimized files."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from segmented import CLASSES, NAMES, noise, place, segmentation, smooth

from semask.prediction.output import write_all
from semask.prediction.outputs import cog, geojson, gpkg, mask, qgis

rasterio = pytest.importorskip("rasterio")
shapely = pytest.importorskip("shapely")
pyogrio = pytest.importorskip("pyogrio")
pytestmark = [
    pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rasterio"),
]


@pytest.mark.parametrize("strip", [None, 7])
def test_geopackage_gives_the_map_back(tmp_path, strip):
    label, at = noise(), place()
    gpkg.write(segmentation(tmp_path, label, at=at, strip=strip))
    about, _, geometry, (names, ids, pixels) = pyogrio.raw.read(tmp_path / "out" / "photo.gpkg", layer="classes")
    assert about["crs"] == "EPSG:32633"
    assert [NAMES[i] for i in ids] == list(names)
    polygons = shapely.from_wkb(geometry)
    assert shapely.is_valid(polygons).all()
    assert np.allclose(shapely.area(polygons), pixels * 0.5 * 0.25)
    shapes = list(zip(polygons, ids, strict=True))
    result = rasterio.features.rasterize(shapes, out_shape=label.shape, transform=at.transform, fill=255, dtype="uint8")
    assert np.array_equal(result, label)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("strip", [None, 7])
def test_geojson_lies_where_the_image_does(tmp_path, strip):
    label, at = noise(), place(size=30.0)
    geojson.write(segmentation(tmp_path, label, at=at, strip=strip))
    text = (tmp_path / "out" / "photo.geojson").read_text(encoding="ascii")
    content = json.loads(text)
    assert content.keys() == {"type", "features"}  # RFC 7946: no crs
    shapes = []
    for feature in content["features"]:
        polygon = shapely.geometry.shape(feature["geometry"])
        assert polygon.exterior.is_ccw
        assert not any(ring.is_ccw for ring in polygon.interiors)
        assert 13 < polygon.bounds[0] < 15
        assert 44 < polygon.bounds[1] < 46
        assert NAMES[feature["properties"]["id"]] == feature["properties"]["class"]
        back = rasterio.warp.transform_geom("EPSG:4326", at.crs, feature["geometry"])
        shapes.append((back, feature["properties"]["id"]))
    assert sum(feature["properties"]["pixels"] for feature in content["features"]) == (label != 255).sum()
    result = rasterio.features.rasterize(shapes, out_shape=label.shape, transform=at.transform, fill=255, dtype="uint8")
    assert np.array_equal(result, label)


def test_geojson_across_the_date_line(tmp_path):
    label = np.ones((8, 8), np.uint8)
    geojson.write(segmentation(tmp_path, label, at=place("EPSG:3832", size=10_000.0, west=3_300_000.0, north=0.0)))
    (feature,) = json.loads((tmp_path / "out" / "photo.geojson").read_text())["features"]
    assert feature["geometry"]["type"] == "MultiPolygon"
    bounds = shapely.geometry.shape(feature["geometry"]).bounds
    assert bounds[0] == -180
    assert bounds[2] == 180


def test_a_reference_system_without_longitudes(tmp_path):
    at = place('LOCAL_CS["nowhere",UNIT["meter",1]]')
    with pytest.raises(ValueError, match="its reference system has no longitude and latitude there"):
        geojson.write(segmentation(tmp_path, noise(), at=at))
    assert not (tmp_path / "out" / "photo.geojson").exists()


def test_what_needs_a_place_is_left_out_without_one(tmp_path):
    made = segmentation(tmp_path, noise(), kinds=("mask", "geojson", "gpkg", "qgis"))
    assert write_all(made) == ("geojson", "gpkg")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"photo.png", "photo.qml"}
    made = segmentation(tmp_path, noise(), kinds=("geojson",), at=place(None))
    assert write_all(made) == ("geojson",)


def test_only_ignored_pixels(tmp_path):
    made = segmentation(tmp_path, np.full((5, 6), 255, np.uint8), at=place(), kinds=("gpkg", "geojson"))
    assert write_all(made) == ()
    assert pyogrio.read_info(tmp_path / "out" / "photo.gpkg")["features"] == 0
    assert json.loads((tmp_path / "out" / "photo.geojson").read_text())["features"] == []


@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("at", [place(), None], ids=["placed", "not placed"])
def test_cloud_optimized_geotiff(tmp_path, tiles, at):
    label = np.tile(smooth(), (6, 8))
    cog.write_cog(segmentation(tmp_path, label, at=at, tiles=tiles))
    with rasterio.open(tmp_path / "out" / "photo_cog.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1)
        assert np.array_equal(file.read(1), label)
        assert file.nodata == 255
        assert file.colormap(1)[2][:3] == CLASSES.palette[2]
        if at is not None:
            assert file.crs == at.crs
            assert file.transform == at.transform
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["photo_cog.tif"]


def test_mask_has_the_colors_and_the_style_next_to_it_too(tmp_path):
    made = segmentation(tmp_path, noise(), at=place(), kinds=("mask", "qgis", "cog"))
    mask.write(made)
    qgis.write(made)
    with rasterio.open(tmp_path / "out" / "photo.tif") as file:
        assert file.colorinterp[0].name == "palette"
        colors = {index: color[:3] for index, color in file.colormap(1).items()}
    for name in ("photo.qml", "photo_cog.qml"):
        text = (tmp_path / "out" / name).read_text(encoding="utf-8")
        entries = list(ElementTree.fromstring(text.partition("\n")[2]).iter("paletteEntry"))
        assert [entry.get("label") for entry in entries] == list(NAMES)
        assert [int(entry.get("value")) for entry in entries] == [0, 1, 2, 3]
        for index, entry in enumerate(entries):
            assert entry.get("color") == "#{:02x}{:02x}{:02x}".format(*colors[index])


def test_characters_that_xml_does_not_have():
    from semask.data.classes import Classes

    text = qgis.style_of(Classes(("a\ufffe", "b\uffff")))
    labels = [x.get("label") for x in ElementTree.fromstring(text.partition("\n")[2]).iter("paletteEntry")]
    assert labels == ["a?", "b?"]
