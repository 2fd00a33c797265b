"""One synthetic scene: the picture of a street in perspective, and the class of each of its pixels.

`dataset.py` says what the scenes are for and which classes are made to look alike.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.classes import IGNORE_INDEX, Color
from semask.synthetic.buildings import FAR, draw_houses, draw_skyline
from semask.synthetic.canvas import Canvas, mix, on_ground
from semask.synthetic.classes import PAVEMENT, ROAD
from semask.synthetic.things import (
    draw_bicycle,
    draw_car,
    draw_crossing_car,
    draw_lamp,
    draw_person,
    draw_sign,
    draw_tree,
)

DRAWING = 1
"""Version of the pictures: raise it whenever they change, so that folders of older ones are not taken for new ones."""

_Draw = Callable[[Canvas, float, float], None]


def _draw_ground(canvas: Canvas) -> None:
    road = canvas.color(75, 170, grayness=0.85)
    pavement = road if canvas.chance(0.5) else canvas.color(75, 170, grayness=0.85)
    curb = mix(road, (225, 225, 220), 0.5)
    wide, half, edge = 400.0, canvas.road, canvas.road + 0.22
    bounds = (1.0, 4.0, 7.0, 11.0, 16.0, 24.0, 36.0, 55.0, 85.0, 400.0)
    for near, far in reversed(list(pairwise(bounds))):
        canvas.fill(on_ground(-wide, wide, near, far), pavement, PAVEMENT)
        canvas.fill(on_ground(-edge, edge, near, far), curb, PAVEMENT)
        canvas.fill(on_ground(-half, half, near, far), road, ROAD)
    for side in canvas.joining_sides:
        canvas.fill(on_ground(side * half * 0.95, side * wide, *canvas.junction), road, ROAD)
    _draw_marks(canvas, road)
    for _ in range(8):
        x, z, light = canvas.between(-1, 1) * canvas.edge, canvas.between(3, 30), int(canvas.between(190, 250))
        canvas.darken(on_ground(x, x + canvas.between(0.4, 3), z, z + canvas.between(0.5, 5)), light)
    if canvas.chance(0.5):
        reach, light = canvas.side() * canvas.between(0.1, 1.0) * canvas.road, int(canvas.between(120, 190))
        canvas.darken(on_ground(reach, math.copysign(wide, reach), 1, FAR), light)


def _draw_marks(canvas: Canvas, road: Color) -> None:
    paint = mix(road, (240, 240, 235), canvas.between(0.5, 0.95))
    lanes = (-canvas.road / 3, canvas.road / 3) if canvas.road > 5 else (0.0,)
    start, (near, far) = canvas.between(1, 4), canvas.junction
    for z in (start + 4.5 * k for k in range(12)):
        if not near - 4 < z < far:
            for x in lanes:
                canvas.fill(on_ground(x - 0.08, x + 0.08, z, z + 2.4), paint, ROAD)
    if canvas.chance(0.5):
        for k in range(int(canvas.road / 0.5)):
            x = -canvas.road + 0.3 + k
            canvas.fill(on_ground(x, x + 0.5, near - 3, near - 0.5), paint, ROAD)


def _draw_things(canvas: Canvas) -> None:
    """Put cars, people, trees and posts into the street and draw them from the farthest to the nearest."""

    def walk() -> float:
        return canvas.side() * canvas.between(canvas.road + 0.5, canvas.edge - 0.3)

    def drive() -> float:
        return canvas.between(0.3, 0.75) * canvas.road * canvas.side()

    kinds: Sequence[tuple[_Draw, range | float, Callable[[], float], float, float]] = (
        # What, how many (or how likely it is that there is one), its place across the street, its nearest and farthest.
        (draw_car, range(1, 5), drive, 6.5, 50),
        (draw_car, range(4), lambda: canvas.side() * (canvas.road - 1.0), 6.5, 40),
        (draw_crossing_car, 0.35, lambda: canvas.between(-9, 9), canvas.junction[0] + 1, canvas.junction[1] - 1),
        (draw_person, range(1, 7), walk, 6, 35),
        (draw_person, range(4), drive, 9, 30),
        (partial(draw_bicycle, ridden=True), range(1, 5), lambda: drive() if canvas.chance(0.6) else walk(), 6, 20),
        (draw_bicycle, 0.5, walk, 6, 20),
        (draw_tree, range(6), lambda: canvas.side() * (canvas.road + canvas.between(0.7, 1.5)), 7, 60),
        (draw_lamp, range(1, 5), lambda: canvas.side() * (canvas.road + 0.5), 7, 50),
        (draw_sign, range(1, 5), lambda: canvas.side() * (canvas.road + 0.6), 6, 22),
    )
    things: list[tuple[float, float, _Draw]] = []
    for draw, number, across, near, far in kinds:
        for _ in range(canvas.pick(number) if isinstance(number, range) else canvas.chance(number)):
            # Squared, so that most things are near and not just a few pixels large.
            x, z = across(), near + (far - near) * canvas.between(0, 1) ** 2
            cars = ((car_x, car_z) for car_z, car_x, kind in things if kind is draw_car)
            if not any(abs(x - car_x) < 1.7 and abs(z - car_z) < 5 for car_x, car_z in cars):
                things.append((z, x, draw))
    for z, x, draw in sorted(things, key=lambda thing: -thing[0]):
        draw(canvas, x, z)


def _draw_hood(canvas: Canvas) -> None:
    width, height = canvas.image.size
    top, middle = height * canvas.between(0.91, 0.96), width * canvas.between(0.35, 0.65)
    box = (middle - 0.6 * width, top, middle + 0.6 * width, height * 1.3)
    canvas.pen.ellipse(box, fill=(*canvas.color(20, 150, grayness=0.8), IGNORE_INDEX))


def _label(canvas: Canvas) -> NDArray[np.uint8]:
    """The class index of each pixel of the picture, `IGNORE_INDEX` where its four samples disagree."""
    samples = np.asarray(canvas.image.getchannel("A"))
    label = samples[::2, ::2].copy()
    for row, column in ((0, 1), (1, 0), (1, 1)):
        label[samples[row::2, column::2] != samples[::2, ::2]] = IGNORE_INDEX
    return label


def _picture(canvas: Canvas, label: NDArray[np.uint8]) -> Image.Image:
    """The scene at the size asked for, under its light and with the noise of a camera."""
    rng = canvas.rng
    picture = np.asarray(canvas.image.convert("RGB").reduce(2), dtype=np.float32)
    height, width = label.shape
    ground = ((label == ROAD) | (label == PAVEMENT))[..., None]
    picture *= np.where(ground, np.asarray(canvas.light.reduce(2), dtype=np.float32)[..., None] / 255, 1)
    coarse = Image.fromarray(rng.integers(205, 256, (4, 5), dtype=np.uint8)).resize((width, height))
    tint = np.float32(canvas.between(0.6, 1.3)) * rng.uniform(0.88, 1.12, 3).astype(np.float32)
    picture *= np.asarray(coarse, dtype=np.float32)[..., None] * (tint / 255)
    strength = canvas.between(6, 26)
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
    canvas = Canvas(np.random.default_rng([seed, index]), size)
    _draw_ground(canvas)
    draw_skyline(canvas)
    for side in (-1, 1):
        draw_houses(canvas, side)
    _draw_things(canvas)
    if canvas.chance(0.5):
        _draw_hood(canvas)
    label = _label(canvas)
    return _picture(canvas, label), label
