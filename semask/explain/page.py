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

from semask.explain.compact import Compact, compact_all
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
KINDS = {
    "classes": "Classes",
    "confidence": "Confidence",
    "change": "Change of the features",
    "settled": "First stage with the final class",
    "disagreement": "Different classes over the stages",
}
"""What can be laid over the photo."""
HERE = Path(__file__).parent


def page(explanation: "Explanation", *, title: str) -> str:
    """Make the page; see `Explanation.page`."""
    template, style, script = ((HERE / f"page.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js"))
    prediction, (height, width) = explanation.prediction, explanation.size
    kept = compact_all([stage.attention for stage in explanation.stages])
    steps = step_names(explanation)
    return Template(template).substitute(
        title=html.escape(one_line(title)),
        policy=policy(script),
        style=style,
        script=script,
        height=height,
        width=width,
        photo="data:," if prediction.image is None else data_url(smaller(to_picture(prediction.image), SIDE)),
        prediction=data_url(smaller(index_mask(prediction.label, prediction.classes), SIDE)),
        last=len(steps) - 1,
        steps="".join(f"<span>{step}</span>" for step in steps),
        kinds="\n".join(radio(kind, name) for kind, name in KINDS.items()),
        numbers=numbers(explanation),
        notes="\n".join(f"<li>{note}</li>" for note in notes(explanation, kept)),
        data=json.dumps(content(explanation, kept), separators=(",", ":")).replace("<", "\\u003c"),
    )


def step_names(explanation: "Explanation") -> list[str]:
    """Names of the stages, and of the decoder at the end."""
    return [*(f"stage {stage.stage}" for stage in explanation.stages), "decoder"]


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
        "kinds": KINDS,
        "classes": [{"name": one_line(name), "color": rgb(color)} for name, color in classes],
        "labels": [text(sampled(label, grid)) for label in labels],
        "confidence": [text((sampled(x, grid).clip(0, 1) * 255).round().astype(np.uint8)) for x in confidence],
        "settled": text(sampled(explanation.settled, grid)),
        "shares": [shares(label) for label in labels],
        "keys": keys(explanation),
        "pictures": pictures(explanation, labels, confidence),
        "attention": attention(explanation, kept),
    }


def attention(explanation: "Explanation", kept: Sequence[Compact | None]) -> list[dict[str, Any]]:
    """Query and key of each stage, as small as the page needs them; without them where they are too large."""
    maps = [stage.attention for stage in explanation.stages]
    return [
        {
            "size": own.size,
            "padded": own.query.shape[:2],
            "covered": own.covered,
            "window": own.window,
            **(small.to_dict() if small is not None else {}),
        }
        for own, small in zip(maps, kept, strict=True)
    ]


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
        "settled": data_url(smaller(indexed(explanation.settled, step_colors(len(stages))), SIDE)),
        "disagreement": data_url(smaller(indexed(explanation.disagreement, count_colors(len(stages))), SIDE)),
    }


def keys(explanation: "Explanation") -> dict[str, list[tuple[str, str]]]:
    """Colors of what is no class, each with its meaning."""
    count, highest = len(explanation.stages), highest_change(explanation)
    steps = [f"stage {stage.stage}" for stage in explanation.stages]
    colors = [rgb(color) for color in ramp(5)]
    return {
        "confidence": [(color, f"{25 * i} %") for i, color in enumerate(colors)],
        "change": [(color, f"{25 * i * highest:.2g} %") for i, color in enumerate(colors)],
        "settled": list(zip(map(rgb, step_colors(count)), [*steps, "only the decoder"], strict=True)),
        "disagreement": [(rgb(color), str(i)) for i, color in enumerate(count_colors(count)) if i],
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
    heads = ("step", "map", "attends to", "scale", "change", "confidence", "settled here", "agrees", "cost")
    rows = []
    for row in values["stages"]:
        height, width = row["map"]
        scope = "the whole map" if row["window"] is None else f"{row['window']} x {row['window']} windows"
        scales = ", ".join(f"{scale:.3g}" for scale in row["scales"])
        cells = [f"{height} x {width}", scope, scales, f"{100 * row['change']['mean']:.2g} %", *(
            f"{100 * row[name]:.1f} %" for name in ("confidence", "settled", "agreement", "share_of_flops")
        )]  # fmt: skip
        rows.append((f"stage {row['stage']}", cells))
    sure = values["confidence"]
    last = [
        "",
        "",
        "",
        "",
        "" if sure is None else f"{100 * sure:.1f} %",
        f"{100 * values['settled_in_decoder']:.1f} %",
    ]
    rows.append(("decoder", [*last, "100 %", f"100 % ({values['flops'] / 1e9:.2f} GFLOPs)"]))
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>' for name, cells in rows
    )
    return f"<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody>"


def notes(explanation: "Explanation", kept: Sequence[Compact | None]) -> list[str]:
    """What the words of the page mean."""
    normed = any(stage.residual == "normed" for stage in explanation.stages)
    start = "the normalized features, which the layer adds to" if normed else "the features before the layer"
    height, width = explanation.seen
    stages = zip(explanation.stages, kept, strict=True)
    return [
        f"The model saw the photo at {height} x {width} pixels, once and in one piece.",
        "Settled here: pixels that have their final class from this stage on. Agrees: pixels whose prior has the final "
        "class. Confidence and change are means.",
        f"Change: how far the semantic layer moved the features of a location, as a share of {start}.",
        "Cost: FLOPs up to this prior, of those of the whole model.",
        "Attention: softmax of the semantic query times the keys, of the layer's last block. Pink is strong; dark is "
        "outside of the window. "
        + "; ".join(f"stage {stage.stage} {of_small(small)}" for stage, small in stages)
        + ".",
    ]


def of_small(small: Compact | None) -> str:
    """Say how exact the attention of a stage is on the page."""
    if small is None:
        return "is too large and left out"
    return (
        f"has {small.query.shape[-1]} channels, and at most {100 * small.error:.2g} % goes elsewhere than in the model"
    )


def rgb(color: Any) -> str:
    """A color as a style sheet has it."""
    red, green, blue = (int(x) for x in color)
    return f"rgb({red},{green},{blue})"


def text(values: NDArray[np.uint8]) -> str:
    """Bytes as text, row by row."""
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
