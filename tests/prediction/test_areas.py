"""Areas of classes, against other ways to compute them."""

import math
from functools import partial

import numpy as np
import pytest

from semask.prediction.areas import measure

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:rasterio")

from rasterio.crs import CRS  # noqa: E402
from rasterio.transform import Affine, from_origin  # noqa: E402

from semask.prediction.raster import Place  # noqa: E402

LABEL = np.repeat(np.array([[0], [1], [1], [255]], np.uint8), 100, axis=0).repeat(300, axis=1)  # [400, 300]


def measured(label, crs, transform):
    def rows(step):
        return (label[first : first + step] for first in range(0, len(label), step))

    return measure(rows, label.shape, 3, None if crs is None else Place(CRS.from_user_input(crs), transform))


def test_pixels_and_shares():
    areas = measured(LABEL, None, None)
    assert areas.pixels == (30_000, 60_000, 0)
    assert areas.ignored == 30_000
    assert [areas.share(i) for i in range(3)] == [1 / 3, 2 / 3, 0]
    assert (areas.square_meters, areas.measured, areas.crs) == (None, None, None)


def test_nothing_but_ignored_pixels():
    assert measured(np.full((3, 3), 255, np.uint8), None, None).share(0) == 0


@pytest.mark.parametrize(
    ("crs", "meter"), [("EPSG:32633", 1.0), ("EPSG:2263", 1200 / 3937)], ids=["meters", "US survey feet"]
)
def test_a_map_in_units_of_length(crs, meter):
    west, north = (400_000, 5_000_000) if crs == "EPSG:32633" else (980_000, 200_000)
    areas = measured(LABEL, crs, from_origin(west, north, 2, 3))
    assert areas.measured == "map"
    assert areas.square_meters == pytest.approx([x * 6 * meter**2 for x in areas.pixels])


def test_a_map_that_is_turned():
    transform = Affine.translation(400_000, 5_000_000) @ Affine.rotation(30) @ Affine.scale(2, -3)
    areas = measured(LABEL, "EPSG:32633", transform)
    assert areas.square_meters == pytest.approx([x * 6 for x in areas.pixels])


def test_degrees():
    """A quarter of a zone between two parallels, by the area of a sphere as large as the ellipsoid: 0.5 % apart."""
    areas = measured(LABEL, "EPSG:4326", from_origin(10, 50, 0.01, 0.01))
    assert areas.measured == "ellipsoid"
    radius = 6_371_007.2
    for index, (north, south) in enumerate(((50, 49), (49, 47))):
        zone = radius**2 * math.radians(3) * (math.sin(math.radians(north)) - math.sin(math.radians(south)))
        assert areas.square_meters[index] == pytest.approx(zone, rel=0.005)


def test_the_whole_earth():
    label = np.zeros((180, 360), np.uint8)
    areas = measured(label, "EPSG:4326", from_origin(-180, 90, 1, 1))
    assert areas.square_meters[0] == pytest.approx(510_065_621.724e6, rel=2e-4)  # of WGS 84


def test_web_mercator_is_measured_on_the_ground():
    """At 60 degrees north a pixel of the map covers a quarter of its size."""
    north = 8_399_737.9  # 60 degrees
    areas = measured(LABEL, "EPSG:3857", from_origin(1_100_000, north, 2, 2))
    assert areas.measured == "ellipsoid"
    assert areas.square_meters[0] == pytest.approx(areas.pixels[0] * 4 / 4, rel=0.01)


def test_degrees_and_utm_agree():
    """The same square kilometers, as UTM sees them and as their own longitudes and latitudes do."""
    from rasterio.warp import transform

    west, north = 500_000.0, 5_000_000.0  # on the central meridian, where the scale is 0.9996
    (lon, lon2), (lat, lat2) = transform("EPSG:32633", "EPSG:4326", [west, west + 3000], [north, north - 4000])[:2]
    label = np.zeros((400, 300), np.uint8)
    degrees = measured(label, "EPSG:4326", from_origin(lon, lat, (lon2 - lon) / 300, (lat - lat2) / 400))
    assert degrees.square_meters[0] * 0.9996**2 == pytest.approx(12_000_000, rel=2e-3)


@pytest.mark.parametrize("west", [179, -181])
def test_across_the_date_line(west):
    here, there = (
        partial(measured, LABEL, "EPSG:4326")(from_origin(x, 50, 0.01, 0.01)).square_meters[0] for x in (west, 10)
    )
    assert here == pytest.approx(there, rel=1e-9)


def test_a_place_that_is_nowhere():
    areas = measured(LABEL, 'LOCAL_CS["nowhere",UNIT["meter",1]]', from_origin(0, 0, 1, 1))
    assert areas.square_meters is None
    assert areas.measured is None
    assert areas.pixels == (30_000, 60_000, 0)
