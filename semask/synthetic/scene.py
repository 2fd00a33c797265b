"""One scene of the synthetic data set: the picture of a street in perspective, and the class of each of its pixels.

`synthetic.py` says what the scenes are for and which classes are made to look alike.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from semask.data.classes import IGNORE_INDEX, Color

_COLORS: dict[str, Color] = {
    "sky": (70, 130, 180),
    "building": (90, 90, 90),
    "road": (128, 64, 128),
    "pavement": (244, 35, 232),
    "tree": (107, 142, 35),
    "pole": (190, 190, 190),
    "sign": (220, 220, 0),
    "car": (0, 0, 142),
    "person": (220, 20, 60),
    "rider": (255, 128, 0),
    "bicycle": (0, 170, 150),
}
CLASSES = tuple(_COLORS)
"""Class names in the order of their indices."""
PALETTE = tuple(_COLORS.values())
"""One RGB colour in [0, 255] a class."""
SKY, BUILDING, ROAD, PAVEMENT, TREE, POLE, SIGN, CAR, PERSON, RIDER, BICYCLE = range(len(CLASSES))

DRAWING = 1
"""Version of the pictures: raise it whenever they change, so that folders of older ones are not taken for new ones."""

_NEAR, _FAR = 1.5, 130.0  # metres: the part of the street that is drawn

_Draw = Callable[["_Scene", float, float], None]
_Option = TypeVar("_Option")
_Point = tuple[float, float, float]
_Outline = Sequence[tuple[float, float]]
_Shape = Sequence[tuple[str, *tuple[_Outline, ...]]]

_CIRCLE = [(math.cos(math.pi * k / 5), math.sin(math.pi * k / 5)) for k in range(10)]


def _disc(u: float, v: float, radius: float) -> _Outline:
    return [(u + radius * x, v + radius * y) for x, y in _CIRCLE]


def _box(left: float, bottom: float, right: float, top: float) -> _Outline:
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


# A shape is a list of (paint, outlines in metres: across, up), painted in this order; it stands on the height 0.
_CAR_BACK: _Shape = [
    ("dark", _box(-0.82, 0.0, -0.52, 0.4), _box(0.52, 0.0, 0.82, 0.4)),
    ("body", [(-0.75, 0.9), (0.75, 0.9), (0.6, 1.47), (-0.6, 1.47)]),
    ("glass", [(-0.64, 0.95), (0.64, 0.95), (0.52, 1.36), (-0.52, 1.36)]),
    ("body", _box(-0.88, 0.3, 0.88, 0.95)),
    ("dark", _box(-0.88, 0.22, 0.88, 0.42)),
    ("lamp", _box(-0.86, 0.68, -0.58, 0.87), _box(0.58, 0.68, 0.86, 0.87)),
    ("plate", _box(-0.25, 0.5, 0.25, 0.62)),
]
_CAR_FLANK: _Shape = [
    ("body", [(0.5, 0.9), (3.6, 0.9), (2.9, 1.45), (0.1, 1.45)]),
    ("glass", [(0.5, 0.97), (3.2, 0.97), (2.7, 1.36), (0.4, 1.36)]),
    ("body", _box(0, 0.28, 4.1, 0.95)),
    ("dark", _disc(0.85, 0.33, 0.34), _disc(3.2, 0.33, 0.34)),
]
_CAR_SIDE: _Shape = [
    ("body", [(-1.5, 0.85), (1.25, 0.85), (0.6, 1.45), (-1.0, 1.45)]),
    ("glass", [(-1.3, 0.92), (-0.2, 0.92), (-0.2, 1.37), (-0.95, 1.37)]),
    ("glass", [(-0.1, 0.92), (1.05, 0.92), (0.52, 1.37), (-0.1, 1.37)]),
    ("body", [(-2.1, 0.28), (2.1, 0.28), (2.1, 0.72), (1.9, 0.86), (1.1, 0.95), (-2.0, 0.95)]),
    ("lamp", _box(1.85, 0.6, 2.1, 0.74)),
    ("dark", _disc(-1.3, 0.33, 0.34), _disc(1.3, 0.33, 0.34)),
    ("plate", _disc(-1.3, 0.33, 0.16), _disc(1.3, 0.33, 0.16)),
]
_FIGURE: _Shape = [
    ("legs", [(-0.2, 0.85), (0.0, 0.85), (-0.08, 0.0), (-0.26, 0.0)]),
    ("legs", [(0.0, 0.85), (0.2, 0.85), (0.32, 0.0), (0.14, 0.0)]),
    ("arms", [(-0.22, 1.42), (0.22, 1.42), (0.36, 0.85), (-0.36, 0.85)]),
    ("top", [(-0.22, 1.45), (0.22, 1.45), (0.2, 0.8), (-0.2, 0.8)]),
    ("skin", _disc(0.02, 1.6, 0.16)),
]
_BICYCLE: _Shape = [
    ("tyre", _disc(-0.55, 0.36, 0.36), _disc(0.55, 0.36, 0.36)),
    ("rim", _disc(-0.55, 0.36, 0.25), _disc(0.55, 0.36, 0.25)),
    ("frame", [(-0.58, 0.3), (0.05, 0.3), (0.45, 0.85), (-0.25, 0.85)]),
    ("frame", [(0.48, 0.36), (0.62, 0.36), (0.45, 1.1), (0.28, 1.1)]),
]
_BOARDS = (_disc(0, 0, 0.45), _box(-0.45, -0.4, 0.45, 0.4), [(-0.52, -0.35), (0.52, -0.35), (0.0, 0.6)])  # of signs
_BOARD_COLORS = ((200, 30, 40), (30, 70, 180), (235, 200, 40), (235, 235, 235))
_WEATHER = (  # colour of the sky overhead and above the horizon
    ((70, 130, 210), (190, 215, 240)),
    ((110, 160, 220), (225, 225, 225)),
    ((150, 155, 165), (185, 185, 190)),
    ((60, 70, 120), (240, 170, 120)),
    ((195, 200, 210), (225, 225, 230)),
)


def _mix(color: Color, other: Color, share: float) -> Color:
    (r, g, b), (s, h, c) = color, other
    return round(r + share * (s - r)), round(g + share * (h - g)), round(b + share * (c - b))


def _on_ground(x0: float, x1: float, z0: float, z1: float) -> list[_Point]:
    return [(x0, 0.0, z0), (x1, 0.0, z0), (x1, 0.0, z1), (x0, 0.0, z1)]


class _Sheet(NamedTuple):
    """A flat upright sheet on which a shape is drawn; it faces the camera unless turned."""

    x: float  # of its origin, in metres to the right of the road's middle
    z: float  # of its origin, in metres from the camera along the street
    y: float = 0.0  # of its origin, in metres above the ground
    turn: tuple[float, float] = (1.0, 0.0)  # unit vector (x, z) along which its horizontal axis runs
    scale: float = 1.0  # metres in the street for a metre on the sheet

    def place(self, outline: _Outline) -> list[_Point]:
        """Points of the sheet (across, up) as points of the street (x, y, z)."""
        (dx, dz), s = self.turn, self.scale
        return [(self.x + s * u * dx, self.y + s * v, self.z + s * u * dz) for u, v in outline]


class _Scene:
    """A scene while a pinhole camera that looks along the street draws it, twice as large as asked for.

    The picture is RGBA and its fourth channel is the class index: one stroke paints both the picture and the label.
    Lengths in the picture are in drawn pixels, those in the street in metres.
    """

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        height, width = 2 * size[0], 2 * size[1]
        self.rng = rng
        self.road = self.between(2.8, 5.6)  # half its width
        self.edge = self.road + self.between(2.5, 6.0)  # where the houses begin
        self.visibility = 60.0 if self.chance(0.12) else self.between(150, 700)
        self.focal, self.middle = height * self.between(0.9, 1.25), width * self.between(0.3, 0.7)
        self.horizon = height * self.between(0.36, 0.54)
        self.camera_x, self.camera_height = self.between(-0.8, 0.8) * self.edge, self.between(1.4, 2.6)
        self.sky = _draw_sky(self, (width, height))
        horizon = int(self.horizon)
        red, green, blue, _ = np.asarray(self.sky.crop((0, horizon, width, horizon + 1))).mean(axis=(0, 1))
        self.haze = (round(red), round(green), round(blue))
        self.mirrored_sky = self.sky.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        self.mirrored_sky.putalpha(BUILDING)
        self.image = self.sky.copy()
        self.pen = ImageDraw.Draw(self.image)
        self.light = Image.new("L", (width, height), 255)  # what reaches the ground; labels bound it
        self.light_pen = ImageDraw.Draw(self.light)
        near = self.between(14, 32)
        self.junction = near, near + self.between(6, 10)  # from z to z, where other streets join
        self.joining_sides = self.pick(((-1,), (1,), (-1, 1), ()))  # -1 left, 1 right

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def side(self) -> int:
        return -1 if self.chance(0.5) else 1

    def pick(self, options: Sequence[_Option]) -> _Option:
        return options[int(self.rng.integers(len(options)))]

    def color(self, low: int, high: int, *, greyness: float = 0.0) -> Color:
        """A colour with channels in [low, high), drawn towards its mean by `greyness` in [0, 1]."""
        red, green, blue = (int(channel) for channel in self.rng.integers(low, high, 3))
        mean = (red + green + blue) // 3
        return _mix((red, green, blue), (mean, mean, mean), greyness)

    def project(self, points: Sequence[_Point]) -> list[tuple[int, int]]:
        focal, middle, horizon, left, up = self.focal, self.middle, self.horizon, self.camera_x, self.camera_height
        return [(round(middle + focal * (x - left) / z), round(horizon + focal * (up - y) / z)) for x, y, z in points]

    def fill(self, points: Sequence[_Point], color: Color, label: int) -> None:
        """Paint a polygon of the street, the hazier the farther it is."""
        z = points[0][2]
        outline = self.project(points)
        self.pen.polygon(outline, fill=(*_mix(color, self.haze, z / (z + self.visibility)), label))

    def draw(self, sheet: _Sheet, shape: _Shape, paints: dict[str, Color], label: int) -> None:
        for paint, *outlines in shape:
            for outline in outlines:
                self.fill(sheet.place(outline), paints[paint], label)

    def darken(self, points: Sequence[_Point], light: int) -> None:
        """Let only `light` in [0, 255] reach a polygon of the ground: shadows, and patches of new asphalt."""
        self.light_pen.polygon(self.project(points), fill=light)

    def mirror_sky(self, points: Sequence[_Point]) -> None:
        mask = Image.new("1", self.image.size)
        ImageDraw.Draw(mask).polygon(self.project(points), fill=1)
        self.image.paste(self.mirrored_sky, mask=mask)


def _draw_sky(scene: _Scene, size: tuple[int, int]) -> Image.Image:
    top, low = scene.pick(_WEATHER)
    soft = size[0] // 4, size[1] // 4
    ramp = np.array([top, _mix(top, low, 0.6), low, low], dtype=np.uint8)
    sky = Image.fromarray(ramp[:, None]).resize(soft, Image.Resampling.BILINEAR)
    cover, shade = scene.between(90, 220), int(scene.rng.integers(205, 256))
    waves = Image.fromarray(scene.rng.integers(0, 256, (9, 7), dtype=np.uint8)).resize(soft, Image.Resampling.BICUBIC)
    clouds = waves.point([max(0, min(220, round(4 * (value - cover)))) for value in range(256)])
    sky.paste((shade, shade, shade), mask=clouds)
    sky = sky.resize(size, Image.Resampling.BILINEAR)
    sky.putalpha(SKY)
    return sky


def _draw_ground(scene: _Scene) -> None:
    road = scene.color(75, 170, greyness=0.85)
    pavement = road if scene.chance(0.5) else scene.color(75, 170, greyness=0.85)
    kerb = _mix(road, (225, 225, 220), 0.5)
    wide, half, edge = 400.0, scene.road, scene.road + 0.22
    bounds = (1.0, 4.0, 7.0, 11.0, 16.0, 24.0, 36.0, 55.0, 85.0, 400.0)
    for near, far in reversed(list(pairwise(bounds))):
        scene.fill(_on_ground(-wide, wide, near, far), pavement, PAVEMENT)
        scene.fill(_on_ground(-edge, edge, near, far), kerb, PAVEMENT)
        scene.fill(_on_ground(-half, half, near, far), road, ROAD)
    for side in scene.joining_sides:
        scene.fill(_on_ground(side * half * 0.95, side * wide, *scene.junction), road, ROAD)
    _draw_marks(scene, road)
    for _ in range(8):
        x, z, light = scene.between(-1, 1) * scene.edge, scene.between(3, 30), int(scene.between(190, 250))
        scene.darken(_on_ground(x, x + scene.between(0.4, 3), z, z + scene.between(0.5, 5)), light)
    if scene.chance(0.5):
        reach, light = scene.side() * scene.between(0.1, 1.0) * scene.road, int(scene.between(120, 190))
        scene.darken(_on_ground(reach, math.copysign(wide, reach), 1, _FAR), light)


def _draw_marks(scene: _Scene, road: Color) -> None:
    paint = _mix(road, (240, 240, 235), scene.between(0.5, 0.95))
    lanes = (-scene.road / 3, scene.road / 3) if scene.road > 5 else (0.0,)
    start, (near, far) = scene.between(1, 4), scene.junction
    for z in (start + 4.5 * k for k in range(12)):
        if not near - 4 < z < far:
            for x in lanes:
                scene.fill(_on_ground(x - 0.08, x + 0.08, z, z + 2.4), paint, ROAD)
    if scene.chance(0.5):
        for k in range(int(scene.road / 0.5)):
            x = -scene.road + 0.3 + k
            scene.fill(_on_ground(x, x + 0.5, near - 3, near - 0.5), paint, ROAD)


def _draw_skyline(scene: _Scene) -> None:
    x = scene.camera_x - _FAR * scene.middle / scene.focal
    end = x + _FAR * scene.image.width / scene.focal
    while x < end:
        width, height = scene.between(10, 35), scene.between(5, 26)
        sheet = _Sheet(x, _FAR)
        if scene.chance(0.55):
            scene.fill(sheet.place(_box(0, -1, width, height)), scene.color(60, 190, greyness=0.6), BUILDING)
        elif scene.chance(0.7):
            _draw_crown(scene, sheet._replace(x=x + width / 2), width / 2, height / 2)
            scene.fill(sheet.place(_box(0, -1, width, height / 3)), (60, 90, 50), TREE)
        x += width


def _draw_houses(scene: _Scene, side: int) -> None:
    fronts = []
    z, (near, far) = _NEAR, scene.junction
    while z < _FAR - 10:
        length = scene.between(7, 18)
        if side in scene.joining_sides and z < far and z + length > near:
            fronts.append((z, near - z))
            z = far
            continue
        if scene.chance(0.88):
            fronts.append((z, length))
        z += length
    for z, length in reversed(fronts):
        if length > 1:
            _draw_house(scene, side, z, length)


def _draw_house(scene: _Scene, side: int, z: float, length: float) -> None:
    x = side * (scene.edge + scene.between(0, 1.5))
    height = scene.between(5, 11) if scene.chance(0.55) else scene.between(11, 24)
    wall = scene.color(60, 225, greyness=scene.between(0.4, 0.95))
    front, gable = _Sheet(x, z, turn=(0.0, 1.0)), _Sheet(x, z, turn=(float(side), 0.0))
    if height < 11:
        roof, ridge = scene.color(50, 150, greyness=0.4), scene.between(1.5, 3.5)
        slope = [(x, height, z), (x + 4 * side, height + ridge, z)]
        scene.fill([*slope, *((px, py, z + length) for px, py, _ in reversed(slope))], roof, BUILDING)
        scene.fill(gable.place([(0, height), (8, height), (4, height + ridge)]), wall, BUILDING)
    scene.fill(gable.place(_box(0, -0.1, 9, height)), _mix(wall, (30, 30, 40), 0.25), BUILDING)
    scene.fill(front.place(_box(0, -0.1, length, height)), wall, BUILDING)
    if height > 11 and scene.chance(0.5):
        scene.mirror_sky(front.place(_box(0.3, 3, length - 0.3, height - 0.4)))
        _draw_bars(scene, front, length, height, wall)
    elif z < 70:
        _draw_windows(scene, front, length, height, wall)
    if length > 5 and z < 30 and scene.chance(0.35):
        _draw_poster(scene, front._replace(y=scene.between(0.6, 3.0), z=z + scene.between(0.5, length - 4.5)))


def _draw_bars(scene: _Scene, front: _Sheet, length: float, height: float, wall: Color) -> None:
    for k in range(1, int(height / 3)):
        scene.fill(front.place(_box(0.3, 3 * k, length - 0.3, 3 * k + 0.2)), wall, BUILDING)
    for k in range(1, int(length / 3)):
        scene.fill(front.place(_box(3 * k, 3, 3 * k + 0.2, height - 0.4)), wall, BUILDING)


def _draw_windows(scene: _Scene, front: _Sheet, length: float, height: float, wall: Color) -> None:
    width, step, storey = scene.between(0.8, 1.6), scene.between(2.0, 3.2), scene.between(2.7, 3.5)
    panes = (scene.color(30, 80), scene.haze, _mix(wall, (245, 225, 150), 0.8))
    grid = int(height / storey), int((length - 0.6) / step)
    choice = scene.rng.integers(0, len(panes), grid) // (1 + scene.rng.integers(0, 3))
    for (row, column), pane in np.ndenumerate(choice):
        low, high = (0.4, 2.5) if row == 0 else (row * storey + 0.8, row * storey + 2.3)
        u = 0.6 + column * step
        scene.fill(front.place(_box(u, low, u + width, high)), panes[pane], BUILDING)
    if scene.chance(0.4):
        scene.fill(front.place(_box(0.2, 2.6, length - 0.2, 3.2)), scene.pick(_BOARD_COLORS), BUILDING)


def _draw_poster(scene: _Scene, sheet: _Sheet) -> None:
    """A picture of a street on a wall: it shows a car or people, and all of it is building."""
    scene.fill(sheet.place(_box(-0.15, -0.15, 4.15, 2.65)), (40, 40, 45), BUILDING)
    scene.fill(sheet.place(_box(0, 0, 4, 2.5)), scene.haze, BUILDING)
    scene.fill(sheet.place(_box(0, 0, 4, 0.8)), scene.color(75, 170, greyness=0.85), BUILDING)
    z, y = sheet.z, sheet.y
    if scene.chance(0.6):
        shape, scale = (_CAR_SIDE, 0.9) if scene.chance(0.5) else (_CAR_BACK, 1.3)
        scene.draw(sheet._replace(z=z + 2, y=y + 0.3, scale=scale), shape, _car_paints(scene), BUILDING)
    else:
        for u in (0.9, 2.2, 3.1)[: scene.pick((1, 2, 3))]:
            _draw_figure(scene, sheet._replace(z=z + u, y=y + 0.2, scale=1.2), BUILDING)


def _car_paints(scene: _Scene) -> dict[str, Color]:
    lamp = (190, 25, 25) if scene.chance(0.6) else (240, 235, 200)
    body = scene.color(25, 235, greyness=scene.between(0, 0.8))
    glass = _mix((45, 55, 65), scene.haze, scene.between(0.1, 0.7))
    return {"body": body, "glass": glass, "dark": (28, 28, 30), "lamp": lamp, "plate": (205, 205, 205)}


def _draw_car(scene: _Scene, x: float, z: float) -> None:
    """A car that stands or drives along the street, with the flank that the camera sees."""
    paints = _car_paints(scene)
    flank = _Sheet(x - 0.88 if x > scene.camera_x else x + 0.88, z, turn=(0.0, 1.0))
    scene.darken(_on_ground(x - 1.0, x + 1.0, z - 0.2, z + 4.2), 110)
    scene.draw(flank, _CAR_FLANK, paints | {"body": _mix(paints["body"], (0, 0, 0), 0.3)}, CAR)
    scene.draw(_Sheet(x, z), _CAR_BACK, paints, CAR)


def _draw_crossing_car(scene: _Scene, x: float, z: float) -> None:
    scene.darken(_on_ground(x - 2.2, x + 2.2, z - 0.2, z + 1.4), 110)
    scene.draw(_Sheet(x, z, turn=(float(scene.side()), 0.0)), _CAR_SIDE, _car_paints(scene), CAR)


def _draw_figure(scene: _Scene, sheet: _Sheet, label: int) -> None:
    top = scene.color(20, 240, greyness=scene.between(0, 0.7))
    skin = _mix((95, 60, 45), (235, 195, 170), scene.between(0, 1))
    paints = {"legs": scene.color(20, 120), "arms": _mix(top, (0, 0, 0), 0.2), "top": top, "skin": skin}
    scene.draw(sheet, _FIGURE, paints, label)


def _draw_person(scene: _Scene, x: float, z: float) -> None:
    scene.darken(_on_ground(x - 0.3, x + 0.5, z - 0.1, z + 0.5), 120)
    _draw_figure(scene, _Sheet(x, z, turn=(float(scene.side()), 0.0), scale=scene.between(0.85, 1.1)), PERSON)


def _draw_bicycle(scene: _Scene, x: float, z: float, *, ridden: bool = False) -> None:
    dx, dz = scene.pick(((1.0, 0.0), (0.8, 0.6), (0.6, 0.8)))
    sheet = _Sheet(x, z, turn=(dx * scene.side(), dz))
    paints = {"tyre": (25, 25, 28), "rim": scene.color(80, 160, greyness=0.8), "frame": scene.color(20, 230)}
    scene.darken(_on_ground(x - 0.9, x + 0.9, z - 0.2, z + 0.4), 120)
    if ridden:
        _draw_figure(scene, _Sheet(x, z, y=0.42), RIDER)
    scene.draw(sheet, _BICYCLE, paints, BICYCLE)


def _draw_post(scene: _Scene, sheet: _Sheet, height: float, label: int) -> None:
    """A lamp's or a sign's post, or a trunk: they look the same, what stands on top tells them apart."""
    # Thinner than three drawn pixels, it might own no whole pixel of the picture.
    half = max(scene.between(0.05, 0.13), 1.6 * sheet.z / scene.focal)
    color = _mix((75, 60, 48), (120, 120, 120), scene.between(0, 1))
    scene.fill(sheet.place(_box(-half, 0, half, height)), color, label)


def _draw_crown(scene: _Scene, sheet: _Sheet, across: float, up: float) -> None:
    leaf = _mix((35, 75, 30), (140, 150, 55) if scene.chance(0.8) else (190, 110, 40), scene.between(0, 1))
    for k in range(6):
        u, v, r = scene.between(-0.6, 0.6), scene.between(-0.5, 0.6), scene.between(0.35, 0.6)
        outline = [(across * (u + r * x), sheet.y + up * (1 + v + r * y)) for x, y in _CIRCLE]
        scene.fill(sheet._replace(y=0).place(outline), _mix(leaf, (15, 35, 15), 0.4 - k / 18), TREE)


def _draw_tree(scene: _Scene, x: float, z: float) -> None:
    height, crown = scene.between(2.2, 3.4), scene.between(1.2, 2.4)
    scene.darken(_on_ground(x - crown, x + crown, z - 0.5, z + 1.5), 140)
    _draw_post(scene, _Sheet(x, z), height, TREE)
    _draw_crown(scene, _Sheet(x, z, y=height - 0.3 * crown), crown, crown)


def _draw_lamp(scene: _Scene, x: float, z: float) -> None:
    height, reach = scene.between(4.5, 7.0), -math.copysign(scene.between(0.8, 1.8), x)
    sheet = _Sheet(x, z)
    _draw_post(scene, sheet, height, POLE)
    arm = [(0, height), (0, height - 0.2), (reach, height), (reach, height + 0.2)]
    scene.fill(sheet.place(arm), (95, 95, 95), POLE)
    scene.fill(sheet.place(_box(reach - 0.3, height - 0.1, reach + 0.3, height + 0.2)), (220, 215, 190), POLE)


def _draw_sign(scene: _Scene, x: float, z: float) -> None:
    height, board = scene.between(2.2, 3.0), scene.pick(_BOARDS)
    outer, inner = scene.pick(_BOARD_COLORS), scene.pick(_BOARD_COLORS)
    _draw_post(scene, _Sheet(x, z), height + 0.2, POLE)
    for scale, color in ((1.0, outer), (0.6, inner)):
        scene.fill(_Sheet(x, z, y=height + 0.3, scale=scale).place(board), color, SIGN)


def _draw_things(scene: _Scene) -> None:
    """Put cars, people, trees and posts into the street and draw them from the farthest to the nearest."""

    def walk() -> float:
        return scene.side() * scene.between(scene.road + 0.5, scene.edge - 0.3)

    def drive() -> float:
        return scene.between(0.3, 0.75) * scene.road * scene.side()

    kinds: Sequence[tuple[_Draw, range | float, Callable[[], float], float, float]] = (
        # What, how many (or how likely it is that there is one), its place across the street, its nearest and farthest.
        (_draw_car, range(1, 5), drive, 6.5, 50),
        (_draw_car, range(4), lambda: scene.side() * (scene.road - 1.0), 6.5, 40),
        (_draw_crossing_car, 0.35, lambda: scene.between(-9, 9), scene.junction[0] + 1, scene.junction[1] - 1),
        (_draw_person, range(1, 7), walk, 6, 35),
        (_draw_person, range(4), drive, 9, 30),
        (partial(_draw_bicycle, ridden=True), range(1, 5), lambda: drive() if scene.chance(0.6) else walk(), 6, 20),
        (_draw_bicycle, 0.5, walk, 6, 20),
        (_draw_tree, range(6), lambda: scene.side() * (scene.road + scene.between(0.7, 1.5)), 7, 60),
        (_draw_lamp, range(1, 5), lambda: scene.side() * (scene.road + 0.5), 7, 50),
        (_draw_sign, range(1, 5), lambda: scene.side() * (scene.road + 0.6), 6, 22),
    )
    things: list[tuple[float, float, _Draw]] = []
    for draw, number, across, near, far in kinds:
        for _ in range(scene.pick(number) if isinstance(number, range) else scene.chance(number)):
            # Squared, so that most things are near and not just a few pixels large.
            x, z = across(), near + (far - near) * scene.between(0, 1) ** 2
            cars = ((car_x, car_z) for car_z, car_x, kind in things if kind is _draw_car)
            if not any(abs(x - car_x) < 1.7 and abs(z - car_z) < 5 for car_x, car_z in cars):
                things.append((z, x, draw))
    for z, x, draw in sorted(things, key=lambda thing: -thing[0]):
        draw(scene, x, z)


def _draw_bonnet(scene: _Scene) -> None:
    width, height = scene.image.size
    top, middle = height * scene.between(0.91, 0.96), width * scene.between(0.35, 0.65)
    box = (middle - 0.6 * width, top, middle + 0.6 * width, height * 1.3)
    scene.pen.ellipse(box, fill=(*scene.color(20, 150, greyness=0.8), IGNORE_INDEX))


def _label(scene: _Scene) -> NDArray[np.uint8]:
    """The class index of each pixel of the picture, `IGNORE_INDEX` where its four drawn samples disagree."""
    samples = np.asarray(scene.image.getchannel("A"))
    label = samples[::2, ::2].copy()
    for row, column in ((0, 1), (1, 0), (1, 1)):
        label[samples[row::2, column::2] != samples[::2, ::2]] = IGNORE_INDEX
    return label


def _picture(scene: _Scene, label: NDArray[np.uint8]) -> Image.Image:
    """The scene at the size asked for, under its light and with the noise of a camera."""
    rng = scene.rng
    picture = np.asarray(scene.image.convert("RGB").reduce(2), dtype=np.float32)
    height, width = label.shape
    ground = ((label == ROAD) | (label == PAVEMENT))[..., None]
    picture *= np.where(ground, np.asarray(scene.light.reduce(2), dtype=np.float32)[..., None] / 255, 1)
    coarse = Image.fromarray(rng.integers(205, 256, (4, 5), dtype=np.uint8)).resize((width, height))
    tint = np.float32(scene.between(0.6, 1.3)) * rng.uniform(0.88, 1.12, 3).astype(np.float32)
    picture *= np.asarray(coarse, dtype=np.float32)[..., None] * (tint / 255)
    strength = scene.between(6, 26)
    grain = rng.integers(0, 256, (height, width, 3), dtype=np.uint8).astype(np.float32) / 255 - 0.5
    picture += grain * np.float32(strength)
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def check_scene(seed: int, index: int, size: tuple[int, int]) -> None:
    """Raise a ValueError if there is no such scene; see `draw_scene`."""
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index must be 0 or more, but got seed {seed} and index {index}")
    if len(size) != 2 or min(size) < 32:
        raise ValueError(f"size must be a height and a width of at least 32 pixels, but got {tuple(size)}")


def draw_scene(seed: int, index: int, *, size: tuple[int, int] = (192, 256)) -> tuple[Image.Image, NDArray[np.uint8]]:
    """Draw one scene; the same arguments always give the same scene.

    Args:
        seed: Number of the data set, 0 or more.
        index: Number of the scene in the data set, 0 or more.
        size: Height and width of the picture, in pixels.

    Returns:
        The picture (RGB) and its label [H, W] of class indices, `IGNORE_INDEX` where a pixel has none.

    Raises:
        ValueError: If a number is negative or a side is below 32 pixels.

    >>> image, label = draw_scene(0, 0, size=(96, 128))
    >>> image.size, label.shape
    ((128, 96), (96, 128))
    """
    check_scene(seed, index, size)
    scene = _Scene(np.random.default_rng([seed, index]), size)
    _draw_ground(scene)
    _draw_skyline(scene)
    for side in (-1, 1):
        _draw_houses(scene, side)
    _draw_things(scene)
    if scene.chance(0.5):
        _draw_bonnet(scene)
    label = _label(scene)
    return _picture(scene, label), label
