"""The page of an explanation: one HTML file that needs neither network nor library, and in which one clicks."""

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semask.explain.compact import LARGEST, Compact, compact_all
from semask.explain.pictures import count_colors, data_url, fitted, fractions, indexed, ramp, smaller, step_colors
from semask.explain.writing import highest_change
from semask.files.text import one_line
from semask.prediction.pictures import index_mask, to_picture

if TYPE_CHECKING:
    from semask.explain.explanation import Explanation, StageExplanation

SIDE = 800
"""Longest side of a picture of the page, in pixels."""
GRID = 160
"""Rows or columns, at most, of the locations that can be chosen."""
NARROWEST, WIDEST = 1 / 8, 16
"""Width by height of the page's picture: longer images are squeezed, as a line could be neither seen nor clicked."""
KINDS = {
    "classes": "Classes",
    "confidence": "Confidence",
    "change": "Change of the features",
    "first": "First stage with the final class",
    "settled": "Stage from which the class stays",
    "disagreement": "Different classes over the stages",
}
"""What can be laid over the photo."""
OF_ALL = ("classes", "confidence")
"""What a model without semantic layers has as well."""
EXITS = "Early exit: the prior of a stage is the result, and nothing after it is computed."
HERE = Path(__file__).parent


def page(explanation: "Explanation", *, title: str) -> str:
    """Make the page; see `Explanation.page`."""
    template, style, script = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    prediction, (height, width) = explanation.prediction, explanation.size
    kept = compact_all([stage.attention for stage in explanation.stages])
    steps, kinds = step_names(explanation), kinds_of(explanation)
    return Template(template).substitute(
        title=html.escape(one_line(title)),
        about=about(explanation),
        exits=EXITS if explanation.stages else "This model has only the decoder.",
        policy=policy(script),
        style=style,
        script=script,
        height=height,
        width=width,
        ratio=f"{min(max(width / height, NARROWEST), WIDEST):.4f}",
        photo="data:," if prediction.image is None else data_url(smaller(to_picture(prediction.image), SIDE)),
        prediction=data_url(smaller(index_mask(prediction.label, prediction.classes), SIDE)),
        last=len(steps) - 1,
        kinds="\n".join(radio(kind, name) for kind, name in kinds.items()),
        numbers=numbers(explanation),
        notes="\n".join(f"<li>{note}</li>" for note in notes(explanation, kept)),
        data=json.dumps(content(explanation, kept), separators=(",", ":")).replace("<", "\\u003c"),
    )


def step_names(explanation: "Explanation") -> list[str]:
    """Names of the stages, and of the decoder at the end."""
    return [*(f"stage {stage.stage}" for stage in explanation.stages), "decoder"]


def kinds_of(explanation: "Explanation") -> dict[str, str]:
    """What can be laid over this photo."""
    return KINDS if explanation.stages else {kind: KINDS[kind] for kind in OF_ALL}


def about(explanation: "Explanation") -> str:
    """What the page shows, in a sentence or two."""
    height, width = explanation.size
    if explanation.stages:
        return (
            f"What each stage of the model already believes of a photo of {height} x {width} pixels, before the "
            "decoder decides."
        )
    return (
        f"What the model says of a photo of {height} x {width} pixels. It has no semantic layers, so there are no "
        "priors: models that <code>semask train FOLDER</code> makes have them."
    )


def exits(explanation: "Explanation") -> list[str]:
    """What an early exit after each stage costs and gives; and the decoder."""
    texts = [
        f"An early exit here costs {100 * stage.flops / explanation.flops:.1f} % of the FLOPs; "
        f"{100 * stage.agreement:.1f} % of the pixels have the final class."
        for stage in explanation.stages
    ]
    return [*texts, f"The whole model: {explanation.flops / 1e9:.2f} GFLOPs."]


def radio(kind: str, name: str) -> str:
    """The choice of what is laid over the photo."""
    checked = " checked" if kind == "classes" else ""
    return f'<label><input type="radio" name="kind" value="{kind}"{checked}>{name}</label>'


def policy(script: str) -> str:
    """Content-Security-Policy of the page: nothing from elsewhere, and no script but this one."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )


def frame(explanation: "Explanation") -> str:
    """A frame with the page, for a notebook: it runs its own script and reaches nothing around it."""
    source = html.escape(page(explanation, title="Glass box"))
    return f'<iframe title="Glass box" sandbox="allow-scripts" srcdoc="{source}" width="100%" height="900"></iframe>'


def content(explanation: "Explanation", kept: Sequence[Compact | None]) -> dict[str, Any]:
    """What the script of the page works with."""
    prediction, stages = explanation.prediction, explanation.stages
    grid = fitted(explanation.size, GRID)
    labels = [*(stage.label for stage in stages), prediction.label]
    sure = prediction.confidence if prediction.confidence is not None else np.ones(explanation.size, np.float32)
    confidence = [*(stage.confidence for stage in stages), sure]
    classes = zip(prediction.classes.names, prediction.classes.palette, strict=True)
    return {
        "size": explanation.size,
        "grid": grid,
        "steps": step_names(explanation),
        "kinds": kinds_of(explanation),
        "exits": exits(explanation),
        "classes": [{"name": one_line(name), "color": rgb(color)} for name, color in classes],
        "labels": [text(sampled(label, grid)) for label in labels],
        "confidence": [text((sampled(x, grid).clip(0, 1) * 255).round().astype(np.uint8)) for x in confidence],
        "first": text(sampled(explanation.first, grid)),
        "settled": text(sampled(explanation.settled, grid)),
        "shares": [shares(label) for label in labels],
        "keys": keys(explanation),
        "pictures": pictures(explanation, labels, confidence),
        "attention": attention(explanation, kept),
    }


def attention(explanation: "Explanation", kept: Sequence[Compact | None]) -> list[dict[str, Any]]:
    """Query and key of each stage, as small as the page needs them; without them where they are too large."""
    return [
        {
            "size": own.size,
            "padded": own.query.shape[:2],
            "covered": own.covered,
            "window": own.window,
            **changes(stage.change),
            **(small.to_dict() if small is not None else {}),
        }
        for stage, small in zip(explanation.stages, kept, strict=True)
        for own in [stage.attention]
    ]


def changes(change: NDArray[np.float32]) -> dict[str, Any]:
    """How far the features changed [h, w], in steps of 16 bits."""
    step = (float(change.max()) or 1.0) / LARGEST
    return {"change": text((change / step).round().astype("<i2")), "changeStep": step}


def pictures(
    explanation: "Explanation", labels: list[NDArray[np.uint8]], confidence: list[NDArray[np.float32]]
) -> dict[str, Any]:
    """What is laid over the photo: a picture for each step, or one for all."""
    stages, highest = explanation.stages, highest_change(explanation)
    classes = explanation.prediction.classes
    return {
        "classes": [data_url(smaller(index_mask(label, classes), SIDE)) for label in labels],
        "confidence": [data_url(smaller(fractions(x), SIDE // 2)) for x in confidence],
        "change": [data_url(fractions(change_on(explanation.size, stage), highest=highest)) for stage in stages],
        "first": data_url(smaller(indexed(explanation.first, step_colors(len(stages))), SIDE)),
        "settled": data_url(smaller(indexed(explanation.settled, step_colors(len(stages))), SIDE)),
        "disagreement": data_url(smaller(indexed(explanation.disagreement, count_colors(len(stages))), SIDE)),
    }


def keys(explanation: "Explanation") -> dict[str, list[tuple[str, str]]]:
    """Colors of what is no class, each with its meaning."""
    count, highest = len(explanation.stages), highest_change(explanation)
    steps = [f"stage {stage.stage}" for stage in explanation.stages]
    colors = [rgb(color) for color in ramp(5)]
    of_steps = list(zip(map(rgb, step_colors(count)), [*steps, "only the decoder"], strict=True))
    return {
        "confidence": [(color, f"{25 * i} %") for i, color in enumerate(colors)],
        "change": [(color, f"{25 * i * highest:.2g} %") for i, color in enumerate(colors)],
        "first": of_steps,
        "settled": of_steps,
        "disagreement": [
            (rgb(color), "1: all agree" if i == 1 else str(i)) for i, color in enumerate(count_colors(count)) if i
        ],
    }


def sampled(values: NDArray[Any], grid: tuple[int, int]) -> NDArray[Any]:
    """Values [H, W] at the pixels in the middle of the cells of a grid: -> [rows, columns]."""
    rows, columns = (middles(count, length) for count, length in zip(grid, values.shape, strict=True))
    return values[np.ix_(rows, columns)]


def middles(count: int, length: int) -> NDArray[np.int64]:
    """Pixels in the middle of `count` cells along `length` pixels; the script of the page computes the same."""
    return ((np.arange(count) + 0.5) * length / count).astype(np.int64)


def change_on(size: tuple[int, int], stage: "StageExplanation") -> NDArray[np.float32]:
    """How far the features changed [h, w], where the image of a size is: without what pads it."""
    maps, small = stage.attention, fitted(size, SIDE // 2)
    rows, columns = (middles(count, length) for count, length in zip(small, size, strict=True))
    tokens = [maps.token((int(row), 0), size)[0] for row in rows]
    return stage.change[np.ix_(tokens, [maps.token((0, int(column)), size)[1] for column in columns])]


def shares(label: NDArray[np.uint8]) -> list[tuple[int, float]]:
    """Classes that occur, with the share of the pixels, the most frequent first."""
    indices, counts = np.unique(label, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return [(int(indices[i]), float(counts[i] / label.size)) for i in order]


def numbers(explanation: "Explanation") -> str:
    """Rows of the table of the stages, which needs no script."""
    values = explanation.to_dict()
    heads: tuple[str, ...] = (
        "step",
        "cost",
        "agrees",
        "first here",
        "stays from here",
        "confidence",
        "change",
        "scale",
        "map",
    )
    rows = []
    for row in values["stages"]:
        height, width = row["map"]
        scope = "global" if row["window"] is None else f"in windows of {row['window']} x {row['window']}"
        names = ("share_of_flops", "agreement", "first", "settled", "confidence")
        cells = [f"{100 * row[name]:.1f} %" for name in names]
        cells += [f"{100 * row['change']['mean']:.2g} %", ", ".join(f"{scale:.3g}" for scale in row["scales"])]
        rows.append((f"stage {row['stage']}", [*cells, f"{height} x {width}, {scope}"]))
    sure = "" if values["confidence"] is None else f"{100 * values['confidence']:.1f} %"
    shares = [f"{100 * values[name]:.1f} %" for name in ("first_in_decoder", "settled_in_decoder")]
    rows.append(("decoder", [f"{values['flops'] / 1e9:.2f} GFLOPs", "100 %", *shares, sure]))
    if not rows[1:]:  # of a plain model
        heads, rows = ("step", "cost", "confidence"), [("decoder", [rows[0][1][0], sure])]
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in padded(cells, len(heads) - 1))}</tr>'
        for name, cells in rows
    )
    return f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>"


def padded(cells: list[str], count: int) -> list[str]:
    """Cells of a row, with empty ones at the end."""
    return cells + [""] * (count - len(cells))


def notes(explanation: "Explanation", kept: Sequence[Compact | None]) -> list[str]:
    """What the words of the page mean."""
    height, width = explanation.seen
    seen = f"The model saw the photo at {height} x {width} pixels, once and in one piece."
    rows, columns = explanation.size
    if not NARROWEST <= columns / rows <= WIDEST:
        seen += " It is too long for a page: along its longer side it is drawn shorter than it is."
    if not explanation.stages:
        return [seen]
    normed = any(stage.residual == "normed" for stage in explanation.stages)
    start = "the normalized features, which the layer adds to" if normed else "the features before the layer"
    return [
        seen,
        "Cost: FLOPs up to this prior, of those of the whole model. A count, not a time.",
        "Agrees: pixels whose prior has the final class. First here: pixels whose final class this stage is the first "
        "to have. Stays from here: pixels that keep their final class from this stage on.",
        "Confidence and change are means over the photo. Confidence of priors is not calibrated.",
        f"Change: how far the semantic layer moved the features of a location, as a share of {start}.",
        "Attention: softmax of the semantic query times the keys, of the layer's last block. Pink is strong; what is "
        "outside of the window is dark. " + exactness(explanation, kept),
    ]


def exactness(explanation: "Explanation", kept: Sequence[Compact | None]) -> str:
    """Say how exact the attention is on the page."""
    here = [small.error for small in kept if small is not None]
    gone = [str(stage.stage) for stage, small in zip(explanation.stages, kept, strict=True) if small is None]
    texts = []
    if here:
        texts.append(f"At most {100 * max(here):.2g} % of a location's goes elsewhere on this page than in the model.")
    if gone:
        texts.append(f"Too large for this page, and left out: stage {', '.join(gone)}.")
    return " ".join(texts)


def rgb(color: Any) -> str:
    """A color as a style sheet has it."""
    red, green, blue = (int(x) for x in color)
    return f"rgb({red},{green},{blue})"


def text(values: NDArray[Any]) -> str:
    """Bytes as text, row by row."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
