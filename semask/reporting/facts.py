"""The part of a page with what a result was made with: recipe, versions, hardware."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from semask.reporting.reading import Subject
from semask.reporting.tables import definitions, table, words
from semask.reporting.values import MOST_ENTRIES, NONE, number, part

DEEPEST = 4


def origin(subject: Subject) -> str:
    """Weights, versions and hardware."""
    found, trained = subject.scores, subject.description
    weights = part(found, "weights")
    published = part(found, "published")
    step = number(weights.get("step")) or number(trained.get("step"))
    return definitions(
        [
            ("report of", subject.source),
            ("weights", text_of(weights.get("file"))),
            ("SHA-256 of the weights", text_of(weights.get("sha256"))),
            ("step", count_of(step)),
            ("published as", text_of(published.get("name"))),
            ("ended early", text_of(part(trained, "ended").get("why"))),
            ("hardware of the training", (text_of(trained.get("machine")) or "not noted") if trained else None),
            ("hardware of the evaluation", text_of(found.get("machine"))),
            ("precision of the training", text_of(part(part(trained, "recipe"), "training").get("precision"))),
            ("precision of the evaluation", text_of(found.get("precision"))),
            ("processes", count_of(found.get("processes"))),
            ("versions of the training", _versions(trained)),
            ("versions of the evaluation", _versions(found)),
        ]
    )


def _versions(values: Mapping[str, Any]) -> str | None:
    found = [f"{name} {value}" for name, value in list(part(values, "versions").items())[:20] if text_of(value)]
    return ", ".join(found) or None


def recipe(subjects: Sequence[Subject]) -> str:
    """All settings; of several subjects those that differ first."""
    flat = [flattened(_settings(x)) for x in subjects]
    names = list(dict.fromkeys(name for one in flat for name in one))
    if not names:
        return ""
    heads = ["setting", *(x.name for x in subjects)] if len(subjects) > 1 else ["setting", "value"]

    def rows(title: str, chosen: Sequence[str]) -> str:
        return table(title, heads, [[words(x), *(words(one.get(x, NONE)) for one in flat)] for x in chosen])

    kind = "columns" if len(subjects) == 1 else "folded"  # in two columns on paper, or not on paper
    everything = (
        f'<details class="{kind}"><summary>All {len(names)} settings</summary>{rows("Settings", names)}</details>'
    )
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


def text_of(value: Any) -> str | None:
    """A text that is not empty, or None."""
    return value if isinstance(value, str) and value else None


def count_of(value: Any) -> str | None:
    """A number written as a count, or None."""
    found = number(value)
    return None if found is None else f"{found:,.0f}"
