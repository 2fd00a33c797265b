"""The classes of the synthetic scenes."""

from semask.data.classes import Color

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
"""One RGB color in [0, 255] a class."""
SKY, BUILDING, ROAD, PAVEMENT, TREE, POLE, SIGN, CAR, PERSON, RIDER, BICYCLE = range(len(CLASSES))
