"""The page of the doctor: one HTML file with all pictures in it, which needs no network and no script."""

import html
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from semask.data.classes import IGNORE_INDEX
from semask.doctor.charts import class_bars, scatter
from semask.doctor.examine import Examined
from semask.doctor.findings import Example, Finding, exit_code, printable
from semask.doctor.pictures import data_url, overlaid, picture_of_image, picture_of_label
from semask.doctor.samples import Sample
from semask.doctor.tally import SplitTally
from semask.files.atomic import write_whole
from semask.files.text import one_line

SHOWN = 6
"""Examples of a finding that are shown with pictures."""
MOSAIC = 12
"""Samples of a split that are shown."""
MOST_CLASSES = 60
STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1c1c1c; --soft: #5a5a5a; --line: #c9c9c9; --card: #f6f6f6;
 --error: #b00020; --warning: #8a5a00; --note: #35618e }
@media (prefers-color-scheme: dark) { :root { --back: #16181b; --text: #e8e8e8; --soft: #aaa; --line: #444;
 --card: #202327; --error: #ff8a8a; --warning: #f0be5a; --note: #8fbdec } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1100px; padding: 1.5em;
 background: var(--back); color: var(--text) }
a { color: var(--note) } .skip { position: absolute; left: -99em } .skip:focus { position: static }
:focus-visible { outline: 3px solid var(--note); outline-offset: 2px }
table { border-collapse: collapse; width: 100% } th, td { text-align: left; padding: 4px 10px 4px 0;
 vertical-align: top; border-bottom: 1px solid var(--line) } td.count { text-align: right }
section.finding { background: var(--card); border-left: 5px solid var(--line); padding: .6em 1em; margin: 1.2em 0;
 break-inside: avoid }
.error { border-color: var(--error) !important } .warning { border-color: var(--warning) !important }
.note { border-color: var(--note) !important } b.error { color: var(--error) } b.warning { color: var(--warning) }
b.note { color: var(--note) }
.pictures { display: flex; flex-wrap: wrap; gap: 12px } figure { margin: 0; max-width: 460px }
figure img { max-width: 220px; min-width: 60px; image-rendering: auto; border: 1px solid var(--line) }
figcaption { font-size: 13px; color: var(--soft); overflow-wrap: anywhere }
svg { max-width: 760px; width: 100% } svg text { font-size: 12px; fill: var(--text) } svg .axis { fill: none;
 stroke: var(--soft) } svg circle { fill: var(--note); fill-opacity: .7 } svg.scatter { max-width: 430px }
svg .bar { stroke: var(--soft); stroke-width: .5 }
@media print { body { max-width: none; font-size: 12px } section.finding { border: 1px solid #999 } }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
VERDICTS = {
    0: "Nothing is wrong.",
    1: "It can be trained on, but see the warnings.",
    2: "It cannot be trained on as it is.",
}


def write_page(path: Path, examined: Examined) -> None:
    """Write the page.

    Raises:
        ValueError: If it can't be written.
    """
    write_whole(path, "".join(_parts(examined)))


def _parts(examined: Examined) -> Iterator[str]:
    findings = examined.found.findings
    name = _escaped(examined.root.resolve().name or "data set")
    yield f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}"><title>{name}: report</title><style>{STYLE}</style></head>
<body><a class="skip" href="#findings">Go to the findings</a><header><h1>{name}</h1>
<p><strong>{VERDICTS[exit_code(findings)]}</strong></p>{_summary(examined)}</header>
<main><h2 id="findings">Findings</h2>
"""
    yield _table(findings)
    samples = {name: sample for sample in examined.layout.samples for name in sample.below(examined.root)}
    for finding in findings:
        yield _section(finding, examined, samples)
    yield _classes(examined)
    if examined.judge.tally.sizes:
        yield f"<h2>Sizes of the images</h2>{scatter(examined.judge.tally.sizes)}\n"
    yield from _mosaics(examined)
    yield "</main></body></html>\n"


def _summary(examined: Examined) -> str:
    layout = examined.layout
    pairs = ", ".join(f"{split.pairs:,} {_escaped(name or 'without split')}" for name, split in _splits(examined))
    said = (
        f"Format {_escaped(layout.format)}: {_escaped(layout.reason)}." if layout.format else "Layout not recognized."
    )
    return f"<p>{_escaped(examined.root)}. {said} Labeled images: {pairs or 'none'}.</p>"


def _splits(examined: Examined) -> list[tuple[str, SplitTally]]:
    return sorted(examined.judge.tally.splits.items())


def _table(findings: list[Finding]) -> str:
    if not findings:
        return "<p>None.</p>\n"
    rows = "".join(
        f'<tr><td><b class="{finding.severity}">{finding.severity}</b></td>'
        f'<th scope="row"><a href="#{finding.name}">{_escaped(finding.kind.title)}</a></th>'
        f'<td class="count">{finding.count:,}</td><td>{_escaped(finding.kind.advice)}</td></tr>'
        for finding in findings
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in ("", "finding", "places", "what to do"))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>\n"


def _section(finding: Finding, examined: Examined, samples: dict[str, Sample]) -> str:
    kind = finding.kind
    figures = "".join(_figure(example, examined, samples) for example in finding.examples[:SHOWN])
    rest = finding.count - min(SHOWN, len(finding.examples))
    more = f"<p>{rest:,} more: see findings.json.</p>" if rest > 0 else ""
    fixed = f"<code>--fix</code>: {_escaped(kind.fixed)}." if kind.fixed else "<code>--fix</code> cannot mend it."
    return f"""<section class="finding {finding.severity}" id="{finding.name}" aria-labelledby="h-{finding.name}">
<h3 id="h-{finding.name}">{_escaped(kind.title)} <small>({finding.name}, {finding.count:,})</small></h3>
<p><b class="{finding.severity}">{finding.severity}</b>. Effect: {_escaped(kind.effect)}.
To do: {_escaped(kind.advice)}. {fixed}</p>
<div class="pictures">{figures}</div>{more}</section>
"""


def _figure(example: Example, examined: Examined, samples: dict[str, Sample]) -> str:
    """The pictures of a place: of its files, and of what belongs to them."""
    classes = examined.layout.meaning.classes
    pictures = []
    for name in example.files:
        sample = samples.get(name)
        if sample is None:
            continue
        image, mask = picture_of_image(sample.image), picture_of_label(sample.label, classes)
        own, label = sample.below(examined.root)
        for picture, title, exact in ((image, own, False), (mask, label, True)):
            tag = f'<img alt="{_escaped(title)}" src="{data_url(picture, exact=exact)}">' if picture else ""
            if tag and tag not in pictures:
                pictures.append(tag)
    said = ": ".join(part for part in (" and ".join(example.files), example.detail) if part)
    return f"<figure>{' '.join(pictures)}<figcaption>{_escaped(said)}</figcaption></figure>"


def _classes(examined: Examined) -> str:
    classes = examined.layout.meaning.classes
    if classes is None:
        return ""
    shares = {}
    for name, split in sorted(examined.judge.tally.splits.items()):
        total = sum(count for index, count in split.pixels.items() if index != IGNORE_INDEX)
        if total:
            shares[name or "all"] = [split.pixels[index] / total for index in range(len(classes))]
    if not shares:
        return ""
    colors = [f"rgb{color}".replace(" ", "") for color in classes.palette[:MOST_CLASSES]]
    more = f"<p>The first {MOST_CLASSES} of {len(classes)} classes.</p>" if len(classes) > MOST_CLASSES else ""
    note = "<p>Share of the labeled pixels; each step of the scale is ten times more.</p>"
    return f"<h2>Classes</h2>{note}{class_bars(classes.names[:MOST_CLASSES], colors, shares)}{more}\n"


def _mosaics(examined: Examined) -> Iterator[str]:
    """Some samples of each split, image and label together."""
    for split in sorted(examined.judge.tally.splits):
        samples = [sample for sample in examined.layout.samples if sample.split == split]
        figures = []
        for index in np.linspace(0, len(samples) - 1, min(MOSAIC, len(samples))):
            sample = samples[int(index)]
            image = picture_of_image(sample.image)
            mask = picture_of_label(sample.label, examined.layout.meaning.classes)
            if image is not None and mask is not None:
                name = _escaped(sample.below(examined.root)[0])
                url = data_url(overlaid(image, mask))
                figures.append(
                    f'<figure><img alt="{name} with its label" src="{url}"><figcaption>{name}</figcaption></figure>'
                )
        if figures:
            yield f'<h2>Samples: {_escaped(split or "all")}</h2><div class="pictures">{"".join(figures)}</div>\n'


def _escaped(text: object) -> str:
    return html.escape(one_line(printable(str(text)), longest=400))
