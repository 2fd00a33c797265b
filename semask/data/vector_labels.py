"""Labels that are drawn on a map: polygons of a GeoPackage or a GeoJSON file, burned into the pixels of an image.

The files may be anybody's. GeoJSON is read as JSON; a GeoPackage is read into memory, by the only driver that its first
bytes ask for. So a file names no other file and no address, and nothing of it is run.
"""

import functools
import re
import threading
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from semask.data.bands import Window
from semask.data.chips import Grid
from semask.data.classes import IGNORE_INDEX
from semask.data.geo_files import import_rasterio
from semask.files.reading import parse_json, read_text, require_file
from semask.files.schema import quoted
from semask.files.text import one_line, reason

VECTOR_SUFFIXES = (".gpkg", ".geojson", ".json")
"""Endings, in lower case, of files with drawn labels."""
MOST_BYTES = 2**28
"""Bytes of a file with drawn labels that is read."""
MOST_SHAPES = 2**20
"""Shapes of a file."""
LARGEST_NUMBER = 2**24
"""Numbers of classes are below this, as in masks."""
_GPKG = (b"GPKG", b"GP10", b"GP11")  # application_id in the header of the database
_EPSG = re.compile(r"(?:urn:ogc:def:crs:)?EPSG:(?:[\w.]{0,10}:)?(\d{1,7})", re.ASCII)
_WGS84 = re.compile(r"(?:urn:ogc:def:crs:)?OGC:(?:[\w.]{0,10}:)?CRS84", re.ASCII)
_READING = threading.Lock()  # filters of warnings belong to all threads
_CRS84 = "OGC:CRS84"


class Shapes(NamedTuple):
    """What is drawn in a file.

    Args:
        geometries: Geometries of shapely, in the order of the file.
        bounds: Least x and y and greatest x and y of each [N, 4].
        values: Value of the attribute of each: a name or number of a class, or None.
    """

    geometries: NDArray[Any]
    bounds: NDArray[np.float64]
    values: tuple[Any, ...]

    def touching(self, bounds: tuple[float, float, float, float]) -> NDArray[np.int64]:
        """Which of them may lie in a rectangle: least x and y, greatest x and y."""
        left, bottom, right, top = self.bounds.T
        inside = (left < bounds[2]) & (right > bounds[0]) & (bottom < bounds[3]) & (top > bounds[1])
        found: NDArray[np.int64] = np.flatnonzero(inside)
        return found


@dataclass(frozen=True)
class Drawn:
    """The drawn labels of a part of an image; where shapes overlap, the last one of the file counts.

    Args:
        path: GeoPackage or GeoJSON file.
        grid: The image, which says where it lies.
        window: The part.
        names: Names of the classes, in their order.
        attribute: Attribute of the shapes that names their class, or is its number.
        layer: Layer of a GeoPackage; None for the only one.
    """

    path: Path
    grid: Grid
    window: Window
    names: tuple[str, ...]
    attribute: str
    layer: str | None

    def __str__(self) -> str:
        """Name the file."""
        return str(self.path)

    @property
    def outside(self) -> int:
        """Label of pixels that no shape covers: the class "background" if there is one, else they are ignored."""
        return self.names.index("background") if "background" in self.names else IGNORE_INDEX

    @property
    def is_empty(self) -> bool:
        """Whether nothing is labeled in the part."""
        return self.outside == IGNORE_INDEX and not len(self._shapes().touching(self._bounds()))

    def read(self) -> NDArray[np.int32]:
        """Burn the shapes into the pixels of the part: [H, W] of class indices and 255.

        Raises:
            ValueError: If the file can't be read, or a shape is of no class.
        """
        import_rasterio("drawn labels are burned in")
        from rasterio.features import rasterize

        shapes = self._shapes()
        burned = []
        for index in shapes.touching(self._bounds()):
            geometry = shapes.geometries[index]
            if geometry is not None and not geometry.is_empty:
                burned.append((geometry, self._number(shapes.values[index])))
        label = np.full(self.window.size, self.outside, np.int32)
        if burned:
            rasterize(burned, out=label, transform=self._transform())
        return label

    def _number(self, value: Any) -> int:
        """Number of the class that a value of the attribute names."""
        text = "" if value is None else str(value)
        if value is None or text == "nan":
            return IGNORE_INDEX
        if text in self.names:
            return self.names.index(text)
        number = text.removesuffix(".0")
        if number.isdecimal() and number.isascii() and len(number) < 9 and int(number) < LARGEST_NUMBER:
            return int(number)
        known = ", ".join(one_line(name, longest=40) for name in self.names[:5])
        raise ValueError(
            f"{one_line(self.path)}: the {one_line(self.attribute, longest=40)} {quoted(text, longest=60)} is no "
            f"class: expected {known}{' ...' if len(self.names) > 5 else ''}, or a number; correct the labels, "
            "classes.json or data.attribute"
        )

    def _shapes(self) -> Shapes:
        status = require_file(self.path, otherwise="give a GeoPackage or GeoJSON file").stat()
        version = (status.st_mtime_ns, status.st_size)
        return shapes_in(self.path, version, self.attribute, self.layer, self.grid.crs)

    def _transform(self) -> Any:
        a, b, _, d, e, _ = self.grid.transform
        x, y = self._place(0, 0)
        return import_rasterio().Affine(a, b, x, d, e, y)

    def _place(self, column: int, row: int) -> tuple[float, float]:
        """Coordinates of a corner of a pixel of the part."""
        a, b, c, d, e, f = self.grid.transform
        column, row = column + self.window.columns.start, row + self.window.rows.start
        return a * column + b * row + c, d * column + e * row + f

    def _bounds(self) -> tuple[float, float, float, float]:
        height, width = self.window.size
        corners = [self._place(*corner) for corner in ((0, 0), (width, 0), (0, height), (width, height))]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)


@functools.lru_cache(maxsize=4)
def shapes_in(path: Path, version: tuple[int, int], attribute: str, layer: str | None, crs: str) -> Shapes:
    """Read the shapes of a file, in the coordinate reference system of an image.

    Args:
        path: GeoPackage or GeoJSON file.
        version: Time and size of the file, so that another content is read again.
        attribute: Attribute that names the class.
        layer: Layer of a GeoPackage; None for the only one.
        crs: Reference system of the image as WKT, "" if it is not known.

    Raises:
        ValueError: If it can't be read, has no such attribute, or lies in a system that is not known.
    """
    try:
        import shapely
    except ImportError as error:
        raise ValueError("drawn labels are read with shapely and pyogrio: pip install 'semask[geo]'") from error
    rasterio = import_rasterio("drawn labels are burned in")
    read = _read_geopackage if path.suffix.lower() == ".gpkg" else _read_geojson
    try:
        geometries, values, source = read(path, attribute, layer)
        if len(geometries) > MOST_SHAPES:
            raise ValueError(f"{len(geometries):,} shapes, the limit is {MOST_SHAPES:,}: split the file")
        if source is not None:
            if not crs:
                raise ValueError("its image does not say where on earth it lies: give a GeoTIFF")
            target = rasterio.crs.CRS.from_wkt(crs)
            if source != target:
                geometries = shapely.transform(geometries, functools.partial(_moved, source, target))
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: {reason(error, longest=500)}") from error
    except Exception as error:  # the libraries raise nearly anything for damaged files
        raise ValueError(f"{one_line(path)}: not readable as drawn labels ({reason(error)}): save it again") from error
    return Shapes(geometries, shapely.bounds(geometries), tuple(values))


def _moved(source: Any, target: Any, points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bring points [N, 2] from one reference system to another."""
    from rasterio.warp import transform

    moved: NDArray[np.float64] = np.array(transform(source, target, points[:, 0], points[:, 1])).T
    if not np.isfinite(moved).all():
        raise ValueError("some shapes have no place in the reference system of the image: is theirs right?")
    return moved


def _read_geojson(path: Path, attribute: str, _: str | None) -> tuple[NDArray[Any], Sequence[Any], Any]:
    from rasterio.crs import CRS
    from shapely.geometry import shape

    values = parse_json(read_text(path, most=MOST_BYTES))
    features = values.get("features") if isinstance(values, Mapping) else None
    if not isinstance(features, list) or not all(isinstance(feature, Mapping) for feature in features):
        raise ValueError("not a GeoJSON file with features: save the labels as GeoJSON or GeoPackage")
    geometries = np.empty(len(features), dtype=object)
    found = []
    for number, feature in enumerate(features):
        geometry, properties = feature.get("geometry"), feature.get("properties") or {}
        geometries[number] = None if geometry is None else shape(geometry)
        if not isinstance(properties, Mapping) or attribute not in properties:
            names = ", ".join(one_line(name, longest=40) for name in list(properties)[:5]) or "none"
            wanted = one_line(attribute, longest=40)
            raise ValueError(f"feature {number} has no {wanted}, but {names}: see data.attribute")
        found.append(properties[attribute])
    named = values.get("crs")
    if named is None:  # RFC 7946: longitude and latitude
        return geometries, found, CRS.from_string(_CRS84)
    name = named.get("properties", {}).get("name") if isinstance(named, Mapping) else None
    code = _EPSG.fullmatch(str(name))
    if code is None and not _WGS84.fullmatch(str(name)):
        raise ValueError(f"its reference system {quoted(name)} is not known: save it with an EPSG code")
    return geometries, found, CRS.from_string(_CRS84) if code is None else CRS.from_epsg(int(code[1]))


def _read_geopackage(path: Path, attribute: str, layer: str | None) -> tuple[NDArray[Any], Sequence[Any], Any]:
    try:
        import pyogrio  # noqa: F401
    except ImportError as error:
        raise ValueError("a GeoPackage is read with pyogrio: pip install 'semask[geo]'") from error
    with _READING, warnings.catch_warnings():  # GDAL warns that content in memory has no ending
        warnings.simplefilter("ignore")
        return _shapes_of_geopackage(_content(path), attribute, layer)


def _shapes_of_geopackage(content: bytes, attribute: str, layer: str | None) -> tuple[NDArray[Any], Sequence[Any], Any]:
    import pyogrio
    import shapely

    layers = {str(name): kind for name, kind in pyogrio.list_layers(content)}
    drawn = [name for name, kind in layers.items() if kind is not None]
    if (layer is None and len(drawn) != 1) or (layer is not None and layer not in layers):
        names = ", ".join(one_line(name, longest=40) for name in drawn[:5]) or "none"
        raise ValueError(f"its layers with shapes are {names}: choose one with data.layer")
    layer = drawn[0] if layer is None else layer
    fields = [str(name) for name in pyogrio.read_info(content, layer=layer)["fields"]]
    if attribute not in fields:
        names = ", ".join(one_line(name, longest=40) for name in fields[:5]) or "none"
        raise ValueError(f"has no attribute {one_line(attribute, longest=40)}, but {names}: see data.attribute")
    about, _, shapes, columns = pyogrio.raw.read(
        content, layer=layer, columns=[attribute], force_2d=True, max_features=MOST_SHAPES + 1
    )
    return shapely.from_wkb(shapes), columns[0].tolist(), _reference(about["crs"])


def _content(path: Path) -> bytes:
    """Bytes of a GeoPackage.

    Raises:
        ValueError: If it is none, or too large.
    """
    require_file(path, otherwise="give a GeoPackage or GeoJSON file")
    with open(path, "rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES:,} bytes: split the file")
    if not content.startswith(b"SQLite format 3\0") or content[68:72] not in _GPKG:
        raise ValueError("not a GeoPackage: save the labels as GeoJSON or GeoPackage")
    return content


def _reference(text: str | None) -> Any:
    """Reference system from what pyogrio says: a code, or WKT; None for none."""
    from rasterio.crs import CRS

    if text is None:
        return None
    code = _EPSG.fullmatch(text)
    return CRS.from_wkt(text) if code is None else CRS.from_epsg(int(code[1]))
