"""The part of a page with the differences of evaluations on the same images."""

from collections.abc import Sequence

from semask.evaluation.comparison import MOST_SIDES, Pair, compare
from semask.files.text import reason
from semask.metrics.comparison import Difference
from semask.reporting.reading import Subject
from semask.reporting.tables import Cell, score, table, words
from semask.reporting.values import NONE, escaped

SHOWN = 10
"""Images in which two evaluations differ most that are listed."""


def differences(subjects: Sequence[Subject]) -> str:
    """Tables of the differences from the first evaluation that has counts of its images, or why there are none."""
    counted = [(x.name, x.counts) for x in subjects if x.counts is not None]
    if len(subjects) < 2:
        return ""
    if len(counted) < 2:
        return (
            "<p>No intervals of differences: give the .npz files that semask evaluate --images writes, of the same "
            "images.</p>"
        )
    try:
        found = compare(*(counts for _, counts in counted[:MOST_SIDES]), top=SHOWN)
    except ValueError as error:
        return f"<p>No differences: {escaped(reason(error))}.</p>"
    names = [name for name, _ in counted]
    parts = [_pair(names[0], name, pair, found.classes) for name, pair in zip(names[1:], found.pairs, strict=False)]
    said = (
        f"<p>On the same {found.images:,} images. 95 %: what other images of this kind would give. p: permutation "
        "test, of the classes corrected by Holm for their number. Training again with another seed may change a score "
        "too: semask compare takes several seeds as one side.</p>"
    )
    return said + "".join(parts)


def _pair(base: str, other: str, pair: Pair, classes: Sequence[str]) -> str:
    heads = ["class", f"{base} %", f"{other} %", "difference, points", "95 %", "p"]
    rows = [_row(name, x, x.p_holm) for name, x in zip(classes, pair.scores.iou, strict=True)]
    feet = [_row("mean", pair.scores.miou, pair.scores.miou.p)]
    feet += [_row(f"mean, {name} objects", x, x.p) for name, x in pair.sizes.items()]
    shown = table(f"IoU: {other} against {base}", heads, rows, feet=feet)
    smallest = pair.scores.miou.smallest
    line = (
        f"<p>Smallest difference of the mean that would have been found with a probability of 80 %: "
        f"{100 * smallest:.2f} points.</p>"
        if smallest is not None
        else ""
    )
    images = [[words(x.name, longest=120), score(x.base), score(x.other)] for x in pair.images]
    return shown + line + table("They differ most in", ["image", f"{base}: wrong %", f"{other}: wrong %"], images)


def _row(name: str, found: Difference, p: float | None) -> list[Cell]:
    difference, low, high = found.difference, found.interval.low, found.interval.high
    kind = "" if low is None or high is None or low <= 0 <= high else " class=sure"
    shown = NONE if difference is None else f"<span{kind}>{100 * difference:+.2f}</span>"
    between = NONE if low is None or high is None else f"{100 * low:+.1f} to {100 * high:+.1f}"
    written = NONE if p is None else "&lt;0.001" if p < 0.001 else f"{p:.3f}"
    return [
        words(name),
        score(found.base),
        score(found.other),
        Cell(shown, difference),
        Cell(between, low),
        Cell(written, p),
    ]
