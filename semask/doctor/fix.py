"""A cleaned copy of a data set, as the folder tree that every version reads. The original is never written to.

OUT/images/SPLIT/NAME.png   OUT/annotations/SPLIT/NAME.png   OUT/classes.json   OUT/fixed.json
"""

import json
import shutil
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from semask.data.classes import IGNORE_INDEX, Classes, default_palette
from semask.data.dataset import label_path
from semask.data.formats.folder import write_classes
from semask.data.images import FORMATS, encoded, read_image
from semask.data.similarity import grouped, near_duplicates
from semask.doctor.examine import Examined, own_splits
from semask.doctor.facts import Header, codes, mask_facts, read_any_mask, read_header
from semask.doctor.findings import printable
from semask.doctor.judge import is_photo
from semask.doctor.samples import Sample
from semask.doctor.scan import odd
from semask.files.atomic import write_whole
from semask.files.reporter import Reporter
from semask.files.text import one_line, reason

MOST_COLORS = 40
"""Different values or colors of all masks up to which each can become a class, where no list says which are."""
LONGEST_NAME = 150


class Reading(NamedTuple):
    """How masks become class indices.

    Args:
        classes: The classes.
        values: Value -> class index or 255.
        colors: Color 0xRRGGBB -> class index or 255.
        nearest: Whether what is listed nowhere becomes the nearest class; otherwise it is ignored.
    """

    classes: Classes
    values: dict[int, int]
    colors: dict[int, int]
    nearest: bool


class _Left(Exception):
    """Why a pair is left out."""


def write_copy(examined: Examined, out: Path, *, reporter: Reporter) -> list[str]:
    """Write a cleaned copy.

    Args:
        examined: What was found.
        out: Folder to write, which does not exist.
        reporter: Shows how far it is.

    Returns:
        Lines that say what was done, and what can't be mended.

    Raises:
        ValueError: If it is not known what the masks hold, no pair is left, or something can't be written.
    """
    reading = reading_of(examined)
    samples = own_splits(examined.layout.samples, _groups(examined))
    if "swapped" in examined.found:
        samples = [x._replace(image=label_path(x.label), label=x.image) for x in samples]
    left = _repeated(examined, samples)
    done: Counter[str] = Counter()
    notes: list[dict[str, str]] = []
    taken: set[str] = set()
    track = reporter.track(enumerate(samples), "Writing the copy", len(samples))
    for index, sample in track:
        try:
            if index in left:
                raise _Left(left[index])
            name = _free_name(sample, taken, done)
            changed = _write_pair(examined, sample, out, name, reading)
        except _Left as why:
            changed = [f"left out: {why}"]
        done.update(text.partition(" (")[0] for text in changed)
        notes += [{"image": printable(str(sample.image)), "done": text} for text in changed]
        done["pairs"] += not any(text.startswith("left out") for text in changed)
    if not done["pairs"]:
        raise ValueError(f"{one_line(out)}: no pair of {one_line(examined.root)} can be mended, so no copy was written")
    write_classes(out / "classes.json", reading.classes, name=examined.root.resolve().name[:100] or "data")
    write_whole(out / "fixed.json", json.dumps(notes, indent=1) + "\n")
    pairs = done.pop("pairs")
    lines = [f"{pairs:,} pairs were written to {out}; what was done with each is in fixed.json"]
    lines += [f"{count:,} x {text}" for text, count in done.most_common()]
    cannot = [x.name for x in examined.found.findings if not x.kind.fixed and x.severity != "note"]
    return lines + ([f"Not mended: {', '.join(cannot)}"] if cannot else [])


def reading_of(examined: Examined) -> Reading:
    """How the masks of a folder become class indices.

    Raises:
        ValueError: If it is not known, and cannot be told from the masks.
    """
    found, meaning, values = examined.found, examined.layout.meaning, examined.judge.tally.values
    nearest = any(name in found for name in ("smoothed-mask", "jpeg-mask"))
    if meaning.classes is not None and meaning.table is not None:
        own = dict(meaning.table.values)
        if "off-by-one" in found:
            own = {value + 1: index for value, index in own.items() if index != IGNORE_INDEX}
        if "zero-255" in found and len(meaning.classes) == 2:
            own[IGNORE_INDEX] = 1
        colors = meaning.table.colors
        if colors is None and meaning.classes is not None and examined.judge.tally.colored:
            return _inferred(examined, nearest)
        return Reading(meaning.classes, own, {_code(*c): i for c, i in (colors or {}).items()}, nearest)
    if not values:
        raise ValueError(f"{one_line(examined.root)}: no mask can be read, so there is nothing to mend")
    return _inferred(examined, nearest)


def _inferred(examined: Examined, nearest: bool) -> Reading:
    """Each value or color that is frequent becomes a class."""
    tally, listed = examined.judge.tally, examined.layout.listed
    total = tally.values.total()
    kept = sorted(key for key, count in tally.values.items() if not nearest or count >= 0.005 * total)
    white = {value for colored, value in kept if not colored} == {0, IGNORE_INDEX}
    values = [v for colored, v in kept if not colored and (v != IGNORE_INDEX or white)]
    colors = [v for colored, v in kept if colored]
    both = values or colors
    if (values and colors) or not 2 <= len(both) <= MOST_COLORS:
        raise ValueError(
            f"{one_line(examined.root)}: it is not known which classes its masks hold ({len(kept)} different values or "
            "colors): write a classes.json first"
        )
    given = listed.names if listed is not None else ()
    if len(given) == 1 and len(both) == 2:
        given = ("background", given[0])
    names = given if len(given) == len(both) else tuple(f"class {v}" if values else f"#{v:06x}" for v in both)
    own = tuple((v >> 16, v >> 8 & 255, v & 255) for v in colors) or default_palette(len(both))
    numbers = {v: i for i, v in enumerate(values)}
    return Reading(Classes(tuple(names), own), numbers, {v: i for i, v in enumerate(colors)}, nearest)


def _groups(examined: Examined) -> list[int]:
    thumbnails = examined.judge.tally.thumbnail_array()
    return grouped(len(thumbnails), near_duplicates(thumbnails))


def _repeated(examined: Examined, samples: list[Sample]) -> dict[int, str]:
    """Pairs that are left out because their image is in another pair, or nearly in validation."""
    tally, left = examined.judge.tally, {}
    if not tally.thumbnails:
        return {}
    first: dict[str, int] = {}
    order = sorted(range(len(samples)), key=lambda index: (samples[index].split != "val", index))
    for index in order:
        digest = tally.image_digests[index]
        if digest and first.setdefault(digest, index) != index:
            left[index] = "the image is there already"
    for i, j, _ in near_duplicates(tally.thumbnail_array()):
        if samples[i].split != samples[j].split:
            left.setdefault(i if samples[i].split == "train" else j, "nearly the same image is in validation")
    return left


def _free_name(sample: Sample, taken: set[str], done: Counter[str]) -> str:
    """Name in the copy: in one Unicode form, of ordinary characters, and distinct where case does not count."""
    name = unicodedata.normalize("NFC", "_".join(Path(printable(sample.name)).parts[-3:]))
    for word in ("images", "train", "val", "annotations"):
        name = name.removeprefix(f"{word}_")
    clean = "".join("_" if odd(c) or c in '\\:*?"<>|/' else c for c in name)[-LONGEST_NAME:].strip(". ") or "image"
    free, number = clean, 2
    while f"{sample.split}/{free}".casefold() in taken:
        free, number = f"{clean}_{number}", number + 1
    taken.add(f"{sample.split}/{free}".casefold())
    if free != clean or clean != name:
        done["renamed"] += 1
    return free


def _write_pair(examined: Examined, sample: Sample, out: Path, name: str, reading: Reading) -> list[str]:
    """Write an image and its mask; returns what was changed."""
    changed: list[str] = []
    header = read_header(sample.image)
    if header.problem:
        raise _Left(header.kind)
    try:
        mask_header, raw = _raw_mask(sample)
        if is_photo(mask_facts(raw)):
            raise _Left("the mask is a photo")
        upright = _upright(header, mask_header, raw.shape[:2], changed)
        if mask_header.orientation != 1 and upright:
            raw = _turned(raw, mask_header.orientation)
        label, adjusted, ignored = to_indices(raw, reading)
        if (label == IGNORE_INDEX).all():
            raise _Left("every pixel is ignored")
        content, ending = _image_content(examined, sample.image, header, upright=upright, changed=changed)
    except ValueError as error:
        raise _Left(reason(error, longest=120)) from error
    if adjusted:
        changed.append(f"mask set to the nearest class ({adjusted:,} pixels)")
    if ignored:
        changed.append(f"unknown values ignored ({ignored:,} pixels)")
    if raw.ndim == 3 or not np.array_equal(raw, label):
        changed.append("mask renumbered")
    target = out / "images" / sample.split / f"{name}{ending}"
    if content is None:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sample.image, target)
    else:
        write_whole(target, content)
    picture = Image.fromarray(label)
    picture.putpalette(_flat(reading.classes))
    write_whole(out / "annotations" / sample.split / f"{name}.png", encoded(picture, "PNG"))
    return changed


def _raw_mask(sample: Sample) -> tuple[Header, NDArray[Any]]:
    if not isinstance(sample.label, Path):
        raw = sample.label.read()
        return Header(height=raw.shape[0], width=raw.shape[1]), raw
    header = read_header(sample.label)
    if header.problem:
        raise _Left(header.kind)
    return header, read_any_mask(sample.label, header)


def _upright(image: Header, mask: Header, size: tuple[int, ...], changed: list[str]) -> bool:
    """Whether the EXIF turn of the photo is applied.

    Raises:
        ValueError: If the sizes fit in neither way.
    """
    if size not in (image.upright, image.stored):
        raise ValueError("image and mask have different sizes")
    if image.orientation != 1 or mask.orientation != 1:
        changed.append("turn of the EXIF tag taken out")
    if mask.orientation != 1:  # both as their tags say, if both say the same; else both as stored
        return mask.orientation == image.orientation
    return size == image.upright


def _turned(raw: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation to an array [H, W] or [H, W, 3]."""
    if orientation in (5, 7):
        raw = raw.swapaxes(0, 1)
    quarters = {3: 2, 4: 2, 6: 3, 7: 2, 8: 1}.get(orientation, 0)
    raw = np.rot90(raw, quarters)
    return np.ascontiguousarray(raw[:, ::-1] if orientation in (2, 4) else raw)


def to_indices(raw: NDArray[Any], reading: Reading) -> tuple[NDArray[np.uint8], int, int]:
    """A mask as class indices; also how many pixels got the nearest class, and how many are ignored as unknown."""
    colored = raw.ndim == 3
    numbers = codes(raw) if colored else raw.astype(np.int64)
    known = reading.colors if colored else reading.values
    known = {**({0: IGNORE_INDEX} if colored else {IGNORE_INDEX: IGNORE_INDEX}), **known}
    found, inverse = np.unique(numbers, return_inverse=True)
    listed = np.array(sorted(known))
    indices = np.array([known[value] for value in listed.tolist()])
    place = np.searchsorted(listed, found).clip(max=len(listed) - 1)
    exact = listed[place] == found
    result = np.where(exact, indices[place], IGNORE_INDEX)
    if reading.nearest and not exact.all():
        # What is ignored by the number 255 is no neighbor of 254; only classes are.
        targets = np.flatnonzero(indices != IGNORE_INDEX)
        for start in range(0, len(found), 4096):
            part = slice(start, start + 4096)
            distance = _distance(found[part], listed[targets], colored=colored)
            result[part] = np.where(exact[part], result[part], indices[targets][distance.argmin(1)])
    wrong = int((~exact)[inverse].sum())
    label: NDArray[np.uint8] = result.astype(np.uint8)[inverse].reshape(raw.shape[:2])
    return label, wrong if reading.nearest else 0, 0 if reading.nearest else wrong


def _distance(found: NDArray[Any], listed: NDArray[Any], *, colored: bool) -> NDArray[np.int64]:
    distance: NDArray[np.int64]
    if not colored:
        distance = np.abs(found[:, None] - listed)
        return distance
    shifts = np.array([16, 8, 0])
    ours, theirs = found[:, None] >> shifts & 255, listed[:, None] >> shifts & 255
    distance = ((ours[:, None] - theirs) ** 2).sum(-1)
    return distance


def _image_content(
    examined: Examined, path: Path, header: Header, *, upright: bool, changed: list[str]
) -> tuple[bytes | None, str]:
    """Content and ending of an image in the copy; None copies the file."""
    plain = header.mode in ("RGB", "L") and header.frames == 1 and header.orientation == 1
    endings = {"JPEG": ".jpg", "PNG": ".png"}
    if plain and header.format in endings:
        read_image(path)  # a damaged one is left out
        return None, endings[header.format]
    if header.mode.startswith("I;16"):
        values = np.asarray(_opened_16(path, upright=upright)).astype(np.float64)
        top = examined.judge.tally.highest if "dark" in examined.found else 65_535
        changed.append("converted from 16 bits")
        return encoded(Image.fromarray((values * 255 / max(1, top)).clip(0, 255).astype(np.uint8)), "PNG"), ".png"
    alpha = header.mode in ("RGBA", "LA", "PA", "P")
    image = read_image(path, channels=4 if alpha else 3, upright=upright)
    if alpha:
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    changed.append(f"image converted from {header.format} {header.mode}")
    return encoded(image.convert("RGB"), "PNG"), ".png"


def _opened_16(path: Path, *, upright: bool) -> Image.Image:
    with Image.open(path, formats=FORMATS) as image:
        image.load()
        return ImageOps.exif_transpose(image) if upright else image.copy()


def _code(red: int, green: int, blue: int) -> int:
    return red << 16 | green << 8 | blue


def _flat(classes: Classes) -> bytes:
    """Palette of the masks: the colors of the classes, and black."""
    table = np.zeros((256, 3), dtype=np.uint8)
    table[: len(classes)] = classes.palette
    return table.tobytes()
