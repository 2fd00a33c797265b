"""The houses of a synthetic scene: those along the street, and the skyline behind them."""

import numpy as np

from semask.data.classes import Color
from semask.synthetic.canvas import Canvas, Sheet, box, mix
from semask.synthetic.classes import BUILDING, TREE
from semask.synthetic.things import BOARD_COLORS, draw_crown, draw_poster

NEAR, FAR = 1.5, 130.0
"""Meters from the camera: the part of the street that is drawn."""


def draw_skyline(canvas: Canvas) -> None:
    """Draw houses and trees far behind the street."""
    x = canvas.camera_x - FAR * canvas.middle / canvas.focal
    end = x + FAR * canvas.image.width / canvas.focal
    while x < end:
        width, height = canvas.between(10, 35), canvas.between(5, 26)
        sheet = Sheet(x, FAR)
        if canvas.chance(0.55):
            canvas.fill(sheet.place(box(0, -1, width, height)), canvas.color(60, 190, grayness=0.6), BUILDING)
        elif canvas.chance(0.7):
            draw_crown(canvas, sheet._replace(x=x + width / 2), width / 2, height / 2)
            canvas.fill(sheet.place(box(0, -1, width, height / 3)), (60, 90, 50), TREE)
        x += width


def draw_houses(canvas: Canvas, side: int) -> None:
    """Draw the houses on one side of the street, -1 left and 1 right."""
    fronts = []
    z, (near, far) = NEAR, canvas.junction
    while z < FAR - 10:
        length = canvas.between(7, 18)
        if side in canvas.joining_sides and z < far and z + length > near:
            fronts.append((z, near - z))
            z = far
            continue
        if canvas.chance(0.88):
            fronts.append((z, length))
        z += length
    for z, length in reversed(fronts):
        if length > 1:
            _draw_house(canvas, side, z, length)


def _draw_house(canvas: Canvas, side: int, z: float, length: float) -> None:
    x = side * (canvas.edge + canvas.between(0, 1.5))
    height = canvas.between(5, 11) if canvas.chance(0.55) else canvas.between(11, 24)
    wall = canvas.color(60, 225, grayness=canvas.between(0.4, 0.95))
    front, gable = Sheet(x, z, turn=(0.0, 1.0)), Sheet(x, z, turn=(float(side), 0.0))
    if height < 11:
        roof, ridge = canvas.color(50, 150, grayness=0.4), canvas.between(1.5, 3.5)
        slope = [(x, height, z), (x + 4 * side, height + ridge, z)]
        canvas.fill([*slope, *((px, py, z + length) for px, py, _ in reversed(slope))], roof, BUILDING)
        canvas.fill(gable.place([(0, height), (8, height), (4, height + ridge)]), wall, BUILDING)
    canvas.fill(gable.place(box(0, -0.1, 9, height)), mix(wall, (30, 30, 40), 0.25), BUILDING)
    canvas.fill(front.place(box(0, -0.1, length, height)), wall, BUILDING)
    if height > 11 and canvas.chance(0.5):
        canvas.mirror_sky(front.place(box(0.3, 3, length - 0.3, height - 0.4)))
        _draw_bars(canvas, front, length, height, wall)
    elif z < 70:
        _draw_windows(canvas, front, length, height, wall)
    if length > 5 and z < 30 and canvas.chance(0.35):
        draw_poster(canvas, front._replace(y=canvas.between(0.6, 3.0), z=z + canvas.between(0.5, length - 4.5)))


def _draw_bars(canvas: Canvas, front: Sheet, length: float, height: float, wall: Color) -> None:
    for k in range(1, int(height / 3)):
        canvas.fill(front.place(box(0.3, 3 * k, length - 0.3, 3 * k + 0.2)), wall, BUILDING)
    for k in range(1, int(length / 3)):
        canvas.fill(front.place(box(3 * k, 3, 3 * k + 0.2, height - 0.4)), wall, BUILDING)


def _draw_windows(canvas: Canvas, front: Sheet, length: float, height: float, wall: Color) -> None:
    width, step, story = canvas.between(0.8, 1.6), canvas.between(2.0, 3.2), canvas.between(2.7, 3.5)
    panes = (canvas.color(30, 80), canvas.haze, mix(wall, (245, 225, 150), 0.8))
    grid = int(height / story), int((length - 0.6) / step)
    choice = canvas.rng.integers(0, len(panes), grid) // (1 + canvas.rng.integers(0, 3))
    for (row, column), pane in np.ndenumerate(choice):
        low, high = (0.4, 2.5) if row == 0 else (row * story + 0.8, row * story + 2.3)
        u = 0.6 + column * step
        canvas.fill(front.place(box(u, low, u + width, high)), panes[pane], BUILDING)
    if canvas.chance(0.4):
        canvas.fill(front.place(box(0.2, 2.6, length - 0.2, 3.2)), canvas.pick(BOARD_COLORS), BUILDING)
