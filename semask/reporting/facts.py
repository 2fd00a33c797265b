"""The part of a page with what a result was made with: data, recipe, versions, hardware."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from semask.reporting.reading import Subject
from semask.reporting.tables import definitions, table, words
from semask.reporting.values import MOST_ENTRIES, NONE, entries, items, number, part

DEEPEST = 4


def data(subject: Subject) -> str:
    """What the data is."""
    found = part(subject.scores, "data") or part(part(subject.description, "recipe"), "data")
    names = items(part(subject.description, "classes"), "classes") or entries(subject.scores, "classes")
    pixels = sum(number(row.get("pixels")) or 0 for row in entries(subject.scores, "classes"))
    return definitions(
        [
            ("data set", _text(found.get("name"))),
            ("folder", _text(found.get("root"))),
            ("format", _text(found.get("format"))),
            ("split", _text(found.get("val_split"))),
            ("images evaluated", _count(found.get("images"))),
            ("classes", len(names) or None),
            ("labeled pixels evaluated", f"{pixels:,.0f}" if pixels else None),
        ]
    )


def origin(subject: Subject) -> str:
    """Weights, versions and hardware."""
    found, versions = subject.scores, part(subject.scores, "versions") or part(subject.description, "versions")
    weights = part(found, "weights")
    published = part(found, "published")
    step = number(weights.get("step")) or number(subject.description.get("step"))
    return definitions(
        [
            ("report of", subject.source),
            ("weights", _text(weights.get("file"))),
            ("SHA-256 of the weights", _text(weights.get("sha256"))),
            ("step", _count(step)),
            ("hardware", _text(found.get("machine")) or "not noted"),
            ("precision", _text(found.get("precision"))),
            ("processes", _count(found.get("processes"))),
            ("published as", _text(published.get("name"))),
            *((f"version of {name}", _text(value)) for name, value in list(versions.items())[:20]),
            ("ended early", _text(part(subject.description, "ended").get("why"))),
        ]
    )


def recipe(subjects: Sequence[Subject]) -> str:
    """All settings; of several subjects those that differ first."""
    flat = [flattened(_settings(x)) for x in subjects]
    names = list(dict.fromkeys(name for one in flat for name in one))
    if not names:
        return ""
    heads = ["setting", *(x.name for x in subjects)] if len(subjects) > 1 else ["setting", "value"]

    def rows(title: str, chosen: Sequence[str]) -> str:
        return table(title, heads, [[words(x), *(words(one.get(x, NONE)) for one in flat)] for x in chosen])

    everything = f"<details><summary>All {len(names)} settings</summary>{rows('Settings', names)}</details>"
    if len(subjects) == 1:
        return everything
    other = [name for name in names if len({one.get(name) for one in flat}) > 1]
    said = f"{rows('Settings that differ', other)}" if other else "<p>All settings are the same.</p>"
    return said + everything


def _settings(subject: Subject) -> Mapping[str, Any]:
    return part(subject.description, "recipe") or {
        "data": part(subject.scores, "data"),
        "evaluation": part(subject.scores, "settings"),
    }


def flattened(values: Mapping[str, Any], before: str = "", depth: int = 0) -> dict[str, str]:
    """Settings of all sections as text, by "section.name".

    >>> flattened({"model": {"decoder": "fpn", "sizes": [1, 2]}})
    {'model.decoder': 'fpn', 'model.sizes': '[1, 2]'}
    """
    found: dict[str, str] = {}
    for name, value in list(values.items())[:MOST_ENTRIES]:
        if isinstance(value, Mapping) and depth < DEEPEST:
            found |= flattened(value, f"{before}{name}.", depth + 1)
        else:
            found[f"{before}{name}"] = value if isinstance(value, str) else _json(value)
    return dict(list(found.items())[:MOST_ENTRIES])


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):  # a number of more digits than Python writes
        return NONE


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: Any) -> str | None:
    found = number(value)
    return None if found is None else f"{found:,.0f}"
