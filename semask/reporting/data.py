"""The part of a page with statistics of the data."""

import numpy as np
from numpy.typing import NDArray

from semask.reporting.facts import count_of, text_of
from semask.reporting.reading import Subject
from semask.reporting.tables import bar, count, definitions, score, table, words
from semask.reporting.values import entries, items, name_of, number, part


def data(subject: Subject, *, of: str = "") -> str:
    """What the data is, and how often each class occurs in what was evaluated.

    Args:
        subject: Run or evaluation.
        of: What to end titles with, where there are several.
    """
    found = part(subject.scores, "data") or part(part(subject.description, "recipe"), "data")
    names = items(part(subject.description, "classes"), "classes") or entries(subject.scores, "classes")
    pixels = sum(number(row.get("pixels")) or 0 for row in entries(subject.scores, "classes"))
    about = definitions(
        [
            ("data set", text_of(found.get("name"))),
            ("folder", text_of(found.get("root"))),
            ("format", text_of(found.get("format"))),
            ("split", text_of(found.get("val_split"))),
            ("images evaluated", count_of(found.get("images"))),
            ("classes", len(names) or None),
            ("labeled pixels evaluated", f"{pixels:,.0f}" if pixels else None),
        ]
    )
    return about + statistics(subject, of=of)


def statistics(subject: Subject, *, of: str = "") -> str:
    """A table of how often each class occurs; with counts of the images, in how many of them, and how large it is."""
    rows_of = entries(subject.scores, "classes")
    total = sum(number(row.get("pixels")) or 0 for row in rows_of)
    if not total:
        return ""
    areas = labeled(subject, len(rows_of))
    rows = []
    for place, row in enumerate(rows_of):
        pixels = number(row.get("pixels"))
        cells = [words(name_of(row)), bar(None if pixels is None else pixels / total), count(pixels)]
        if areas is not None:
            has = areas[:, place] > 0
            shares = areas[has, place] / areas[has].sum(1)
            cells += [count(int(has.sum())), score(float(has.mean()))]
            cells.append(score(float(np.median(shares)) if len(shares) else None))
        rows.append(cells)
    heads = ["class", "share of the labeled pixels %", "labeled pixels"]
    if areas is not None:
        heads += ["images with it", "of all images %", "median share in these %"]
    return table(f"Classes in the evaluated images{of}", heads, rows)


def labeled(subject: Subject, size: int) -> NDArray[np.int64] | None:
    """Labeled pixels of each image and class [N, K]; None without counts, or with those of other classes."""
    counts = subject.counts
    if counts is None or len(counts.classes) != size or not counts.names:
        return None
    return counts.areas()[..., 1]
