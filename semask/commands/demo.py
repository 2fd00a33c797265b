"""The verb `demo`: the whole flow on drawn street scenes, without network or data, and a page that shows it."""

import base64
import csv
import html
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from semask.builder import build
from semask.checkpoints.sources import load
from semask.commands.console import track, warn
from semask.data.classes import Classes
from semask.data.dataset import SegmentationDataset
from semask.data.source import Data
from semask.data.transforms import Augmentation
from semask.evaluation import Evaluation, evaluate_model
from semask.files.atomic import written_whole
from semask.files.text import make_console, shown
from semask.losses.pixel import PixelLoss
from semask.metrics import ConfusionMatrix, percent
from semask.prediction.pictures import colorize
from semask.prediction.predictor import Predictor, to_image
from semask.settings.inference import Inference
from semask.settings.training import Training
from semask.synthetic.dataset import write_synthetic
from semask.training.loop import train

SCENES = 6


def demo(*, out: str = "demo", steps: int = 400, seed: int = 0) -> Path:
    """Draw street scenes, train a nano SeMask on them, measure it on held-back scenes, and write a page with pictures.

    Takes about two minutes on two CPU cores. Written: OUT/data (the scenes), OUT/run (checkpoints and logs) and
    OUT/index.html, which needs nothing else.

    Args:
        out: Folder to write to; a finished demo in it is only drawn again.
        steps: Optimiser steps of 8 images.
        seed: Decides on scenes, weights and order.

    Returns:
        Path of the page.

    Raises:
        ValueError: If the folder holds something else or can't be written.
    """
    folder, console = Path(out), make_console()
    console.print("Drawing street scenes ...")
    data = Data(root=str(write_synthetic(folder / "data", seed=seed, track=track)), workers=2)
    val_set = data.dataset("val")
    training = Training(
        steps=steps, batch_size=8, lr=2e-3, weight_decay=0.01, warmup_steps=min(40, steps), warmup_ratio=1e-3,
        clip_norm=1.0, log_every=10, save_every=steps, evaluate_every=0, seed=seed, cpu=not torch.cuda.is_available(),
        precision="fp32",  # the score that the documentation states, on every machine
    )  # fmt: skip
    run = folder / "run"
    if not (run / "last.safetensors").exists():
        torch.manual_seed(seed)
        model = build("swin_nano", num_classes=len(val_set.classes), channels=64)
        augmentation = Augmentation(
            scale=None, scale_range=(0.8, 1.25), crop=(160, 192), largest_class=0.9, photometric=False
        )
        loss = PixelLoss(class_weights=rarity_weights(data.dataset("train")))
        console.print(f"Training {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters ...")
        evaluation = Inference(scale=(256, 192))
        train(
            model, data, out=str(run), augmentation=augmentation, loss=loss, training=training, evaluation=evaluation,
            track=track, warn=warn,
        )  # fmt: skip
    predictor = Predictor(load(run / "last.safetensors"))
    console.print("Measuring on scenes that it has not seen ...")
    result = evaluate_model(predictor, val_set, progress=True)
    largest = largest_class_miou(val_set)
    page = folder / "index.html"
    with written_whole(page) as temporary:
        temporary.write_text(render(predictor, val_set, result, largest, read_losses(run)), encoding="utf-8")
    console.print(f"mIoU {percent(result.scores.miou)} % (always predicting the largest class: {percent(largest)} %)")
    console.print(f"Look at {shown(page)}", highlight=False, soft_wrap=True)
    return page


def rarity_weights(dataset: SegmentationDataset) -> tuple[float, ...]:
    """Weights of the classes for a short training: one over the root of their share, 1 on average over the pixels."""
    pixels = dataset.check(level="labels").pixels
    share = pixels / pixels.sum()
    weights = share**-0.5
    return tuple((weights / (weights * share).sum()).round(3).tolist())


def largest_class_miou(dataset: SegmentationDataset) -> float:
    """Score of predicting the most frequent class everywhere: what a model has to beat."""
    labels = torch.cat([dataset[i][1].flatten() for i in range(len(dataset))])
    matrix = ConfusionMatrix(len(dataset.classes))
    matrix.update(torch.full_like(labels, int(labels[labels < len(dataset.classes)].mode().values)), labels)
    return matrix.scores().miou


def read_losses(run: Path) -> list[tuple[int, float, float]]:
    """Step, loss and prior loss of each line of a run's log."""
    with open(run / "log.csv", encoding="utf-8", newline="") as file:
        return [(int(row["step"]), float(row["main"]), float(row["prior"])) for row in csv.DictReader(file)]


def render(
    predictor: Predictor,
    dataset: SegmentationDataset,
    result: Evaluation,
    largest: float,
    losses: list[tuple[int, float, float]],
) -> str:
    """Write the page: pictures of scenes, IoU of each class, and the loss curve."""
    rows = []
    for i in np.linspace(0, len(dataset) - 1, SCENES, dtype=int):
        image, label = dataset[int(i)]
        prediction = predictor(image, confidence=False, priors=True)
        maps = [label.numpy(), prediction.label, *prediction.priors]
        pictures = [to_image(image), *(colorize(x, dataset.classes) for x in maps)]
        rows.append("<tr>" + "".join(f"<td>{picture_tag(picture)}</td>" for picture in pictures) + "</tr>")
    stages = [f"prior of stage {i + 1}<br>mIoU {percent(s.miou)} %" for i, s in enumerate(result.priors)]
    heads = ["image", "label", f"prediction<br>mIoU {percent(result.scores.miou)} %", *stages]
    legend = " ".join(
        f'<span><i style="background:rgb{color}"></i>{html.escape(name)}</span>'
        for name, color in zip(dataset.classes.names, dataset.classes.palette, strict=True)
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>SeMask demo</title><style>{STYLE}</style></head><body>
<h1>SeMask on drawn street scenes</h1>
<p>A nano SeMask was trained on {losses[-1][0]} steps of 8 scenes and measured on {result.images} scenes that it had not
seen: <b>mIoU {percent(result.scores.miou)} %</b>, {percent(result.scores.overall_accuracy)} % of the pixels right.
Always predicting the largest class gives a mIoU of {percent(largest)} %.</p>
<h2>Scenes</h2>
<p>The prior of a stage is what its semantic layer says of each cell before the decoder has seen anything; the features
are refined with it. Black pixels of the label are not counted.</p>
<p class="legend">{legend}</p>
<table class="scenes"><tr>{"".join(f"<th>{head}</th>" for head in heads)}</tr>{"".join(rows)}</table>
<h2>IoU of each class</h2>
<table class="bars">{bars(result, dataset.classes)}</table>
<h2>Loss</h2>
{curve(losses)}
<p>Blue: cross-entropy of the masks. Orange: cross-entropy of the summed priors.</p>
</body></html>
"""


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1500px; padding: 0 1em; color: #222 }
table { border-collapse: collapse } th { font-weight: 600; font-size: 13px; vertical-align: bottom; padding: 4px }
.scenes { width: 100%; table-layout: fixed } .scenes td { padding: 2px } .scenes img { display: block; width: 100% }
.legend span { display: inline-block; margin-right: 1em } .legend i, .bars i { display: inline-block; height: 12px }
.legend i { width: 12px; margin-right: 5px; border: 1px solid #444 }
.bars td { padding: 1px 10px 1px 0 } .bars td:nth-child(2) { text-align: right }
"""


def picture_tag(picture: Image.Image) -> str:
    """An <img> that holds the picture itself."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}">'


def bars(result: Evaluation, classes: Classes) -> str:
    """Rows of a table: class, IoU, and a bar in the colour of the class."""
    return "".join(
        f"<tr><td>{html.escape(name)}</td><td>{percent(iou)} %</td>"
        f'<td><i style="width:{0 if iou != iou else 5 * 100 * iou:.0f}px;background:rgb{color}"></i></td></tr>'
        for name, iou, color in zip(classes.names, result.scores.iou, classes.palette, strict=True)
    )


def curve(losses: list[tuple[int, float, float]], *, width: int = 760, height: int = 220, margin: int = 40) -> str:
    """Both losses over the steps, as SVG."""
    top = max(max(main, prior) for _, main, prior in losses) or 1.0
    last = losses[-1][0]

    def line(column: int, color: str) -> str:
        points = " ".join(
            f"{margin + width * row[0] / last:.1f},{margin / 2 + height * (1 - row[column] / top):.1f}"
            for row in losses
        )
        return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"/>'

    bottom = margin / 2 + height
    return (
        f'<svg width="{width + 2 * margin}" height="{height + 2 * margin}" font-size="12">'
        f'<path d="M{margin} {margin / 2}V{bottom}H{margin + width}" fill="none" stroke="#888"/>'
        f'<text x="4" y="{margin / 2 + 5}">{top:.2f}</text><text x="20" y="{bottom}">0</text>'
        f'<text x="{margin + width - 40}" y="{bottom + 18}">step {last}</text>'
        f"{line(1, '#1f6fd0')}{line(2, '#e8871e')}</svg>"
    )
