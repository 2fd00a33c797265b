"""The part of a page with what happened over the steps: scores, losses, learning rate, speed."""

import bisect
from collections.abc import Sequence

from semask.reporting.charts import COLORS, Line, line_chart
from semask.reporting.reading import Log, Subject
from semask.reporting.tables import Cell, bar, count, score, table
from semask.reporting.values import NONE, escaped, number, part, percent

SCORES = {"miou": "mIoU", "mean_accuracy": "mean accuracy", "overall_accuracy": "pixel accuracy"}
LOSSES = {"loss": "loss", "main": "masks", "prior": "priors"}
MOST_ROWS = 200
"""Evaluations in the table."""
MOST_PRIORS = 8


def curves(subjects: Sequence[Subject]) -> str:
    """Charts and the table of evaluations; nothing without a log."""
    logged = [(place, x) for place, x in enumerate(subjects) if x.log.steps or x.evaluations.steps]
    if not logged:
        return ""
    charts = [_evaluations(logged), _losses(logged), _column(logged, "lr", "Learning rate", "learning rate", "l")]
    charts.append(_column(logged, "images/s", "Speed of training", "images a second", "v"))
    best = "".join(f"<p>{line}</p>" for line in (_best(x, many=len(subjects) > 1) for _, x in logged) if line)
    tables = "".join(_table(x, many=len(subjects) > 1) for _, x in logged)
    folded = f"<details><summary>All evaluations as a table</summary>{tables}</details>" if tables else ""
    return f'{best}<div class="charts">{"".join(charts)}</div>{folded}'


def _evaluations(logged: Sequence[tuple[int, Subject]]) -> str:
    lines = []
    for place, subject in logged:
        log, alone = subject.evaluations, len(logged) == 1
        names = dict(SCORES) if alone else {"miou": subject.name}
        names |= {name: f"mIoU of prior {name.removeprefix('prior_')}" for name in _priors(log)} if alone else {}
        for index, (column, name) in enumerate(names.items()):
            steps, values = log.points(column)
            color, dash = (index, index // COLORS) if alone else (place, place // COLORS)
            lines.append(Line(name, steps, [100 * x for x in values], color, dash, markers=True))
    said = "; ".join(_ends(line, "%") for line in lines if line.x)
    return line_chart("Scores on the validation split", said, lines, x="step", y="%", key="e")


def _losses(logged: Sequence[tuple[int, Subject]]) -> str:
    lines = []
    for place, subject in logged:
        alone = len(logged) == 1
        for index, (column, name) in enumerate(LOSSES.items() if alone else [("loss", subject.name)]):
            steps, values = subject.log.points(column)
            if alone and column != "loss" and (not any(values) or values == subject.log.points("loss")[1]):
                continue  # a model without priors
            lines.append(Line(name, steps, values, index if alone else place, 0 if alone else place // COLORS))
    said = "; ".join(_ends(line, "") for line in lines if line.x)
    return line_chart("Training loss", said, lines, x="step", y="loss", log=True, key="o")


def _column(logged: Sequence[tuple[int, Subject]], column: str, title: str, y: str, key: str) -> str:
    lines = [Line(x.name, *x.log.points(column), place, place // COLORS) for place, x in logged]
    said = "; ".join(_ends(line, "") for line in lines if line.x)
    return line_chart(title, said, lines, x="step", y=y, key=key)


def _ends(line: Line, unit: str) -> str:
    """A line in words: where it begins and ends, and between what it lies."""
    first, last = f"{line.y[0]:.4g}{unit}", f"{line.y[-1]:.4g}{unit}"
    return (
        f"{line.name}: {first} at step {line.x[0]:.0f}, {last} at step {line.x[-1]:.0f}, "
        f"lowest {min(line.y):.4g}{unit}, highest {max(line.y):.4g}{unit}"
    )


def _best(subject: Subject, *, many: bool) -> str:
    steps, values = subject.evaluations.points("miou")
    if not steps:
        return ""
    best = max(range(len(values)), key=values.__getitem__)
    total = number(part(part(subject.description, "recipe"), "training").get("steps"))
    of = f" of {total:,.0f}" if total is not None else ""
    name = f"{escaped(subject.name)}: " if many else ""
    return (
        f"{name}The best mIoU was {percent(values[best])} % at step {steps[best]:,}; "
        f"the last, at step {steps[-1]:,}{of}, is {percent(values[-1])} %."
    )


def _priors(log: Log) -> list[str]:
    return [name for name in log.columns if name.startswith("prior_")][:MOST_PRIORS]


def _table(subject: Subject, *, many: bool) -> str:
    log = subject.evaluations
    columns = [*(name for name in SCORES if name in log.columns), *_priors(log)]
    logged = [(name, *subject.log.points(name)) for name in ("loss", "lr") if name in subject.log.columns]
    rows = []
    for i in range(max(0, len(log.steps) - MOST_ROWS), len(log.steps)):
        cells = [bar(log.columns[c][i]) if c == "miou" else score(log.columns[c][i]) for c in columns]
        cells += [_number(_at(log.steps[i], steps, values)) for _, steps, values in logged]
        rows.append([count(log.steps[i]), *cells])
    heads = ["step", *(f"{SCORES.get(c, c.replace('_', ' '))} %" for c in columns)]
    heads += ["learning rate" if name == "lr" else name for name, *_ in logged]
    return table(f"Evaluations of {subject.name}" if many else "Evaluations", heads, rows)


def _at(step: int, steps: Sequence[int], values: Sequence[float]) -> float | None:
    """What was logged last before the end of a step; None before the first line."""
    place = bisect.bisect_right(steps, step) - 1
    return values[place] if place >= 0 else None


def _number(value: float | None) -> Cell:
    return Cell(NONE if value is None else f"{value:.4g}", value)
