"""Subjects -> one HTML file: the parts of a report under their headings."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime

from semask import __version__
from semask.reporting.curves import curves
from semask.reporting.data import data
from semask.reporting.differences import differences
from semask.reporting.facts import origin, recipe
from semask.reporting.reading import Subject
from semask.reporting.scores import calibration, classes, confusion, corruptions, means, note_of_intervals
from semask.reporting.style import SCRIPT, STYLE
from semask.reporting.values import escaped

MARK = '<meta name="generator" content="semask report">'
"""What a page of ours begins with, in its first bytes: only such a file is replaced without being asked."""

TOGETHER = '<label class="together"><input type="checkbox" checked> Move all sliders together</label>'


def page(subjects: Sequence[Subject], pictures: str) -> str:
    """Make the page.

    Args:
        subjects: What it is about.
        pictures: Part with pictures, or with why there are none.
    """
    many = len(subjects) > 1
    of = [f" of {x.name}" if many else "" for x in subjects]
    parts = [
        ("curves", "Curves", curves(subjects)),
        ("scores", "Scores", means(subjects) + note_of_intervals(subjects) + classes(subjects)),
        ("differences", "Differences", differences(subjects)),
        ("confusion", "Confusion", _each(subjects, [confusion(x, of=y) for x, y in zip(subjects, of, strict=True)])),
        ("calibration", "Calibration", calibration(subjects)),
        (
            "corruptions",
            "Corrupted images",
            _each(subjects, [corruptions(x, of=y) for x, y in zip(subjects, of, strict=True)]),
        ),
        ("pictures", "Pictures", (TOGETHER if pictures.count('<figure class="stack">') > 1 else "") + pictures),
        ("data", "Data", _data(subjects, of)),
        ("recipe", "Recipe", recipe(subjects)),
        ("origin", "Weights, versions, hardware", _each(subjects, [origin(x) for x in subjects])),
    ]
    parts = [(key, title, content) for key, title, content in parts if content]
    title = "Comparison of " + ", ".join(x.name for x in subjects) if many else subjects[0].name
    links = "".join(f'<li><a href="#{key}">{name}</a></li>' for key, name, _ in parts)
    notes = "".join(f"<p><strong>Note:</strong> {escaped(note, longest=400)}</p>" for x in subjects for note in x.notes)
    sections = "\n".join(
        f'<section id="{key}" aria-labelledby="h-{key}"><h2 id="h-{key}">{name}</h2>{content}</section>'
        for key, name, content in parts
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">{MARK}
<meta http-equiv="Content-Security-Policy" content="{policy()}">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escaped(title)}: report</title>
<style>{STYLE}</style></head>
<body><a class="skip" href="#main">Go to the content</a><header><h1>{escaped(title, longest=400)}</h1>
<p class="soft">Made by semask {escaped(__version__)} on {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}</p>{notes}
<nav aria-label="Parts"><ul>{links}</ul></nav></header>
<main id="main">
{sections}
</main><script>{SCRIPT}</script></body></html>
"""


def policy() -> str:
    """What the page may do: show what is in it, and run the one script that is in it."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    inline = f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    return f"default-src 'none'; img-src data:; {inline}; base-uri 'none'; form-action 'none'"


def _data(subjects: Sequence[Subject], of: Sequence[str]) -> str:
    """The data of all subjects; once if they have the same."""
    if len({data(x) for x in subjects}) == 1:
        return data(subjects[0])
    return _each(subjects, [data(x, of=y) for x, y in zip(subjects, of, strict=True)])


def _each(subjects: Sequence[Subject], parts: Sequence[str]) -> str:
    """The parts of all subjects that have one, under their names if there are several subjects."""
    if len(subjects) == 1:
        return parts[0]
    found = [f"<div><h3>{escaped(x.name)}</h3>{part}</div>" for x, part in zip(subjects, parts, strict=True) if part]
    return f'<div class="each">{"".join(found)}</div>' if found else ""
