import re
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
from PIL import Image
from torchvision import tv_tensors

from semask.data.classes import IGNORE_INDEX, Classes, default_palette
from semask.data.dataset import SegmentationDataset
from semask.data.formats.folder import write_classes
from semask.data.source import Data

CLASSES = Classes(("road", "sky", "tree"), ((128, 64, 128), (70, 130, 180), (107, 142, 35)))


def pair(root: Path, stem: str, values: list[list[int]], *, size: tuple[int, int] | None = None) -> tuple[Path, Path]:
    label = np.array(values)
    label = label.astype(np.uint8 if label.max() < 256 else np.uint16)
    Image.fromarray(label).save(root / f"{stem}_label.png")
    Image.new("RGB", size or label.shape[::-1], (10, 20, 30)).save(root / f"{stem}.png")
    return root / f"{stem}.png", root / f"{stem}_label.png"


def test_item(tmp_path):
    dataset = SegmentationDataset([pair(tmp_path, "a", [[0, 1, 2], [255, 0, 1]])], CLASSES)
    image, label = dataset[0]
    assert isinstance(image, tv_tensors.Image)
    assert isinstance(label, tv_tensors.Mask)
    assert image.shape == (3, 2, 3)
    assert image.dtype == label.dtype == torch.uint8
    assert image[:, 1, 2].tolist() == [10, 20, 30]
    assert label.tolist() == [[0, 1, 2], [255, 0, 1]]
    assert len(dataset) == 1


@pytest.mark.parametrize(("channels", "pixel"), [(1, [18]), (3, [10, 20, 30]), (4, [10, 20, 30, 255])])
def test_channels(tmp_path, channels, pixel):
    dataset = SegmentationDataset([pair(tmp_path, "a", [[0, 1, 2]])], CLASSES, channels=channels)
    assert dataset.image(0).shape == (channels, 1, 3)
    assert dataset.image(0)[:, 0, 1].tolist() == pixel


def test_renumber(tmp_path):
    pairs = [pair(tmp_path, "a", [[0, 7, 300, 255]])]
    dataset = SegmentationDataset(pairs, CLASSES, renumber={0: 255, 7: 2, 300: 0})
    assert dataset[0][1].tolist() == [[255, 2, 0, 255]]


@pytest.mark.parametrize(
    ("values", "renumber", "message"),
    [
        ([[0, 3, 9]], None, r'3, 9 are not classes of "street": expected 0\.\.2, 255'),
        ([[0, 3, 9]], {0: 0, 9: 1, 10: 2}, r'3 is not a class of "street": expected 0, 9\.\.10, 255'),
        ([[0, 60000]], None, r'60000 is not a class of "street"'),
        ([list(range(20))], None, r"3, 4, 5, 6, 7 and 12 more values are not classes of"),
    ],
)
def test_values_out_of_range(tmp_path, values, renumber, message):
    image, mask = pair(tmp_path, "a", values)
    dataset = SegmentationDataset([(image, mask)], CLASSES, name="street", renumber=renumber)
    with pytest.raises(ValueError, match=f"^{re.escape(str(mask))}: {message}") as error:
        dataset[0]
    assert "\n" not in str(error.value)


def test_negative_values_are_refused(tmp_path):
    image, mask = pair(tmp_path, "a", [[0, 1]])
    mask = mask.with_suffix(".tif")
    Image.fromarray(np.array([[-1, 1]], dtype=np.int32)).save(mask)
    with pytest.raises(ValueError, match="-1 is not a class of"):
        SegmentationDataset([(image, mask)], CLASSES)[0]


@pytest.mark.parametrize("renumber", [{0: 3}, {0: -1}, {-1: 0}])
def test_renumber_to_no_class(tmp_path, renumber):
    with pytest.raises(ValueError, match="renumber"):
        SegmentationDataset([pair(tmp_path, "a", [[0]])], CLASSES, renumber=renumber)


def test_colored_masks(tmp_path):
    image, mask = pair(tmp_path, "a", [[0, 1, 2, 255]])
    colors = np.array([[*CLASSES.palette, (0, 0, 0)]], dtype=np.uint8)
    Image.fromarray(colors).save(mask)
    dataset = SegmentationDataset([(image, mask)], CLASSES, colored_masks=True)
    assert dataset[0][1].tolist() == [[0, 1, 2, 255]]
    colors[0, 0] = (1, 2, 3)
    Image.fromarray(colors).save(mask)
    with pytest.raises(ValueError, match=r"\(1, 2, 3\) is not a color of the palette"):
        dataset[0]
    with pytest.raises(ValueError, match='RGB, but "dataset" gives no palette'):
        SegmentationDataset([(image, mask)], CLASSES)[0]


def test_black_can_be_a_class(tmp_path):
    classes = Classes(("a", "b"), ((0, 0, 0), (255, 255, 255)))
    image, mask = pair(tmp_path, "a", [[0, 1]])
    Image.fromarray(np.array([[[255] * 3, [0] * 3]], dtype=np.uint8)).save(mask)
    assert SegmentationDataset([(image, mask)], classes, colored_masks=True)[0][1].tolist() == [[1, 0]]


def test_colors_must_tell_classes_apart(tmp_path):
    classes = Classes(("a", "b"), ((1, 1, 1), (1, 1, 1)))
    with pytest.raises(ValueError, match="share a color"):
        SegmentationDataset([pair(tmp_path, "a", [[0]])], classes, colored_masks=True)


def test_mask_of_another_size(tmp_path):
    image, mask = pair(tmp_path, "a", [[0, 1, 2]], size=(5, 4))
    dataset = SegmentationDataset([(image, mask)], CLASSES)
    for read in (lambda: dataset[0], dataset.check, lambda: dataset.check(level="labels")):
        with pytest.raises(ValueError, match=r"a_label.png: the mask has 3 x 1 pixels, its image .*a.png 5 x 4"):
            read()


@pytest.mark.parametrize("turned", [False, True])
def test_orientation_follows_the_mask(tmp_path, turned):
    image, mask = pair(tmp_path, "a", np.zeros((6, 4) if turned else (4, 6), dtype=int).tolist())
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(image, exif=exif)
    dataset = SegmentationDataset([(image, mask)], CLASSES)
    assert dataset[0][0].shape[1:] == dataset[0][1].shape == ((6, 4) if turned else (4, 6))
    assert dataset.check(level="labels").pixels.tolist() == dataset.check().pixels.tolist() == [24, 0, 0]


def test_check_counts_pixels(tmp_path):
    pairs = [pair(tmp_path, "a", [[0, 1, 1, 255]]), pair(tmp_path, "b", [[2, 1], [1, 1]])]
    dataset = SegmentationDataset(pairs, CLASSES)
    shown = []

    def track(items, what, count):
        shown.extend([what, count])
        for item in items:
            shown.append(item.pixels.tolist())
            yield item

    counts = dataset.check(track=track).pixels
    assert shown == ["Checking dataset", 2, [1, 2, 0], [0, 3, 1]]
    assert counts.dtype == np.int64
    assert counts.tolist() == dataset.check(level="labels").pixels.tolist() == [1, 5, 1]
    assert dataset.check(level="none").pixels.tolist() == [0, 0, 0]


def test_check_names_the_first_problem_and_counts_the_others(tmp_path):
    pairs = [pair(tmp_path, f"{i:02}", [[0, 1]]) for i in range(12)]
    for index in (3, 7, 11):
        pairs[index][0].write_bytes(b"")
    dataset = SegmentationDataset(pairs, CLASSES)
    with pytest.raises(ValueError, match=r"03\.png: the file is empty .*\(and 2 more of 12 pairs have a problem\)$"):
        dataset.check()


def test_level_labels_does_not_decode_images(tmp_path):
    image, mask = pair(tmp_path, "a", np.zeros((64, 64), dtype=int).tolist())
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(image)
    image.write_bytes(image.read_bytes()[:5000])
    dataset = SegmentationDataset([(image, mask)], CLASSES)
    assert dataset.check(level="labels").pixels.tolist() == [4096, 0, 0]
    with pytest.raises(ValueError, match="damaged"):
        dataset.check()


def test_empty_mask(tmp_path):
    dataset = SegmentationDataset([pair(tmp_path, "a", [[255, 255]])], CLASSES)
    with pytest.raises(ValueError, match=r"a_label.png: every pixel is ignored: .*allow_empty_masks"):
        dataset.check()
    assert dataset.check(allow_empty_masks=True).pixels.sum() == 0


def test_no_pairs():
    with pytest.raises(ValueError, match="no images"):
        SegmentationDataset([], CLASSES)


@pytest.mark.parametrize(
    ("names", "palette", "message"),
    [
        ((), (), "0 classes"),
        (tuple(f"c{i}" for i in range(256)), (), "256 classes"),
        (("a", "a"), (), "given twice"),
        (("a", " "), (), "not empty"),
        (("a", 3), (), "not empty"),
        (("a", "b"), ((0, 0, 0),), "1 colors for 2 classes"),
        (("a",), ((0, 0, 256),), "0..255"),
        (("a",), ((0, 0),), "red, green and blue"),
    ],
)
def test_classes_are_validated(names, palette, message):
    with pytest.raises(ValueError, match=message):
        Classes(names, palette)


def test_classes_round_trip():
    assert Classes.from_dict(CLASSES.as_dict()) == CLASSES
    assert Classes.from_dict({"classes": ["a", "b"]}) == Classes(("a", "b"))
    for bad in ({}, {"classes": "road"}, {"classes": ["a"], "palette": [3]}, {"classes": ["a"], "palette": 3}):
        with pytest.raises(ValueError, match=r'"classes"|"palette"'):
            Classes.from_dict(bad)


def test_default_palette_is_stable_and_distinct():
    palette = default_palette(255)
    assert len(set(palette)) == 255
    assert palette[:19] == default_palette(19)
    few = np.array(default_palette(20), dtype=float)
    distance = np.linalg.norm(few[:, None] - few[None], axis=-1) + 1000 * np.eye(20)
    assert distance.min() > 45
    assert few.sum(-1).min() > 60  # not black, which stands for ignored pixels


def test_data_describes_and_builds_the_splits(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for kind in ("pictures", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for index in range(count):
            image, mask = pair(tmp_path, f"{index}", [[0, 1]])
            image.rename(tmp_path / "pictures" / split / image.name)
            mask.rename(tmp_path / "labels" / split / image.name)
    write_classes(tmp_path / "classes.json", CLASSES, name="street")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--data", type=Data)
    assert "Layout of the folder." in parser.format_help()
    options = [f"--data.root={tmp_path}", "--data.image_dir=pictures", "--data.label_dir=labels"]
    data = parser.instantiate(parser.parse_args(options)).data
    assert [len(data.dataset(split)) for split in ("train", "val")] == [3, 2]
    assert data.dataset("train").name == "street"
    assert data.dataset("train").check().pixels.tolist() == [3, 3, 0]
    with pytest.raises(ValueError, match=r"test: no such folder"):
        Data(str(tmp_path), val_split="test").dataset("val")


def test_data_refuses_negative_workers():
    with pytest.raises(ValueError, match=r"data\.workers is -1"):
        Data("x", workers=-1)


def test_ignore_index():
    assert IGNORE_INDEX == 255


TWO = Classes(("background", "object"), ((0, 0, 0), (255, 255, 255)))


def binary(root: Path, kind: str) -> tuple[Path, Path]:
    """A pair whose mask is 0 in one half and an object in the other."""
    mask = np.array([[0, 0, 1, 1]] * 3, dtype=np.uint8)
    image = {
        "0 and 255": Image.fromarray(mask * 255),
        "0 and 255, palette": Image.fromarray(mask * 255),
        "all 255": Image.fromarray(np.full_like(mask, 255)),
        "all 0": Image.fromarray(mask * 0),
        "0 and 1": Image.fromarray(mask),
        "1 bit": Image.fromarray(mask.astype(bool)),
        "colors": Image.fromarray(mask * 255).convert("RGB"),
        "0 and 65535": Image.fromarray(mask.astype(np.uint16) * 65535),
        "0, 1 and 255": Image.fromarray(np.where(mask > 0, mask, [[0, 255, 0, 0]]).astype(np.uint8)),
    }[kind]
    if kind.endswith("palette"):
        image.putpalette([i // 3 for i in range(768)])
        assert image.mode == "P"
    name = kind.replace(" ", "_")
    image.save(root / f"{name}_label.png")
    Image.new("RGB", (4, 3)).save(root / f"{name}.png")
    return root / f"{name}.png", root / f"{name}_label.png"


def two(pairs: list[tuple[Path, Path]], **options: object) -> SegmentationDataset:
    return SegmentationDataset(pairs, TWO, name="yard", colored_masks=True, **options)


@pytest.mark.parametrize("level", ["full", "labels"])
@pytest.mark.parametrize("kind", ["0 and 255", "0 and 255, palette"])
def test_masks_of_0_and_255_are_refused_until_it_is_said_what_255_is(tmp_path, kind, level):
    pairs = [binary(tmp_path, "all 0"), binary(tmp_path, kind), binary(tmp_path, "all 255")]
    for look in (lambda: two(pairs).check(level=level), two(pairs).require_decided):
        with pytest.raises(ValueError, match=r"^yard: the masks hold only 0 and 255, .*data\.object_255 true") as error:
            look()
        assert "\n" not in str(error.value)
    objects = two(pairs, object_255=True)
    assert objects.check(level=level).pixels.tolist() == [18, 18]
    assert objects[1][1][0].tolist() == [0, 0, 1, 1]
    ignored = two(pairs[:2], object_255=False)
    assert ignored.check(level=level).pixels.tolist() == [18, 0]
    objects.require_decided()
    ignored.require_decided()


@pytest.mark.parametrize("kind", ["0 and 1", "1 bit", "colors", "0, 1 and 255"])
def test_masks_that_say_what_they_mean_are_read_as_ever(tmp_path, kind):
    pairs = [binary(tmp_path, "all 0"), binary(tmp_path, kind)]
    dataset = two(pairs)
    dataset.require_decided()
    ignored = kind == "0, 1 and 255"
    assert dataset.check().pixels.tolist() == [18 - 3 * ignored, 6]
    with_objects = two([*pairs, binary(tmp_path, "0 and 255")])
    assert with_objects.check().pixels.tolist() == [24 - 3 * ignored, 6]  # as the others use 1, 255 is ignored


def test_masks_of_0_alone_need_no_decision(tmp_path):
    assert two([binary(tmp_path, "all 0")]).check().pixels.tolist() == [12, 0]


def test_masks_of_16_bits_are_refused_as_values_that_are_no_labels(tmp_path):
    with pytest.raises(ValueError, match='65535 is not a class of "yard"'):
        two([binary(tmp_path, "0 and 65535")]).check()


def test_other_faults_are_told_before_it(tmp_path):
    pairs = [binary(tmp_path, "0 and 255"), binary(tmp_path, "all 0")]
    pairs[1][0].write_bytes(b"")
    with pytest.raises(ValueError, match="the file is empty"):
        two(pairs).check()


def test_255_is_an_object_only_of_two_classes(tmp_path):
    with pytest.raises(ValueError, match=r"data\.object_255 is true, but dataset has 3 classes"):
        SegmentationDataset([pair(tmp_path, "a", [[0]])], CLASSES, object_255=True)
    with pytest.raises(ValueError, match=r"data\.object_255 is for the format folder"):
        Data(root="x", format="ade20k", object_255=False)
    assert SegmentationDataset([pair(tmp_path, "a", [[0, 255]])], CLASSES).check().pixels.tolist() == [1, 0, 0]


def test_one_class_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^yard: one class alone .* name two, background and object"):
        SegmentationDataset([pair(tmp_path, "a", [[0]])], Classes(("road",)), name="yard")


def test_check_counts_empty_masks_and_the_range_of_16_bits(tmp_path):
    pairs = [pair(tmp_path, "a", [[0, 1]]), pair(tmp_path, "b", [[255, 255]])]
    Image.fromarray(np.array([[7, 2000]], dtype=np.uint16)).save(pairs[0][0])
    checked = SegmentationDataset(pairs, CLASSES).check(allow_empty_masks=True)
    assert (checked.masks, checked.empty) == (2, 1)
    assert checked.reaches == {pairs[0][0]: (2000, 16)}


def test_an_ignored_class_is_known(tmp_path):
    pairs = [pair(tmp_path, "a", [[0, 1]])]
    assert SegmentationDataset(pairs, CLASSES).ignored_class is None
    assert SegmentationDataset(pairs, CLASSES, renumber={0: 255, 1: 1, 2: 2}).ignored_class == 0
    assert SegmentationDataset(pairs, CLASSES, renumber={0: 255, 1: 0, 2: 1, 3: 2}).ignored_class is None  # as ADE20K
    assert not SegmentationDataset(pairs, CLASSES, renumber={0: 255, 1: 0, 2: 1, 3: 2}).numbers_from_0
