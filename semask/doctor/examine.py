"""The whole examination of a folder: what lies there, how it pairs up, what each pair says, what all say together."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from semask.data import catalog
from semask.data.alpha_masks import alpha_if_found
from semask.data.bands import PHOTO_CHANNELS
from semask.data.dataset import SegmentationDataset
from semask.data.guess import guess_classes
from semask.data.image_kinds import kind_of_images
from semask.data.selection import Selection
from semask.data.source import Data
from semask.data.splits import split_by_name
from semask.data.survey import mask_kinds
from semask.doctor.cache import Cache
from semask.doctor.class_lists import ClassList, read_class_list
from semask.doctor.findings import Collector
from semask.doctor.judge import Judge
from semask.doctor.meaning import Meaning
from semask.doctor.pairing import note_clashes, pair
from semask.doctor.processes import facts_of_all
from semask.doctor.samples import Sample, samples_of
from semask.doctor.scan import UNREAD_IMAGES, File, scan
from semask.doctor.whole_set import judge_set
from semask.files.reporter import Reporter
from semask.files.text import one_line, reason

FACTS_FILE = "facts.jsonl"
LISTED = ("folder", "folders", "flat", "raster")
"""Formats whose classes classes.json names."""


class Layout(NamedTuple):
    """How a folder is laid out, as far as it is known.

    Args:
        format: Name of the format; "" if none was recognized.
        reason: What shows it, or why none was.
        samples: The pairs.
        meaning: What values and colors stand for.
        listed: What the list of classes says, where there is one.
        refusals: What training says, for each split that it refuses.
    """

    format: str
    reason: str
    samples: list[Sample]
    meaning: Meaning
    listed: ClassList | None
    refusals: list[str]


@dataclass(frozen=True)
class Examined:
    """What an examination found.

    Args:
        root: The folder.
        layout: How it is laid out.
        judge: Sums over all pairs.
        found: All findings.
    """

    root: Path
    layout: Layout
    judge: Judge
    found: Collector


def examine(
    data: dict[str, Any],
    places: Path,
    *,
    out: Path | None = None,
    workers: int | None = None,
    reporter: Reporter | None = None,
) -> Examined:
    """Examine a folder.

    Args:
        data: Settings of `Data`, of which `root` is needed; without `format` it is recognized.
        places: Folder for the lists of all places of each finding.
        out: Folder for facts that another examination can go on from; None keeps none.
        workers: Processes; None chooses.
        reporter: Shows how far it is.

    Raises:
        ValueError: If the folder can't be read, or a setting is wrong.
    """
    root, reporter = Path(data["root"]).expanduser(), reporter or Reporter()
    if not root.is_dir():
        raise ValueError(f"{one_line(root)}: no such folder: give the folder of the data set")
    found = Collector(places)
    files = scan(root, found)
    layout = lay_out(root, data, files, found)
    unusable = frozenset(str(file.name) for file in files if not file.usable)
    samples = layout.samples
    # A part of a large image without labels is nothing unusual.
    allowed = bool(data.get("allow_empty_masks", False)) or any(sample.window is not None for sample in samples)
    judge = Judge(root, layout.meaning, found, unusable=unusable, allow_ignored=allowed)
    note_clashes(((each.split, each.name, each.below(root)[0]) for each in samples), found)
    cache = Cache(out / FACTS_FILE if out is not None else None)
    facts = facts_of_all(samples, cache, workers=workers)
    for sample, each in zip(samples, reporter.track(facts, "Examining", len(samples)), strict=True):
        judge.pair(sample, each)
    judge_set(judge, samples)
    for said in layout.refusals:
        if not any(finding.severity == "error" for finding in found.findings):
            found.add("refused", detail=said)
    return Examined(root, layout, judge, found)


def lay_out(root: Path, data: dict[str, Any], files: Sequence[File], found: Collector) -> Layout:
    """Find out how a folder is laid out: as training does, and where training refuses, as well as can be."""
    format, why = recognized(root, data)
    refusals: list[str] = []
    listed = read_class_list(root, found) if format in ("", *LISTED) else None
    data, datasets = _datasets({**data, "format": format}, refusals) if format else (data, {})
    datasets = _named(datasets, found)
    if datasets:
        measured = data.get("measure") == "range"
        samples = [
            each for split, dataset in datasets.items() for each in samples_of(split, dataset, root, measured=measured)
        ]
        _unread(root, datasets, found)
        return Layout(format, why, samples, Meaning.of_dataset(datasets["train"]), listed, refusals)
    samples = tolerant(root, data, files, found)
    if not samples:
        _nothing(root, files, found, next(iter(refusals), why))
    elif not format:
        found.add("unknown-layout", detail=why + _hint(root, files))
    _missing_split(samples, found)
    return Layout(format, why, samples, Meaning.of_list(listed, data.get("object_255")), listed, refusals)


def recognized(root: Path, data: dict[str, Any]) -> tuple[str, str]:
    """Name of the format of a folder, and why; ("", why not) if there is none.

    Raises:
        ValueError: If a format is given that does not exist.
    """
    if data.get("format") is not None:
        catalog.find(data["format"])
        return data["format"], "it was given"
    try:
        format, why = catalog.recognize(root)
    except ValueError as error:
        return "", reason(error)
    return format, why


def _datasets(settings: dict[str, Any], refusals: list[str]) -> tuple[dict[str, Any], dict[str, SegmentationDataset]]:
    """The settings, and both splits as training finds them; what it refuses is noted."""
    source = Data(**settings)  # a wrong setting is the caller's mistake
    datasets: dict[str, SegmentationDataset] = {}
    for split in ("train", "val"):
        try:
            datasets[split] = source.dataset(split)
        except (ValueError, OSError) as error:
            refusals.append(reason(error))
    if len(datasets) < 2:
        return settings, {}
    if {"channels", "measure", "bands"} & settings.keys() or catalog.find(source.format).title:
        return settings, datasets
    with contextlib.suppress(ValueError):  # what differs between images, each of them tells
        kind = kind_of_images([image for dataset in datasets.values() for image, _ in dataset.pairs])
        if kind is not None and not (kind.channels in PHOTO_CHANNELS and kind.description.endswith("of uint16")):
            # As `semask train FOLDER` reads what is no photo.
            settings = {**settings, "channels": kind.channels, "measure": "range"}
            source = Data(**settings)
            datasets = {split: dataset.reading_as(source.reading) for split, dataset in datasets.items()}
    return settings, datasets


def _named(datasets: dict[str, SegmentationDataset], found: Collector) -> dict[str, SegmentationDataset]:
    """Give classes to data whose files do not name them, as `semask train FOLDER` does."""
    if all(dataset.names_classes for dataset in datasets.values()):
        return datasets
    with contextlib.suppress(ValueError):  # of a mask that can't be read, which is found when it is looked at
        parts, _ = alpha_if_found(list(datasets.values()))
        datasets = dict(zip(datasets, parts, strict=True))
    try:
        labels = [label for dataset in datasets.values() for _, label in dataset.pairs]
        guess = guess_classes(mask_kinds(labels, damaged=True))
    except ValueError as error:
        found.add("classes-missing", detail=reason(error))
        return datasets
    found.add("classes-unnamed", detail=guess.reason)
    selection = Selection(guess.classes, guess.tolerance)
    return {split: dataset.selecting(selection) for split, dataset in datasets.items()}


def tolerant(root: Path, data: dict[str, Any], files: Sequence[File], found: Collector) -> list[Sample]:
    """Pairs of a folder that training refuses."""
    folders = {name: data[name] for name in ("image_dir", "label_dir") if data.get(name)}
    pairs = pair(files, found, **folders)
    return [Sample(each.split, root / each.image.name, root / each.mask.name, each.name) for each in pairs]


def _unread(root: Path, datasets: dict[str, SegmentationDataset], found: Collector) -> None:
    """Note the files among the images that are not read."""
    for dataset in datasets.values():
        for path in dataset.unread:
            if path.is_dir():
                continue  # a link that was followed already, which the scan tells
            kind = "unread-file" if path.suffix.lower() in UNREAD_IMAGES else "other-file"
            found.add(kind, [path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)])


def _nothing(root: Path, files: Sequence[File], found: Collector, why: str) -> None:
    """Say why there are no pairs."""
    archives = [str(file.name) for file in files if file.name.suffix.lower() in (".zip", ".tar", ".gz", ".7z", ".rar")]
    unpack = f"; unpack {one_line(archives[0], longest=80)}" if archives else ""
    found.add("unknown-layout" if files else "no-images", archives[:1], why + unpack + _hint(root, files))


def _hint(root: Path, files: Sequence[File]) -> str:
    """Where the data set may be instead."""
    tops = {file.name.parts[0] for file in files}
    inner = next(iter(tops)) if len(tops) == 1 else ""
    return f"; all files are in {one_line(inner, longest=80)}: give that folder" if (root / inner) != root else ""


def _missing_split(samples: Sequence[Sample], found: Collector) -> None:
    splits = {sample.split for sample in samples}
    if len(splits) == 1 and splits <= {"train", "val"}:
        missing = sorted({"train", "val"} - splits)
        found.add("split-missing", detail=f"no pairs for {' and '.join(missing)}")


def own_splits(samples: Sequence[Sample], groups: Sequence[int] | None = None) -> list[Sample]:
    """Samples with a split: their own, or where there is none by a hash of the name."""
    if all(sample.split for sample in samples) and len({sample.split for sample in samples}) == 2:
        return list(samples)
    if len(samples) < 2:
        return [sample._replace(split="train") for sample in samples]
    sides = split_by_name([sample.name for sample in samples], groups=groups)
    return [sample._replace(split=side) for sample, side in zip(samples, sides, strict=True)]
