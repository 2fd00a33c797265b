"""A synthetic scene while it is drawn: the camera, the picture and the labels, and the shapes that others draw with."""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageDraw

from semask.data.classes import Color
from semask.synthetic.classes import BUILDING, SKY

Option = TypeVar("Option")
Point = tuple[float, float, float]
Outline = Sequence[tuple[float, float]]
Shape = Sequence[tuple[str, *tuple[Outline, ...]]]

CIRCLE = [(math.cos(math.pi * k / 5), math.sin(math.pi * k / 5)) for k in range(10)]
_WEATHER = (  # color of the sky overhead and above the horizon
    ((70, 130, 210), (190, 215, 240)),
    ((110, 160, 220), (225, 225, 225)),
    ((150, 155, 165), (185, 185, 190)),
    ((60, 70, 120), (240, 170, 120)),
    ((195, 200, 210), (225, 225, 230)),
)


def disc(u: float, v: float, radius: float) -> Outline:
    """Outline of a disc around (u, v), a decagon."""
    return [(u + radius * x, v + radius * y) for x, y in CIRCLE]


def box(left: float, bottom: float, right: float, top: float) -> Outline:
    """Outline of a rectangle."""
    return [(left, bottom), (right, bottom), (right, top), (left, top)]


def mix(color: Color, other: Color, share: float) -> Color:
    """Mix two colors; `share` in [0, 1] is that of the other."""
    (r, g, b), (s, h, c) = color, other
    return round(r + share * (s - r)), round(g + share * (h - g)), round(b + share * (c - b))


def on_ground(x0: float, x1: float, z0: float, z1: float) -> list[Point]:
    """A rectangle on the ground, from x0 to x1 and from z0 to z1."""
    return [(x0, 0.0, z0), (x1, 0.0, z0), (x1, 0.0, z1), (x0, 0.0, z1)]


class Sheet(NamedTuple):
    """A flat upright sheet on which a shape is drawn; it faces the camera unless turned."""

    x: float  # of its origin, in meters to the right of the road's middle
    z: float  # of its origin, in meters from the camera along the street
    y: float = 0.0  # of its origin, in meters above the ground
    turn: tuple[float, float] = (1.0, 0.0)  # unit vector (x, z) along which its horizontal axis runs
    scale: float = 1.0  # meters in the street for a meter on the sheet

    def place(self, outline: Outline) -> list[Point]:
        """Points of the sheet (across, up) as points of the street (x, y, z)."""
        (dx, dz), s = self.turn, self.scale
        return [(self.x + s * u * dx, self.y + s * v, self.z + s * u * dz) for u, v in outline]


class Canvas:
    """A scene while a pinhole camera that looks along the street draws it, twice as large as asked for.

    The picture is RGBA and its fourth channel is the class index: one stroke paints both the picture and the label.
    Lengths in the picture are in drawn pixels, those in the street in meters.
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

    def pick(self, options: Sequence[Option]) -> Option:
        return options[int(self.rng.integers(len(options)))]

    def color(self, low: int, high: int, *, grayness: float = 0.0) -> Color:
        """A color with channels in [low, high), drawn towards its mean by `grayness` in [0, 1]."""
        red, green, blue = (int(channel) for channel in self.rng.integers(low, high, 3))
        mean = (red + green + blue) // 3
        return mix((red, green, blue), (mean, mean, mean), grayness)

    def project(self, points: Sequence[Point]) -> list[tuple[int, int]]:
        focal, middle, horizon, left, up = self.focal, self.middle, self.horizon, self.camera_x, self.camera_height
        return [(round(middle + focal * (x - left) / z), round(horizon + focal * (up - y) / z)) for x, y, z in points]

    def fill(self, points: Sequence[Point], color: Color, label: int) -> None:
        """Paint a polygon of the street, the hazier the farther it is."""
        z = points[0][2]
        outline = self.project(points)
        self.pen.polygon(outline, fill=(*mix(color, self.haze, z / (z + self.visibility)), label))

    def draw(self, sheet: Sheet, shape: Shape, paints: dict[str, Color], label: int) -> None:
        for paint, *outlines in shape:
            for outline in outlines:
                self.fill(sheet.place(outline), paints[paint], label)

    def darken(self, points: Sequence[Point], light: int) -> None:
        """Let only `light` in [0, 255] reach a polygon of the ground: shadows, and patches of new asphalt."""
        self.light_pen.polygon(self.project(points), fill=light)

    def mirror_sky(self, points: Sequence[Point]) -> None:
        mask = Image.new("1", self.image.size)
        ImageDraw.Draw(mask).polygon(self.project(points), fill=1)
        self.image.paste(self.mirrored_sky, mask=mask)


def _draw_sky(canvas: Canvas, size: tuple[int, int]) -> Image.Image:
    top, low = canvas.pick(_WEATHER)
    soft = size[0] // 4, size[1] // 4
    ramp = np.array([top, mix(top, low, 0.6), low, low], dtype=np.uint8)
    sky = Image.fromarray(ramp[:, None]).resize(soft, Image.Resampling.BILINEAR)
    cover, shade = canvas.between(90, 220), int(canvas.rng.integers(205, 256))
    waves = Image.fromarray(canvas.rng.integers(0, 256, (9, 7), dtype=np.uint8)).resize(soft, Image.Resampling.BICUBIC)
    clouds = waves.point([max(0, min(220, round(4 * (value - cover)))) for value in range(256)])
    sky.paste((shade, shade, shade), mask=clouds)
    sky = sky.resize(size, Image.Resampling.BILINEAR)
    sky.putalpha(SKY)
    return sky
