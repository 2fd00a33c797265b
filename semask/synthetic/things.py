"""What stands and moves in a synthetic scene: cars, people, bicycles, trees, lamps and signs, and their pictures."""

import math

from semask.data.classes import Color
from semask.synthetic.canvas import CIRCLE, Canvas, Shape, Sheet, box, disc, mix, on_ground
from semask.synthetic.classes import BICYCLE, BUILDING, CAR, PERSON, POLE, RIDER, SIGN, TREE

# A shape is a list of (paint, outlines in meters: across, up), painted in this order; it stands on the height 0.
_CAR_BACK: Shape = [
    ("dark", box(-0.82, 0.0, -0.52, 0.4), box(0.52, 0.0, 0.82, 0.4)),
    ("body", [(-0.75, 0.9), (0.75, 0.9), (0.6, 1.47), (-0.6, 1.47)]),
    ("glass", [(-0.64, 0.95), (0.64, 0.95), (0.52, 1.36), (-0.52, 1.36)]),
    ("body", box(-0.88, 0.3, 0.88, 0.95)),
    ("dark", box(-0.88, 0.22, 0.88, 0.42)),
    ("lamp", box(-0.86, 0.68, -0.58, 0.87), box(0.58, 0.68, 0.86, 0.87)),
    ("plate", box(-0.25, 0.5, 0.25, 0.62)),
]
_CAR_FLANK: Shape = [
    ("body", [(0.5, 0.9), (3.6, 0.9), (2.9, 1.45), (0.1, 1.45)]),
    ("glass", [(0.5, 0.97), (3.2, 0.97), (2.7, 1.36), (0.4, 1.36)]),
    ("body", box(0, 0.28, 4.1, 0.95)),
    ("dark", disc(0.85, 0.33, 0.34), disc(3.2, 0.33, 0.34)),
]
_CAR_SIDE: Shape = [
    ("body", [(-1.5, 0.85), (1.25, 0.85), (0.6, 1.45), (-1.0, 1.45)]),
    ("glass", [(-1.3, 0.92), (-0.2, 0.92), (-0.2, 1.37), (-0.95, 1.37)]),
    ("glass", [(-0.1, 0.92), (1.05, 0.92), (0.52, 1.37), (-0.1, 1.37)]),
    ("body", [(-2.1, 0.28), (2.1, 0.28), (2.1, 0.72), (1.9, 0.86), (1.1, 0.95), (-2.0, 0.95)]),
    ("lamp", box(1.85, 0.6, 2.1, 0.74)),
    ("dark", disc(-1.3, 0.33, 0.34), disc(1.3, 0.33, 0.34)),
    ("plate", disc(-1.3, 0.33, 0.16), disc(1.3, 0.33, 0.16)),
]
_FIGURE: Shape = [
    ("legs", [(-0.2, 0.85), (0.0, 0.85), (-0.08, 0.0), (-0.26, 0.0)]),
    ("legs", [(0.0, 0.85), (0.2, 0.85), (0.32, 0.0), (0.14, 0.0)]),
    ("arms", [(-0.22, 1.42), (0.22, 1.42), (0.36, 0.85), (-0.36, 0.85)]),
    ("top", [(-0.22, 1.45), (0.22, 1.45), (0.2, 0.8), (-0.2, 0.8)]),
    ("skin", disc(0.02, 1.6, 0.16)),
]
_BICYCLE: Shape = [
    ("tire", disc(-0.55, 0.36, 0.36), disc(0.55, 0.36, 0.36)),
    ("rim", disc(-0.55, 0.36, 0.25), disc(0.55, 0.36, 0.25)),
    ("frame", [(-0.58, 0.3), (0.05, 0.3), (0.45, 0.85), (-0.25, 0.85)]),
    ("frame", [(0.48, 0.36), (0.62, 0.36), (0.45, 1.1), (0.28, 1.1)]),
]
_BOARDS = (disc(0, 0, 0.45), box(-0.45, -0.4, 0.45, 0.4), [(-0.52, -0.35), (0.52, -0.35), (0.0, 0.6)])  # of signs
BOARD_COLORS = ((200, 30, 40), (30, 70, 180), (235, 200, 40), (235, 235, 235))


def car_paints(canvas: Canvas) -> dict[str, Color]:
    """Choose the colors of a car."""
    lamp = (190, 25, 25) if canvas.chance(0.6) else (240, 235, 200)
    body = canvas.color(25, 235, grayness=canvas.between(0, 0.8))
    glass = mix((45, 55, 65), canvas.haze, canvas.between(0.1, 0.7))
    return {"body": body, "glass": glass, "dark": (28, 28, 30), "lamp": lamp, "plate": (205, 205, 205)}


def draw_car(canvas: Canvas, x: float, z: float) -> None:
    """A car that stands or drives along the street, with the flank that the camera sees."""
    paints = car_paints(canvas)
    flank = Sheet(x - 0.88 if x > canvas.camera_x else x + 0.88, z, turn=(0.0, 1.0))
    canvas.darken(on_ground(x - 1.0, x + 1.0, z - 0.2, z + 4.2), 110)
    canvas.draw(flank, _CAR_FLANK, paints | {"body": mix(paints["body"], (0, 0, 0), 0.3)}, CAR)
    canvas.draw(Sheet(x, z), _CAR_BACK, paints, CAR)


def draw_crossing_car(canvas: Canvas, x: float, z: float) -> None:
    """Draw a car that drives across the street, seen from the side."""
    canvas.darken(on_ground(x - 2.2, x + 2.2, z - 0.2, z + 1.4), 110)
    canvas.draw(Sheet(x, z, turn=(float(canvas.side()), 0.0)), _CAR_SIDE, car_paints(canvas), CAR)


def draw_figure(canvas: Canvas, sheet: Sheet, label: int) -> None:
    """Draw a person of any class on a sheet."""
    top = canvas.color(20, 240, grayness=canvas.between(0, 0.7))
    skin = mix((95, 60, 45), (235, 195, 170), canvas.between(0, 1))
    paints = {"legs": canvas.color(20, 120), "arms": mix(top, (0, 0, 0), 0.2), "top": top, "skin": skin}
    canvas.draw(sheet, _FIGURE, paints, label)


def draw_person(canvas: Canvas, x: float, z: float) -> None:
    """Draw a person on foot, and the shadow."""
    canvas.darken(on_ground(x - 0.3, x + 0.5, z - 0.1, z + 0.5), 120)
    draw_figure(canvas, Sheet(x, z, turn=(float(canvas.side()), 0.0), scale=canvas.between(0.85, 1.1)), PERSON)


def draw_bicycle(canvas: Canvas, x: float, z: float, *, ridden: bool = False) -> None:
    """Draw a bicycle, and its rider if it is ridden."""
    dx, dz = canvas.pick(((1.0, 0.0), (0.8, 0.6), (0.6, 0.8)))
    sheet = Sheet(x, z, turn=(dx * canvas.side(), dz))
    paints = {"tire": (25, 25, 28), "rim": canvas.color(80, 160, grayness=0.8), "frame": canvas.color(20, 230)}
    canvas.darken(on_ground(x - 0.9, x + 0.9, z - 0.2, z + 0.4), 120)
    if ridden:
        draw_figure(canvas, Sheet(x, z, y=0.42), RIDER)
    canvas.draw(sheet, _BICYCLE, paints, BICYCLE)


def draw_post(canvas: Canvas, sheet: Sheet, height: float, label: int) -> None:
    """A lamp's or a sign's post, or a trunk: they look the same, what stands on top tells them apart."""
    # Thinner than three drawn pixels, it might own no whole pixel of the picture.
    half = max(canvas.between(0.05, 0.13), 1.6 * sheet.z / canvas.focal)
    color = mix((75, 60, 48), (120, 120, 120), canvas.between(0, 1))
    canvas.fill(sheet.place(box(-half, 0, half, height)), color, label)


def draw_crown(canvas: Canvas, sheet: Sheet, across: float, up: float) -> None:
    """Draw the crown of a tree; `across` and `up` are half its width and height."""
    leaf = mix((35, 75, 30), (140, 150, 55) if canvas.chance(0.8) else (190, 110, 40), canvas.between(0, 1))
    for k in range(6):
        u, v, r = canvas.between(-0.6, 0.6), canvas.between(-0.5, 0.6), canvas.between(0.35, 0.6)
        outline = [(across * (u + r * x), sheet.y + up * (1 + v + r * y)) for x, y in CIRCLE]
        canvas.fill(sheet._replace(y=0).place(outline), mix(leaf, (15, 35, 15), 0.4 - k / 18), TREE)


def draw_tree(canvas: Canvas, x: float, z: float) -> None:
    """Draw a tree: a post with a crown."""
    height, crown = canvas.between(2.2, 3.4), canvas.between(1.2, 2.4)
    canvas.darken(on_ground(x - crown, x + crown, z - 0.5, z + 1.5), 140)
    draw_post(canvas, Sheet(x, z), height, TREE)
    draw_crown(canvas, Sheet(x, z, y=height - 0.3 * crown), crown, crown)


def draw_lamp(canvas: Canvas, x: float, z: float) -> None:
    """Draw a street lamp: a post with an arm over the road."""
    height, reach = canvas.between(4.5, 7.0), -math.copysign(canvas.between(0.8, 1.8), x)
    sheet = Sheet(x, z)
    draw_post(canvas, sheet, height, POLE)
    arm = [(0, height), (0, height - 0.2), (reach, height), (reach, height + 0.2)]
    canvas.fill(sheet.place(arm), (95, 95, 95), POLE)
    canvas.fill(sheet.place(box(reach - 0.3, height - 0.1, reach + 0.3, height + 0.2)), (220, 215, 190), POLE)


def draw_sign(canvas: Canvas, x: float, z: float) -> None:
    """Draw a traffic sign: a post with a board."""
    height, board = canvas.between(2.2, 3.0), canvas.pick(_BOARDS)
    outer, inner = canvas.pick(BOARD_COLORS), canvas.pick(BOARD_COLORS)
    draw_post(canvas, Sheet(x, z), height + 0.2, POLE)
    for scale, color in ((1.0, outer), (0.6, inner)):
        canvas.fill(Sheet(x, z, y=height + 0.3, scale=scale).place(board), color, SIGN)


def draw_poster(canvas: Canvas, sheet: Sheet) -> None:
    """A picture of a street on a wall: it shows a car or people, and all of it is building."""
    canvas.fill(sheet.place(box(-0.15, -0.15, 4.15, 2.65)), (40, 40, 45), BUILDING)
    canvas.fill(sheet.place(box(0, 0, 4, 2.5)), canvas.haze, BUILDING)
    canvas.fill(sheet.place(box(0, 0, 4, 0.8)), canvas.color(75, 170, grayness=0.85), BUILDING)
    z, y = sheet.z, sheet.y
    if canvas.chance(0.6):
        shape, scale = (_CAR_SIDE, 0.9) if canvas.chance(0.5) else (_CAR_BACK, 1.3)
        canvas.draw(sheet._replace(z=z + 2, y=y + 0.3, scale=scale), shape, car_paints(canvas), BUILDING)
    else:
        for u in (0.9, 2.2, 3.1)[: canvas.pick((1, 2, 3))]:
            draw_figure(canvas, sheet._replace(z=z + u, y=y + 0.2, scale=1.2), BUILDING)
