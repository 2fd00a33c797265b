from pathlib import Path

import numpy as np
import pytest
from rasterio.features import shapes as traced

from semask.data.shapes import (
    IGNORED,
    MOST_POINTS,
    MOST_POINTS_OF_AN_IMAGE,
    DrawnLabel,
    PackedShapes,
    Shape,
    draw,
    ring_of,
    size_of,
)

SIZE = (24, 32)


def square(first: float, last: float) -> np.ndarray:
    return ring_of([first, first, last, first, last, last, first, last])


@pytest.mark.parametrize("seed", range(6))
def test_a_mask_that_is_traced_along_its_pixels_comes_back(seed):
    mask = np.random.default_rng(seed).integers(0, 4, SIZE).astype(np.uint8)
    if seed % 2:
        mask = np.kron(mask[:6, :8], np.ones((4, 4), dtype=np.uint8))
    # What lies in a hole is drawn over it: lists of polygons have no holes.
    parts = sorted(traced(mask, connectivity=4), key=lambda part: -np.ptp(part[0]["coordinates"][0], axis=0).prod())
    drawn = [Shape(int(value), [ring_of(geometry["coordinates"][0][:-1])]) for geometry, value in parts]
    label = DrawnLabel(Path("a.json"), Path("a.png"), SIZE, PackedShapes.of(drawn)).read()
    assert (label == mask).all()


def test_packed_shapes_are_the_same_again():
    class Stamp:
        def decode(self, size: tuple[int, int]) -> np.ndarray:
            return np.ones(size, dtype=bool)

    stamp = Stamp()
    shapes = [
        Shape(1, [square(0, 2), square(4, 9)], group=3),
        Shape(IGNORED, mask=stamp),
        Shape(0),
        Shape(2, [square(1, 2)]),
    ]
    again = PackedShapes.of(shapes).unpack()
    for ours, theirs in zip(again, shapes, strict=True):
        assert (ours.value, ours.mask, ours.group) == (theirs.value, theirs.mask, theirs.group)
        assert [ring.tolist() for ring in ours.rings] == [ring.tolist() for ring in theirs.rings]
    assert PackedShapes.of([]).unpack() == []


def test_ignored_shapes_come_first_and_small_ones_last():
    shapes = [Shape(1, [square(2, 4)]), Shape(IGNORED, [square(0, 6)]), Shape(2, [square(0, 5)])]
    assert draw(shapes, (6, 6), 0, overlap="file")[3].tolist() == [2, 2, 2, 2, 2, IGNORED]
    assert draw(shapes, (6, 6), 0, overlap="small_over_large")[3].tolist() == [2, 2, 1, 1, 2, IGNORED]


def test_polygons_beyond_the_image_and_crossing_themselves():
    wide = Shape(1, [ring_of([-1e6, -1e6, 1e6, -1e6, 1e6, 2, -1e6, 2])])
    assert draw([wide], (4, 3), 0, overlap="file").tolist() == [[1] * 3] * 2 + [[0] * 3] * 2
    outside = Shape(1, [square(10, 20)])
    assert not draw([outside], (4, 3), 0, overlap="file").any()
    bow = Shape(1, [ring_of([0, 0, 4, 4, 4, 0, 0, 4])])
    assert draw([bow], (4, 4), 0, overlap="file")[1].tolist() in (
        [1, 0, 0, 1],
        [1, 1, 1, 1],
        [1, 0, 1, 1],
        [1, 1, 0, 1],
    )


def test_the_outline_belongs_to_a_polygon_with_edges():
    shape = [Shape(1, [square(1, 3)])]
    assert draw(shape, (5, 5), 0, overlap="file").sum() == 4
    assert draw(shape, (5, 5), 0, overlap="file", edges=True).sum() == 9


def test_limits():
    assert ring_of([]) is None
    assert ring_of([1, 2, 3, 4]) is None
    for values in ("x", None, [True] * 6, [[1, 2, 3]] * 3, [10**400] * 6, [[1, 2], [3]], [1.0] * (2 * MOST_POINTS + 2)):
        with pytest.raises(ValueError, match="a polygon"):
            ring_of(values)
    many = [Shape(1, [np.zeros((MOST_POINTS, 2), dtype=np.float32)])] * (MOST_POINTS_OF_AN_IMAGE // MOST_POINTS + 1)
    with pytest.raises(ValueError, match="simplify them"):
        PackedShapes.of(many)
    assert size_of(None, None) is None
    assert size_of(4.0, 6) == (4, 6)
    for height, width in ((0, 4), (-1, 4), (10**9, 10**9), ("4", 4), (True, 4), (4, None), (float("nan"), 4)):
        with pytest.raises(ValueError, match=r"."):
            size_of(height, width)
