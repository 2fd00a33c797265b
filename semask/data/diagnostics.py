"""Warnings about a data set as a whole: what is probably a mistake though every file can be read. Each is one line."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from semask.data.checking import Checked
from semask.data.dataset import SegmentationDataset
from semask.data.images import ImageSource, Picture, dark_line, image_path
from semask.data.pairs import OF_SYSTEMS, listed
from semask.data.shards import ShardImage
from semask.files.text import one_line

SAMPLED_IMAGES = 8
"""Images that are decoded where not all are, to see whether they use the range of their samples."""
HEAD = 2**16
"""Bytes that two files of one size are compared by before they are read whole."""


class Split(NamedTuple):
    """What is known of one split.

    Args:
        name: "train" or "val".
        names: Names of the classes, in their order.
        checked: What `SegmentationDataset.check` returned.
        ignored_class: A class whose number in the masks is ignored.
        numbers_from_0: Whether the number 0 in the masks stands for class 0.
    """

    name: str
    names: tuple[str, ...]
    checked: Checked
    ignored_class: int | None = None
    numbers_from_0: bool = True

    @classmethod
    def of(cls, name: str, dataset: SegmentationDataset, checked: Checked) -> "Split":
        """Gather what a data set says of itself."""
        return cls(name, dataset.classes.names, checked, dataset.ignored_class, dataset.numbers_from_0)


def warnings_of(train: Split, val: Split) -> list[str]:
    """Warn of what the checks of a training and a validation split show; nothing about a split that was not read."""
    lines = [*_of_the_classes(train, val)]
    for split in (train, val):
        if split.checked.empty:
            lines.append(
                f"every pixel is ignored in {split.checked.empty} of the {split.checked.masks} masks of the "
                f"{split.name} split: they teach nothing and are not counted"
            )
        if split.checked.adjusted:
            share = 100 * split.checked.adjusted / max(1, int(split.checked.pixels.sum()))
            lines.append(
                f"{split.checked.adjusted:,} pixels ({share:.2g} %) of the {split.name} split have a value or color "
                "that is not listed, and were taken for the nearest (data.tolerance)"
            )
        dark = dark_line(split.checked.reaches)
        lines += [dark] if dark else []
    return lines


def _of_the_classes(train: Split, val: Split) -> Iterator[str]:
    names, ignored = train.names, train.ignored_class
    if ignored is not None:
        yield (
            f"the value {ignored} is ignored in the masks (ignore_index of classes.json), but is the number of class "
            f"{_name(names, ignored)}: it is never learned; give another ignore_index, or take the class off the list"
        )
    missing = {split.name: _missing(split) - {ignored} for split in (train, val) if split.checked.masks}
    if train.numbers_from_0 and missing and all(0 in classes for classes in missing.values()) and len(names) > 2:
        yield (
            f"the masks never use 0, the number of class {_name(names, 0)}: if they count from 1, subtract 1 or put a "
            'class "background" first in the list'
        )
    nowhere = missing.get(train.name, set())
    if nowhere:
        yield _never(names, nowhere, "the training masks", "it can't be learned")
    only_val = missing.get(val.name, set()) - nowhere
    if only_val:
        yield _never(names, only_val, "the validation masks", "its IoU says nothing of what was learned")


def _missing(split: Split) -> set[int | None]:
    return {int(index) for index in np.flatnonzero(split.checked.pixels == 0)}


def _never(names: Sequence[str], classes: set[int | None], where: str, so: str) -> str:
    order = sorted(index for index in classes if index is not None)
    called = listed([_name(names, index) for index in order])
    if len(order) == 1:
        return f"class {called} never occurs in {where}: {so}"
    return f"{len(order)} of {len(names)} classes never occur in {where}: {called}"


def _name(names: Sequence[str], index: int) -> str:
    return f'{index} "{one_line(names[index], longest=60)}"'


def unread_line(split: str, dataset: SegmentationDataset) -> str | None:
    """One line about files in the folders of the images that are not read; None if there are none."""
    unread = [path for path in dataset.unread if path.name not in OF_SYSTEMS]
    if not unread:
        return None
    count = len(unread)
    files = "1 file is" if count == 1 else f"{count} files or linked folders are"
    return (
        f"{files} left out of the {split} split, which are no images by their ending, or read already: "
        f"{listed([path.name for path in unread])}; images of another kind have to be converted"
    )


def unlabeled_line(split: str, dataset: SegmentationDataset) -> str | None:
    """One line about images that are left out because they have no mask; None if there are none."""
    if not dataset.unlabeled:
        return None
    count = len(dataset.unlabeled)
    images = "1 image has no mask and is" if count == 1 else f"{count} images have no mask and are"
    return (
        f"{images} left out of the {split} split: {listed([path.name for path in dataset.unlabeled])}; label them, or "
        "give them masks of background if nothing is on them"
    )


def notes_of(*datasets: SegmentationDataset) -> list[str]:
    """What formats left out, each line once: both splits may come from one file."""
    return list(dict.fromkeys(note for dataset in datasets for note in dataset.notes))


def shared_line(train: SegmentationDataset, val: SegmentationDataset) -> str | None:
    """One line about images that are in both splits, by their path or their bytes; None if there are none.

    Of files only those of the same size are read.
    """
    same = list(_shared([image for image, _ in train.pairs], [image for image, _ in val.pairs]))
    if not same:
        return None
    first = f"{one_line(same[0][1])} is {one_line(same[0][0])}"
    count = f"{len(same)} of the {len(val)} validation images are also trained on"
    return f"{count}, so scores are too good: {first}{' and so on' if len(same) > 1 else ''}"


def _shared(train: Sequence[Picture], val: Sequence[Picture]) -> Iterator[tuple[Path, Path]]:
    """Give (training image, validation image) of the same content."""
    yield from _shared_files([x for x in train if isinstance(x, Path)], [x for x in val if isinstance(x, Path)])
    ours, theirs = ([x for x in images if not isinstance(x, Path)] for images in (train, val))
    if ours and theirs:
        contents = {_content_digest(image): image.path for image in ours}
        for image in theirs:
            other = contents.get(_content_digest(image))
            if other is not None:
                yield other, image.path


def _content_digest(image: ImageSource) -> str:
    """Digest of what would be the file of an image; of one in a pack the index tells."""
    return image.sha256 if isinstance(image, ShardImage) else hashlib.sha256(image.read_bytes()).hexdigest()


def _shared_files(train: Sequence[Path], val: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    places = {path.resolve(): path for path in train}
    sizes: dict[int, list[Path]] = {}
    for path in train:
        sizes.setdefault(path.stat().st_size, []).append(path)
    digests: dict[tuple[Path, int], bytes] = {}

    def digest(path: Path, most: int) -> bytes:
        if (path, most) not in digests:
            with open(path, "rb") as file:
                hashed = hashlib.sha256(file.read(HEAD)) if most else hashlib.file_digest(file, "sha256")
            digests[path, most] = hashed.digest()
        return digests[path, most]

    for path in val:
        if path.resolve() in places:
            yield places[path.resolve()], path
            continue
        for other in sizes.get(path.stat().st_size, []):
            if all(digest(path, most) == digest(other, most) for most in (HEAD, 0)):
                yield other, path
                break


def dark_images_line(dataset: SegmentationDataset, images: int = SAMPLED_IMAGES) -> str | None:
    """Decode a few images, evenly spread, and say if they are dark; None if they are not."""
    chosen = {int(i) for i in np.linspace(0, len(dataset) - 1, min(images, len(dataset)))}
    reaches = {image_path(dataset.pairs[index][0]): dataset.reach(index) for index in sorted(chosen)}
    return dark_line({path: reach for path, reach in reaches.items() if reach is not None})
