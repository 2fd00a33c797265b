"""The part of a page with scores: means, classes, sizes, boundaries, confusion, calibration, corruptions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semask.reporting.charts import COLORS, Line, line_chart
from semask.reporting.reading import Subject
from semask.reporting.tables import Cell, bar, count, score, table, words
from semask.reporting.values import MOST_ENTRIES, entries, escaped, items, name_of, number, part, percent, share

MOST_MATRIX = 40
"""Classes of a confusion matrix that is drawn."""
BESIDE = 12
"""Classes of a confusion matrix with room for a table at its side."""
DARKEST = 75
"""Percent of color of a cell that holds all pixels: text in it stays readable."""
Row = Mapping[str, Any]


def means(subjects: Sequence[Subject]) -> str:
    """A table of the means: a row for each of one subject, a row for each subject of several."""
    return _means_of(subjects[0]) if len(subjects) == 1 else _means_between(subjects)


def _means_of(subject: Subject) -> str:
    found, details = subject.scores, part(subject.scores, "details")
    if share(found.get("miou")) is None:
        return ""
    room = bool(part(found, "intervals"))
    rows = [
        [words(name), bar(share(found.get(key)), *_ends(part(part(found, "intervals"), key)), room=room)]
        for key, name in (
            ("miou", "mIoU"),
            ("mean_accuracy", "mean accuracy"),
            ("overall_accuracy", "pixel accuracy"),
        )
    ]
    if boundary := part(details, "boundary"):
        rows.append([words("boundary mIoU"), bar(share(boundary.get("miou")), room=room)])
    for x in entries(details, "sizes")[:8]:
        rows.append([words(f"mIoU, {name_of(x)} objects"), bar(share(x.get("miou")), room=room)])
    between = entries(part(found, "intervals"), "prior_miou")
    for stage, value in enumerate(items(found, "prior_miou"), start=1):
        ends = between[stage - 1] if stage <= len(between) else {}
        rows.append([words(f"mIoU of prior {stage}"), bar(share(value), *_ends(ends), room=room)])
    if calibration := part(details, "calibration"):
        rows.append([words("calibration error"), bar(share(calibration.get("ece")), digits=2, room=room)])
    return table("Means", ["score", "%"], rows, sorts=False)


def _means_between(subjects: Sequence[Subject]) -> str:
    sizes = _size_names(subjects)
    heads = ["name", "mIoU %", "mean accuracy %", "pixel accuracy %"]
    boundary = any(part(part(x.scores, "details"), "boundary") for x in subjects)
    calibration = any(part(part(x.scores, "details"), "calibration") for x in subjects)
    heads += ["boundary mIoU %"] * boundary + [f"{name} objects %" for name in sizes]
    heads += ["calibration error %"] * calibration
    rows = []
    for subject in subjects:
        found, details = subject.scores, part(subject.scores, "details")
        if share(found.get("miou")) is None:
            continue
        row = [words(subject.name, longest=120), _interval_bar(found, "miou")]
        row += [score(share(found.get(name))) for name in ("mean_accuracy", "overall_accuracy")]
        row += [score(share(part(details, "boundary").get("miou")))] * boundary
        of_sizes = {name_of(x): share(x.get("miou")) for x in entries(details, "sizes")}
        row += [score(of_sizes.get(name)) for name in sizes]
        row += [score(share(part(details, "calibration").get("ece")), digits=2)] * calibration
        rows.append(row)
    return table("Means", heads, rows) + _priors(subjects)


def _priors(subjects: Sequence[Subject]) -> str:
    """A table of the priors of several subjects, as far as they have some."""
    found = [(x, [share(value) for value in items(x.scores, "prior_miou")]) for x in subjects]
    stages = max(len(values) for _, values in found)
    rows = [
        [words(x.name, longest=120), *(score(values[i] if i < len(values) else None) for i in range(stages))]
        for x, values in found
        if values
    ]
    return table("mIoU of the priors", ["name", *(f"stage {i} %" for i in range(1, stages + 1))], rows)


def note_of_intervals(subjects: Sequence[Subject]) -> str:
    """Where the intervals come from."""
    lines = {}
    for subject in subjects:
        found = part(subject.scores, "intervals")
        units = number(found.get("units"))
        if units is not None:
            grouped = "groups of images" if found.get("groups") else "images"
            lines[subject.name] = (
                f"Intervals of 95 %: what other data of this kind would give, from {units:,.0f} {grouped}."
            )
    if len(set(lines.values())) == 1:
        return f"<p>{next(iter(lines.values()))}</p>"
    return "".join(f"<p>{escaped(name)}: {line}</p>" for name, line in lines.items())


def classes(subjects: Sequence[Subject]) -> str:
    """A table of the classes: all scores of one model, or the IoU of several."""
    scored = [x for x in subjects if entries(x.scores, "classes")]
    if not scored:
        return ""
    return _classes_of(scored[0]) if len(scored) == 1 else _classes_between(scored)


def _classes_of(subject: Subject) -> str:
    found, details = subject.scores, part(subject.scores, "details")
    rows_of = entries(found, "classes")
    boundary, sure = _by_name(part(details, "boundary")), _by_name(part(details, "calibration"))
    intervals, sizes = _by_name(part(found, "intervals")), entries(details, "sizes")
    of_sizes = [(name_of(size), _by_name(size)) for size in sizes[:8]]
    total = sum(number(row.get("pixels")) or 0 for row in rows_of)
    heads = ["class", "IoU %", "accuracy %"] + ["boundary IoU %"] * bool(boundary)
    heads += [f"IoU {name} %" for name, _ in of_sizes] + ["precision %", "confidence %"] * bool(sure)
    rows = []
    for row in rows_of:
        name, pixels = name_of(row), number(row.get("pixels"))
        between = intervals.get(name, {})
        cells = [words(name), bar(share(row.get("iou")), *_ends(between))]
        cells.append(score(share(row.get("accuracy"))))
        cells += [score(share(boundary.get(name, {}).get("iou")))] * bool(boundary)
        cells += [score(share(size.get(name, {}).get("iou"))) for _, size in of_sizes]
        if sure:
            cells += [score(share(sure.get(name, {}).get(key))) for key in ("precision", "confidence")]
        rows.append([*cells, score(None if pixels is None or not total else pixels / total, digits=2)])
    return table("Classes", [*heads, "share of the pixels %"], rows)


def _classes_between(subjects: Sequence[Subject]) -> str:
    of_each = [_by_name(x.scores) for x in subjects]
    intervals = [_by_name(part(x.scores, "intervals")) for x in subjects]
    rows = []
    for name in list(dict.fromkeys(name for found in of_each for name in found))[:MOST_ENTRIES]:
        ious = [share(found.get(name, {}).get("iou")) for found in of_each]
        ends = [found.get(name, {}) for found in intervals]
        cells = [bar(iou, *_ends(x)) for iou, x in zip(ious, ends, strict=True)]
        known = [x for x in ious if x is not None]
        rows.append([words(name), *cells, score(max(known) - min(known) if len(known) > 1 else None)])
    heads = ["class", *(f"IoU %, {x.name}" for x in subjects), "largest difference, points"]
    return table("IoU of the classes", heads, rows)


def confusion(subject: Subject, *, of: str = "") -> str:
    """What classes are taken for: the matrix if it is there, and the most frequent confusions.

    Args:
        subject: Run or evaluation.
        of: What to end titles with, where there are several.
    """
    names = [name_of(row) for row in entries(subject.scores, "classes")]
    matrix = _matrix(subject, len(names))
    pairs = [
        [
            words(name_of(x, "label")),
            words(name_of(x, "prediction")),
            bar(share(x.get("share"))),
            count(number(x.get("pixels"))),
        ]
        for x in entries(subject.scores, "confused")
    ]
    listed = table(f"Most frequent confusions{of}", ["label", "predicted as", "share of the label %", "pixels"], pairs)
    if matrix is None:
        return listed
    if len(names) > BESIDE:
        return _drawn(matrix, names, of) + listed
    return f'<div class="each"><div>{_drawn(matrix, names, of)}</div><div>{listed}</div></div>'


def _matrix(subject: Subject, size: int) -> NDArray[np.float64] | None:
    """The confusion matrix [K, K] of a subject as shares of each label; None if it has none, or a wrong one."""
    rows = part(subject.scores, "details").get("confusion")
    if subject.counts is not None and len(subject.counts.classes) == size:
        matrix = subject.counts.matrix().astype(np.float64)
    elif isinstance(rows, list) and 0 < len(rows) == size <= MOST_ENTRIES:
        values = [[number(x) for x in row] if isinstance(row, list) and len(row) == size else [None] for row in rows]
        if any(x is None or x < 0 for row in values for x in row):
            return None
        matrix = np.array(values, np.float64)
    else:
        return None
    shares: NDArray[np.float64] = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    return shares


def _drawn(matrix: NDArray[np.float64], names: Sequence[str], of: str) -> str:
    """The matrix as a table, the darker the larger a share; diagonal and errors have colors of their own."""
    more = ""
    if len(names) > MOST_MATRIX:
        more = f"<p>The first {MOST_MATRIX} of {len(names)} classes.</p>"
        names, matrix = names[:MOST_MATRIX], matrix[:MOST_MATRIX, :MOST_MATRIX]
    heads = "".join(f'<th scope="col"><span>{escaped(name, longest=24)}</span></th>' for name in names)
    rows = []
    for i, name in enumerate(names):
        cells = []
        for j, value in enumerate(matrix[i]):
            kind = "hit" if i == j else "miss"
            text = percent(float(value), digits=0) if value >= 0.005 else "·"
            cells.append(f'<td class="{kind}" style="--s:{DARKEST * float(value):.0f}%">{text}</td>')
        rows.append(f'<tr><th scope="row">{escaped(name, longest=40)}</th>{"".join(cells)}</tr>')
    caption = escaped(f"Confusion matrix{of}")
    return (
        "<p>Of the pixels of a label (row), how many percent are predicted as each class (column).</p>"
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}">'
        f'<table class="matrix">'
        f"<caption>{caption}</caption><thead><tr><td></td>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>{more}"
    )


def calibration(subjects: Sequence[Subject]) -> str:
    """How often predictions of a confidence are right."""
    lines, rows = [], []
    for place, subject in enumerate(subjects):
        found = part(part(subject.scores, "details"), "calibration")
        bins = [
            (share(x.get("confidence")), share(x.get("accuracy")), number(x.get("pixels")))
            for x in entries(found, "bins")
        ]
        known = [(sure, right) for sure, right, _ in bins if sure is not None and right is not None]
        if not known:
            continue
        lines.append(
            Line(subject.name, [x for x, _ in known], [y for _, y in known], place, place // COLORS, markers=True)
        )
        rows += [
            [*([words(subject.name)] if len(subjects) > 1 else []), score(sure), score(right), count(pixels)]
            for sure, right, pixels in bins
            if sure is not None
        ]
    if not lines:
        return ""
    said = "; ".join(
        f"{line.name}: " + ", ".join(f"confidence {x:.2f} right {y:.2f}" for x, y in zip(line.x, line.y, strict=True))
        for line in lines
    )
    chart = line_chart(
        "Right at each confidence", said, lines, x="confidence", y="share that is right", key="k", diagonal=True
    )
    heads = [*(["name"] if len(subjects) > 1 else []), "confidence %", "right %", "pixels"]
    shown = table("Bins of confidence", heads, rows)
    return (
        "<p>On the straight line, a confidence of 80 % is right in 80 % of the pixels. Below it, the model is too sure."
        f'</p><div class="charts">{chart}</div><details><summary>As a table</summary>{shown}</details>'
    )


def corruptions(subject: Subject, *, of: str = "") -> str:
    """Scores on corrupted images; nothing if they were not evaluated.

    Args:
        subject: Run or evaluation.
        of: What to end titles with, where there are several.
    """
    found = part(subject.scores, "corruptions")
    strengths = [number(x) for x in items(found, "strengths")][:10]
    rows = []
    for x in entries(found, "results"):
        values = [share(y) for y in items(x, "miou")]
        values = [values[i] if i < len(values) else None for i in range(len(strengths))]
        rows.append([words(name_of(x)), *map(score, values), score(share(x.get("mean_miou")))])
    heads = ["corruption", *(f"strength {0 if x is None else x:g}" for x in strengths), "mean"]
    return table(f"mIoU % on corrupted images{of}", heads, rows)


def _interval_bar(found: Row, name: str) -> Cell:
    return bar(share(found.get(name)), *_ends(part(part(found, "intervals"), name)))


def _ends(between: Row) -> tuple[float | None, float | None]:
    return share(between.get("low")), share(between.get("high"))


def _by_name(found: Row) -> dict[str, Row]:
    return {name_of(row): row for row in entries(found, "classes")}


def _size_names(subjects: Sequence[Subject]) -> list[str]:
    names = (name_of(x) for subject in subjects for x in entries(part(subject.scores, "details"), "sizes"))
    return list(dict.fromkeys(names))[:8]
