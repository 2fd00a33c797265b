"""The page of the demo: pictures of scenes, IoU of each class, and the loss curve, in one HTML file."""

import base64
import html
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from semask.data.classes import Classes
from semask.data.dataset import SegmentationDataset
from semask.evaluation.evaluate import Evaluation
from semask.metrics.confusion import percent
from semask.prediction.pictures import colorize, side_by_side, to_picture
from semask.prediction.prediction import Prediction
from semask.prediction.predictor import Predictor

SCENES = 6
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1500px; padding: 0 1em; color: #222 }
table { border-collapse: collapse } th { font-weight: 600; font-size: 13px; vertical-align: bottom; padding: 4px }
.scenes { width: 100%; table-layout: fixed } .scenes td { padding: 2px } .scenes img { display: block; width: 100% }
.legend span { display: inline-block; margin-right: 1em } .legend i, .bars i { display: inline-block; height: 12px }
.legend i { width: 12px; margin-right: 5px; border: 1px solid #444 } .first { width: 100% }
.bars td { padding: 1px 10px 1px 0 } .bars td:nth-child(2) { text-align: right }
"""


class Losses(NamedTuple):
    """A line of a run's log: the step, the loss of the masks and that of the priors."""

    step: int
    main: float
    prior: float


class Photo(NamedTuple):
    """A photograph, and what the model in the package predicts for it."""

    image: Image.Image
    prediction: Prediction


class Content(NamedTuple):
    """What the page shows.

    Attributes:
        result: Scores on the validation scenes.
        largest: mIoU of predicting the largest class everywhere.
        losses: Lines of the log.
        why_steps: Why there were so many steps, to end a sentence with.
        first: Step of the first picture and the picture, a PNG; None without one.
        photos: Photographs and what the model in the package predicts for them.
    """

    result: Evaluation
    largest: float
    losses: Sequence[Losses]
    why_steps: str
    first: tuple[int, bytes] | None
    photos: Sequence[Photo]


def scene_pictures(predictor: Predictor, dataset: SegmentationDataset, index: int) -> list[Image.Image]:
    """Image, label, prediction and the priors of the stages of a scene."""
    image, label = dataset[index]
    prediction = predictor(image, confidence=False, priors=True)
    maps = [label.numpy(), prediction.label, *prediction.priors]
    return [to_picture(image.permute(1, 2, 0).numpy()), *(colorize(x, dataset.classes) for x in maps)]


def first_picture(predictor: Predictor, dataset: SegmentationDataset) -> Image.Image:
    """Image, label, prediction and priors of one scene, next to each other."""
    return side_by_side(scene_pictures(predictor, dataset, 0))


def render(predictor: Predictor, dataset: SegmentationDataset, content: Content) -> str:
    """Write the page."""
    result, losses = content.result, content.losses
    rows = []
    for i in np.linspace(0, len(dataset) - 1, SCENES, dtype=int):
        pictures = scene_pictures(predictor, dataset, int(i))
        rows.append("<tr>" + "".join(f"<td>{picture_tag(encode(picture))}</td>" for picture in pictures) + "</tr>")
    stages = [f"prior of stage {i + 1}<br>mIoU {percent(s.miou)} %" for i, s in enumerate(result.priors)]
    heads = ["image", "label", f"prediction<br>mIoU {percent(result.scores.miou)} %", *stages]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>SeMask demo</title><style>{STYLE}</style></head><body>
{photo_section(predictor, content.photos)}<h1>SeMask on synthetic scenes</h1>
<p>A nano SeMask was trained on {losses[-1].step} steps of 8 scenes{html.escape(content.why_steps)}, and evaluated on
{result.images} scenes that it had not seen: <b>mIoU {percent(result.scores.miou)} %</b>,
{percent(result.scores.overall_accuracy)} % of the pixels are right. Always predicting the largest class gives a mIoU of
{percent(content.largest)} %.</p>
<h2>Scenes</h2>
<p>The prior of a stage is what its semantic layer predicts at each location, before the decoder; the features are
refined with it. Black pixels of the label are ignored.</p>
{legend(dataset.classes)}
<table class="scenes"><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr>{"".join(rows)}</table>
{first_section(content.first)}<h2>IoU of each class</h2>
<table class="bars">{bars(result, dataset.classes)}</table>
<h2>Loss</h2>
{curve(losses)}
<p>Blue: cross-entropy of the masks. Orange: cross-entropy of the summed priors.</p>
</body></html>
"""


def photo_section(predictor: Predictor, photos: Sequence[Photo]) -> str:
    """The photographs, with the masks of the model in the package and of the one that the demo trained."""
    rows = []
    for image, prediction in photos:
        own = predictor(image, confidence=False)
        pictures = (image, colorize(prediction.label, prediction.classes), colorize(own.label, own.classes))
        rows.append("<tr>" + "".join(f"<td>{picture_tag(encode(picture))}</td>" for picture in pictures) + "</tr>")
    heads = ("photograph", "the model in the package", "the model that this demo trained, in the colors below")
    return f"""<h1>Two photographs</h1>
<p>The model in the package knows 11 classes of street scenes; <code>semask predict photo.jpg</code> uses it. The model
that the demo trained has seen nothing but drawings. The photographs: frames of CamVid (Brostow et al. 2009), of its
validation split.</p>
{legend(photos[0].prediction.classes)}
<table class="scenes"><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr>{"".join(rows)}</table>
"""


def legend(classes: Classes) -> str:
    """Colors and names of the classes."""
    entries = (
        f'<span><i style="background:rgb{color}"></i>{html.escape(name)}</span>'
        for name, color in zip(classes.names, classes.palette, strict=True)
    )
    return f'<p class="legend">{" ".join(entries)}</p>'


def first_section(first: tuple[int, bytes] | None) -> str:
    """The picture of the first steps; nothing without one."""
    if first is None:
        return ""
    step, picture = first
    return f"<h2>After step {step}</h2>\n<p>{picture_tag(picture, 'first')}</p>\n"


def encode(picture: Image.Image) -> bytes:
    """Encode a picture as a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def picture_tag(png: bytes, kind: str = "") -> str:
    """An <img> that holds the picture itself."""
    named = f' class="{kind}"' if kind else ""
    return f'<img alt=""{named} src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def bars(result: Evaluation, classes: Classes) -> str:
    """Rows of a table: class, IoU, and a bar in the color of the class."""
    return "".join(
        f"<tr><td>{html.escape(name)}</td><td>{percent(iou)} %</td>"
        f'<td><i style="width:{0 if iou != iou else 5 * 100 * iou:.0f}px;background:rgb{color}"></i></td></tr>'
        for name, iou, color in zip(classes.names, result.scores.iou, classes.palette, strict=True)
    )


def curve(losses: Sequence[Losses], *, width: int = 760, height: int = 220, margin: int = 40) -> str:
    """Both losses over the steps, as SVG."""
    top = max(max(row.main, row.prior) for row in losses) or 1.0
    last = losses[-1].step

    def line(values: Sequence[float], color: str) -> str:
        points = " ".join(
            f"{margin + width * row.step / last:.1f},{margin / 2 + height * (1 - value / top):.1f}"
            for row, value in zip(losses, values, strict=True)
        )
        return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>'

    bottom = margin / 2 + height
    return (
        f'<svg width="{width + 2 * margin}" height="{height + 2 * margin}" font-size="12">'
        f'<path d="M{margin} {margin / 2}V{bottom}H{margin + width}" fill="none" stroke="#888"/>'
        f'<text x="4" y="{margin / 2 + 5}">{top:.2f}</text><text x="20" y="{bottom}">0</text>'
        f'<text x="{margin + width - 40}" y="{bottom + 18}">step {last}</text>'
        f"{line([row.main for row in losses], '#1f6fd0')}{line([row.prior for row in losses], '#e8871e')}</svg>"
    )
