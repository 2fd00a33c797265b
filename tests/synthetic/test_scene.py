import numpy as np
import pytest

from semask.data.classes import IGNORE_INDEX
from semask.synthetic.canvas import Canvas, Sheet
from semask.synthetic.classes import (
    BICYCLE,
    BUILDING,
    CAR,
    CLASSES,
    PALETTE,
    PAVEMENT,
    PERSON,
    POLE,
    RIDER,
    ROAD,
    SIGN,
    SKY,
    TREE,
)
from semask.synthetic.scene import _label, draw_scene
from semask.synthetic.things import draw_figure, draw_post, draw_poster

SMALL = (48, 64)


@pytest.fixture(scope="module")
def scenes():
    """Pictures [100, 192, 256, 3] and labels [100, 192, 256]."""
    drawn = [draw_scene(0, index) for index in range(100)]
    return np.stack([np.asarray(image) for image, _ in drawn]), np.stack([label for _, label in drawn])


def scene_bytes(seed, index, size=SMALL):
    image, label = draw_scene(seed, index, size=size)
    return image.tobytes() + label.tobytes()


def test_palette_has_a_color_of_its_own_for_each_class():
    assert len(set(PALETTE)) == len(PALETTE) == len(CLASSES)


def test_a_scene_is_a_function_of_its_arguments():
    first = scene_bytes(3, 5)
    np.random.seed(1)  # noqa: NPY002 - the global generator must not matter
    scene_bytes(3, 6)
    assert scene_bytes(3, 5) == first


def test_scenes_differ_by_seed_and_index():
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0)]
    assert len({scene_bytes(*key) for key in keys}) == len(keys)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (96, 40), (64, 200)])
def test_any_size_can_be_drawn(size):
    image, label = draw_scene(0, 1, size=size)
    assert image.mode == "RGB"
    assert image.size == (size[1], size[0])
    assert label.shape == size
    assert label.dtype == np.uint8


def test_labels_are_class_indices_or_ignored(scenes):
    values = np.unique(scenes[1])
    assert set(values.tolist()) == {*range(len(CLASSES)), IGNORE_INDEX}


def test_every_class_is_common_enough_to_be_learned(scenes):
    labels = scenes[1]
    for index, name in enumerate(CLASSES):
        assert (labels == index).any(axis=(1, 2)).mean() > 0.4, name
        assert (labels == index).mean() > 0.002, name


def test_small_things_stand_before_large_regions(scenes):
    labels = scenes[1]
    for large in (SKY, BUILDING, ROAD, PAVEMENT):
        assert (labels == large).mean() > 0.08, CLASSES[large]
    for small in (PERSON, RIDER, BICYCLE, SIGN, POLE):
        assert (labels == small).mean() < 0.03, CLASSES[small]


def test_a_thin_part_is_ignored(scenes):
    ignored = (scenes[1] == IGNORE_INDEX).mean(axis=(1, 2))
    assert ignored.min() > 0
    assert 0.01 < ignored.mean() < 0.08


def test_borders_are_ignored_exactly_where_a_pixel_mixes_classes():
    canvas = Canvas(np.random.default_rng(0), (32, 32))
    canvas.image.paste((0, 0, 0, ROAD), (0, 0, 64, 64))
    canvas.image.paste((0, 0, 0, CAR), (11, 20, 30, 40))
    label = _label(canvas)
    assert (label[10:20, 5] == IGNORE_INDEX).all()  # drawn columns 10 (road) and 11 (car)
    assert (label[10:20, 6:15] == CAR).all()
    assert (label == IGNORE_INDEX).sum() == 10
    assert (label == ROAD).sum() == 32 * 32 - 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1, "index": 0}, "seed -1"),
        ({"seed": 0, "index": -2}, "index -2"),
        ({"seed": 0, "index": 0, "size": (16, 64)}, "at least 32"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        draw_scene(**arguments)


# --- classes that look the same


def accuracy_by_color(scenes, first, second):
    """Balanced accuracy of telling two classes apart by a pixel's color, looked up in 50 scenes, measured on 50."""
    images, labels = scenes
    bins = (images.astype(int) >> 4) @ np.array([256, 16, 1])
    known, unknown = slice(None, None, 2), slice(1, None, 2)
    share = [
        np.bincount(bins[known][labels[known] == index], minlength=4096) / (labels[known] == index).sum()
        for index in (first, second)
    ]
    is_first = (share[0] >= share[1])[bins[unknown]]
    return (is_first[labels[unknown] == first].mean() + (~is_first)[labels[unknown] == second].mean()) / 2


@pytest.mark.parametrize(("first", "second"), [(ROAD, PAVEMENT), (PERSON, RIDER)])
def test_color_does_not_tell_classes_of_one_look_apart(scenes, first, second):
    assert accuracy_by_color(scenes, first, second) < 0.62


def test_color_tells_other_classes_apart(scenes):
    assert accuracy_by_color(scenes, SKY, TREE) > 0.85


def road_and_pavement_color(index):
    """Median colors of the two grounds in a band of rows before the camera, without marks and shadows."""
    image, label = draw_scene(0, index)
    picture = np.asarray(image)
    return [np.median(picture[label == ground], axis=0) for ground in (ROAD, PAVEMENT)]


def test_road_and_pavement_share_their_colors():
    pairs = np.array([road_and_pavement_color(index) for index in range(40)])
    difference = np.abs(pairs[:, 0] - pairs[:, 1]).max(axis=-1)
    spread = np.ptp(pairs[:, 0], axis=0).max()
    assert np.mean(difference < 12) > 0.25  # the very same color, but for shadows
    assert np.abs(pairs[:, 0].mean(axis=0) - pairs[:, 1].mean(axis=0)).max() < 0.15 * spread


@pytest.mark.parametrize(
    ("draw", "labels"),
    [
        (lambda canvas, label: draw_figure(canvas, Sheet(0, 8), label), (PERSON, RIDER)),
        (lambda canvas, label: draw_figure(canvas, Sheet(0, 8), label), (PERSON, BUILDING)),
        (lambda canvas, label: draw_post(canvas, Sheet(0, 8), 3.0, label), (POLE, TREE)),
    ],
)
def test_things_of_two_classes_are_painted_alike(draw, labels):
    drawn = []
    for label in labels:
        canvas = Canvas(np.random.default_rng(4), (96, 128))
        draw(canvas, label)
        drawn.append(np.asarray(canvas.image))
    first, second = drawn
    assert (first[..., :3] == second[..., :3]).all()
    assert (first[..., 3] == labels[0]).sum() > 20
    assert ((first[..., 3] == labels[0]) == (second[..., 3] == labels[1])).all()


def test_glass_mirrors_the_sky_but_is_building():
    canvas = Canvas(np.random.default_rng(0), (96, 128))
    before = np.asarray(canvas.image)
    x = canvas.camera_x
    canvas.mirror_sky([(x - 1, 3.0, 10.0), (x + 1, 3.0, 10.0), (x + 1, 6.0, 10.0), (x - 1, 6.0, 10.0)])
    after = np.asarray(canvas.image)
    glass = after[..., 3] == BUILDING
    assert glass.sum() > 100
    assert (after[glass][:, :3] == before[:, ::-1][glass][:, :3]).all()
    assert (after[~glass] == before[~glass]).all()


def test_posters_show_cars_and_people_that_are_building():
    before, after = set(), set()
    for seed in range(8):
        canvas = Canvas(np.random.default_rng(seed), (96, 128))
        canvas.image.paste((0, 0, 0, BUILDING), (0, 0, *canvas.image.size))
        before.update(np.unique(np.asarray(canvas.image)[..., :3]))
        draw_poster(canvas, Sheet(canvas.camera_x + 3, 8, y=1.0, turn=(0.0, 1.0)))
        after.update(np.unique(np.asarray(canvas.image)[..., :3]))
        assert (np.asarray(canvas.image)[..., 3] == BUILDING).all()
    assert before == {0}
    assert len(after) > 20
