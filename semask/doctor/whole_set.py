"""What all pairs together mean: classes, splits, images that are the same."""

from collections.abc import Sequence

import numpy as np

from semask.data.classes import IGNORE_INDEX
from semask.data.similarity import DIFFERENCE, near_duplicates
from semask.doctor.findings import Collector
from semask.doctor.judge import Judge
from semask.doctor.samples import Sample
from semask.doctor.tally import Tally

RARE = 0.001
"""Share of the labeled pixels below which a class is called rare."""
WILD = 10
"""Ratio of the long sides of two images from which sizes are called wildly different."""


def judge_set(judge: Judge, samples: Sequence[Sample], *, complete: bool = True) -> None:
    """Note what only all pairs together show.

    Args:
        judge: What went through all pairs.
        samples: The pairs, in the same order.
        complete: Whether all masks were read: of a sample, nothing is said of classes that never occur.
    """
    found, tally = judge.found, judge.tally
    _swapped(found, tally)
    _white(judge)
    _numbers(judge)
    _sizes(found, tally)
    if tally.colored and tally.numbers:
        few = "colors" if tally.colored <= tally.numbers else "numbers"
        found.add("mixed-masks", detail=f"{min(tally.colored, tally.numbers)} of {len(samples)} hold {few}")
    if judge.meaning.table is not None and complete:
        _classes(judge)
        _shares(judge)
    same_images(judge, samples)


def _swapped(found: Collector, tally: Tally) -> None:
    photos = found.count("photo-mask")
    pairs = len(tally.thumbnails)
    if photos > pairs / 2 and tally.drawn > pairs / 2:
        found.rename("photo-mask", "swapped")


def _white(judge: Judge) -> None:
    """Decide what masks of 0 and 255 mean."""
    meaning, found = judge.meaning, judge.found
    ignored = meaning.table is not None and meaning.class_of(IGNORE_INDEX, colored=False) == IGNORE_INDEX
    if judge.tally.other_values or not ignored:
        found.drop("zero-255")
    elif not meaning.undecided and (False, 0) not in judge.tally.values:
        found.drop("zero-255")  # they are ignored as a whole
    elif "zero-255" in found:
        found.rename("zero-255", "zero-255", severity="error" if meaning.undecided else "warning")
        found.drop("ignored-mask")


def _numbers(judge: Judge) -> None:
    """Tell numbers that begin at 1 from wrong ones, and a 0 that never occurs."""
    meaning, found, tally = judge.meaning, judge.found, judge.tally
    if meaning.table is None or meaning.classes is None or tally.colored or not meaning.table.keeps(0):
        return
    classes = len(meaning.classes)
    used = {value for _, value in tally.values if value != IGNORE_INDEX}
    if not used or 0 in used:
        return
    if set(tally.unknown) == {classes} and "smoothed-mask" not in found:
        found.rename("unknown-value", "off-by-one")
    elif not tally.unknown and classes > 2 and "jpeg-mask" not in found:
        found.add("zero-unused", detail=f"class {judge.class_name(0)}")


def _sizes(found: Collector, tally: Tally) -> None:
    sides = {max(size): size for size in tally.sizes}
    if sides and max(sides) >= WILD * min(sides):
        small, large = sides[min(sides)], sides[max(sides)]
        found.add("sizes-vary", detail=f"from {small[1]} x {small[0]} to {large[1]} x {large[0]}")


def _classes(judge: Judge) -> None:
    """Note classes that do not occur where they should."""
    meaning, found, tally = judge.meaning, judge.found, judge.tally
    assert meaning.classes is not None
    assert meaning.table is not None
    never = meaning.table.ignored_class
    if never is not None:
        found.add("ignored-class", detail=f"class {judge.class_name(never)}")
    read = {name: split for name, split in tally.splits.items() if split.masks}
    if not read or {"zero-255", "rgb-without-palette", "jpeg-mask", "photo-mask", "swapped"} & set(_names(found)):
        return  # it is not known yet what occurs
    train, val = read.get("train"), read.get("val")
    for index in range(len(meaning.classes)):
        occurs = {name: split.pixels[index] > 0 for name, split in read.items()}
        said = f"class {judge.class_name(index)}"
        if index == never:
            continue
        if not any(occurs.values()):
            found.add("class-never", detail=said)
        elif train and val and not occurs["val"]:
            found.add("class-only-train", detail=f"{said}, in {train.images[index]} masks")
        elif train and val and not occurs["train"]:
            found.add("class-only-val", detail=f"{said}, in {val.images[index]} masks")
        images = sum(split.images[index] for split in read.values())
        if images >= 2 and sum(split.thin[index] for split in read.values()) == images:
            found.add("tiny-objects", detail=f"{said}, in all of the {images} masks that have it")
    learned = train or read.get("")
    if learned and learned.masks >= 2 and max(learned.constant.values(), default=0) == learned.masks:
        found.add("only-one-class", detail=f"class {judge.class_name(next(iter(learned.constant)))}")


def _names(found: Collector) -> list[str]:
    return [finding.name for finding in found.findings]


def _shares(judge: Judge) -> None:
    """Note rare classes, and that most pixels are ignored."""
    total = sum((split.pixels for split in judge.tally.splits.values()), start=type(judge.tally.unknown)())
    labeled = total.total() - total[IGNORE_INDEX]
    if total.total() and total[IGNORE_INDEX] > 0.9 * total.total() and labeled:
        judge.found.add("mostly-ignored", detail=f"{100 * total[IGNORE_INDEX] / total.total():.1f} %")
    for index, count in sorted(total.items()):
        if index != IGNORE_INDEX and 0 < count < RARE * labeled:
            judge.found.add("rare-class", detail=f"class {judge.class_name(index)}: {100 * count / labeled:.2g} %")


def same_images(judge: Judge, samples: Sequence[Sample]) -> None:
    """Note images that are the same, or nearly, and masks that were given to several."""
    found, tally = judge.found, judge.tally
    thumbnails = tally.thumbnail_array()
    first: dict[str, dict[str, int]] = {}
    for index, digest in enumerate(tally.image_digests):
        if not digest:
            continue
        split = samples[index].split
        before = first.setdefault(digest, {})
        for other, place in before.items():
            files = [samples[place].below(judge.root)[0], samples[index].below(judge.root)[0]]
            if other != split:
                found.add("shared-image", files, f"{other} and {split}")
            elif tally.mask_digests[place] == tally.mask_digests[index]:
                found.add("duplicate-image", files)
            else:
                found.add("labels-disagree", files)
        before.setdefault(split, index)
    across: set[int] = set()
    for i, j, difference in near_duplicates(thumbnails):
        if tally.image_digests[i] == tally.image_digests[j]:
            continue
        files = [samples[k].below(judge.root)[0] for k in (i, j)]
        if samples[i].split == samples[j].split:
            found.add("similar-images", files, f"mean difference {difference:.1f} of 255")
        else:
            val = j if samples[j].split == "val" else i
            if val not in across:
                across.add(val)
                found.add("near-image", files, f"mean difference {difference:.1f} of 255")
    _same_masks(judge, samples)


def _same_masks(judge: Judge, samples: Sequence[Sample]) -> None:
    first: dict[str, int] = {}
    for index, digest in enumerate(judge.tally.mask_digests):
        place = first.setdefault(digest, index) if digest else index
        images = judge.tally.image_digests
        if place == index or not images[place] or not images[index] or images[place] == images[index]:
            continue
        one, other = (np.frombuffer(judge.tally.thumbnails[k], dtype=np.uint8).astype(np.int16) for k in (place, index))
        if np.abs(one - other).mean() > 3 * DIFFERENCE:
            masks = [samples[k].below(judge.root)[1] for k in (place, index)]
            judge.found.add("repeated-mask", masks)
