"""Images and masks of a folder, paired as well as can be, by names of folders and endings of stems."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from semask.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from semask.doctor.findings import Collector
from semask.doctor.scan import UNREAD_IMAGES, File

IMAGE_WORDS = {
    "image", "images", "img", "imgs", "jpegimages", "photo", "photos", "picture", "pictures", "rgb", "input", "inputs",
    "leftimg8bit", "x",
}  # fmt: skip
MASK_WORDS = {
    "annotation", "annotations", "annot", "mask", "masks", "label", "labels", "gt", "groundtruth", "ground_truth",
    "ground-truth", "segmentationclass", "segmentation", "segmentations", "seg", "target", "targets", "gtfine",
    "labelmap", "labelmaps", "y",
}  # fmt: skip
"""Names of folders, in lower case."""
SPLITS = {
    "train": {"train", "training", "trn", "train2014", "train2017"},
    "val": {"val", "valid", "validation", "dev", "val2014", "val2017", "test2014"},
    "test": {"test", "testing", "tst", "test2017"},
}
_MASK_ENDING = re.compile(
    r"[_.\- ](?:masks?|labels?|gt|groundtruth|seg|segmentation|"
    r"annotation|target|labelids|labeltrainids|gtfine_labelids)$",
    re.IGNORECASE,
)
_IMAGE_ENDING = re.compile(r"[_.\- ](?:image|img|photo|rgb|leftimg8bit)$", re.IGNORECASE)


class Found(NamedTuple):
    """A pair of files as it was found.

    Args:
        split: "train" or "val"; "" where the folder has no splits.
        image: The image.
        mask: Its mask.
        name: What both are called: path without the words for image, mask and split.
    """

    split: str
    image: File
    mask: File
    name: str


class _Part(NamedTuple):
    split: str
    key: str
    file: File


def pair(files: Sequence[File], found: Collector, *, image_dir: str = "", label_dir: str = "") -> list[Found]:
    """Pair the files of a folder, and note those without a partner, and names that clash.

    Args:
        files: What `scan` gave.
        found: Takes findings in.
        image_dir: Folder of the images below the root, if it is known.
        label_dir: Folder of the masks below the root, if it is known.
    """
    images: dict[tuple[str, str], list[File]] = defaultdict(list)
    masks: dict[tuple[str, str], list[File]] = defaultdict(list)
    roles = [(file, _role(file.name, image_dir, label_dir)) for file in files]
    in_masks = any(role == "mask" for _, role in roles)
    for file, role in roles:
        ending = file.name.suffix.lower()
        if role == "mask" and ending in IMAGE_SUFFIXES + UNREAD_IMAGES:
            masks[_key(file.name, role, image_dir, label_dir)].append(file)
        elif role == "image" and ending in IMAGE_SUFFIXES:
            images[_key(file.name, role, image_dir, label_dir)].append(file)
        elif role == "image" and in_masks:
            what = "unread-file" if ending in UNREAD_IMAGES else "other-file"
            if len(file.name.parts) > 1:
                found.add(what, [str(file.name)])
    for table, kept in ((images, IMAGE_SUFFIXES), (masks, MASK_SUFFIXES)):
        _clashes(table, kept, found)
    if not images or not masks:
        return []
    first = {key: several[0] for key, several in images.items()}, {key: several[0] for key, several in masks.items()}
    return _match(*first, found)


def split_of(name: PurePosixPath) -> str:
    """Split that the folders of a file say; "" if they say none."""
    for part in name.parts[:-1]:
        for split, words in SPLITS.items():
            if part.lower() in words:
                return split
    return ""


def _role(name: PurePosixPath, image_dir: str, label_dir: str) -> str:
    """What a file is: "image", "mask", or "" for neither."""
    for folder, role in ((label_dir, "mask"), (image_dir, "image")):
        if folder and name.is_relative_to(PurePosixPath(folder)):
            return role
    parts = [part.lower() for part in name.parts[:-1]]
    for part in reversed(parts):
        if part in MASK_WORDS:
            return "mask"
        if part in IMAGE_WORDS:
            return "image"
    return "mask" if _MASK_ENDING.search(name.stem) else "image"


def _key(name: PurePosixPath, role: str, image_dir: str, label_dir: str) -> tuple[str, str]:
    """(split, path without the words for image, mask and split)."""
    split = split_of(name)
    for folder in (label_dir, image_dir):
        if folder and name.is_relative_to(PurePosixPath(folder)):
            name = name.relative_to(PurePosixPath(folder))
            break
    words = (MASK_WORDS | IMAGE_WORDS) | (SPLITS[split] if split else set())
    folders = [part for part in name.parts[:-1] if part.lower() not in words]
    stem = (_MASK_ENDING if role == "mask" else _IMAGE_ENDING).sub("", name.stem) or name.stem
    return split, "/".join([*folders, stem])


def _clashes(table: dict[tuple[str, str], list[File]], kept: Iterable[str], found: Collector) -> None:
    """Note files of one name; those whose ending is read come first."""
    for several in table.values():
        several.sort(key=lambda file: (file.name.suffix.lower() not in tuple(kept), str(file.name)))
        for other in several[1:]:
            found.add("same-stem", [str(several[0].name), str(other.name)])


def note_clashes(names: Iterable[tuple[str, str, str]], found: Collector) -> None:
    """Note names that some systems take for the same.

    Args:
        names: (split, name without ending, path of the image) of each pair.
        found: Takes findings in.
    """
    forms: dict[tuple[str, str, str], tuple[str, str]] = {}
    for split, name, path in names:
        for kind, form in (("unicode-clash", _nfc(name)), ("case-clash", _nfc(name).casefold())):
            other_name, other = forms.setdefault((kind, split, form), (name, path))
            if other_name != name:
                found.add(kind, [other, path])
                break


def _match(images: dict[tuple[str, str], File], masks: dict[tuple[str, str], File], found: Collector) -> list[Found]:
    pairs = [Found(key[0], images[key], masks[key], key[1]) for key in images.keys() & masks.keys()]
    alone = {key: images[key] for key in images.keys() - masks.keys()}
    left = {key: masks[key] for key in masks.keys() - images.keys()}
    for kind, form in (("pair-unicode", _nfc), ("pair-case", lambda text: _nfc(text).casefold())):
        near = {(split, form(name)): (split, name) for split, name in left}
        for key in sorted(alone):
            other = near.get((key[0], form(key[1])))
            if other in left:
                found.add(kind, [str(alone[key].name), str(left[other].name)])
                pairs.append(Found(key[0], alone.pop(key), left.pop(other), key[1]))
    for kind, rest in (("image-without-mask", alone), ("mask-without-image", left)):
        for key in sorted(rest):
            if key[0] != "test":  # which is not read, and often comes without masks
                found.add(kind, [str(rest[key].name)])
    return sorted((each for each in pairs if each.split != "test"), key=lambda each: (each.split, each.name))


def _nfc(text: str) -> str:
    return unicodedata.normalize("NFC", text)
