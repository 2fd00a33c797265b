"""The demo: a small model trained on synthetic scenes in at most two minutes, and a page that shows it."""

import csv
import json
import time
from pathlib import Path
from typing import Any

import torch

from semask.acceleration.accelerate import accelerate
from semask.acceleration.cross_entropy import accelerate_loss
from semask.builder import build
from semask.checkpoints.places import DEFAULT, EMBEDDED, PHOTOS
from semask.checkpoints.sources import load
from semask.data.dataset import SegmentationDataset
from semask.data.images import encoded, read_image
from semask.data.loader import training_loader
from semask.data.normalization import Normalization
from semask.data.source import Data
from semask.data.transforms import Augmentation, training_transform
from semask.evaluation.evaluate import evaluate_model
from semask.files.atomic import write_whole
from semask.files.reading import parse_json, read_text
from semask.files.reporter import Reporter
from semask.losses.pixel import PixelLoss
from semask.metrics.confusion import ConfusionMatrix, percent
from semask.model import SeMask
from semask.prediction.predictor import Predictor
from semask.settings.inference import Inference
from semask.settings.training import Training
from semask.synthetic.dataset import write_synthetic
from semask.training.callbacks import Callback, Progress
from semask.training.demo_page import Content, Losses, Photo, encode, first_picture, render
from semask.training.length import seconds_per_image, seconds_per_step
from semask.training.loop import train
from semask.training.pace import steps_within

SECONDS = 120.0
"""Time that the whole demo may take: drawing, training, evaluation and page."""
FIRST_PICTURE = 30.0
"""Seconds after which a first picture is written."""
LEAST, MOST = 20, 2000
"""Steps that are chosen at least and at most."""
BATCH = 8
INFERENCE = Inference(scale=(256, 192))
AUGMENTATION = Augmentation(
    scale=None, scale_range=(0.8, 1.25), crop=(160, 192), largest_class=0.9, photometric=False
)  # fmt: skip


def demo(
    *, out: str | Path = "demo", steps: int | None = None, seed: int = 0, reporter: Reporter | None = None
) -> Path:
    """Segment two photographs, then train a nano SeMask on synthetic scenes and evaluate it on held-back ones.

    Ends within two minutes: the number of steps is chosen from the time that the first ones take. Written: OUT/photos
    (what the model in the package predicts), OUT/data (the scenes), OUT/run (checkpoints and logs), after thirty
    seconds OUT/first-STEP.png, and OUT/index.html, which needs nothing else.

    Args:
        out: Folder to write to; a finished demo in it is only shown again.
        steps: Optimizer steps of 8 images, for results that can be reproduced; None for as many as there is time for.
        seed: Decides on scenes, weights and order.
        reporter: Is told how far it is; None for nobody.

    Returns:
        Path of the page.

    Raises:
        ValueError: If the folder holds something else or can't be written.
    """
    began, folder, reporter = time.perf_counter(), Path(out), reporter or Reporter()
    reporter.note("Drawing synthetic scenes ...")
    root = write_synthetic(folder / "data", seed=seed, track=reporter.track)
    photos = show_photos(folder, reporter)
    data = Data(root=str(root), workers=2, check="none")  # what was just written
    val_set = data.dataset("val")
    result = None
    if not (folder / "run" / "last.safetensors").exists():
        loss = PixelLoss(class_weights=rarity_weights(data.dataset("train")))
        note: dict[str, Any] = {"chosen": steps is None}
        if steps is None:
            reporter.note("Timing the first steps ...")
            trial = fresh_model(len(val_set.classes), seed)
            left = SECONDS - (time.perf_counter() - began)
            seconds, left = time_left_for(trial, data, loss, seed=seed, left=left)
            steps, note["seconds_per_step"] = steps_for(left, seconds), round(seconds, 4)
        write_whole(folder / "demo.json", json.dumps(note) + "\n")
        model = fresh_model(len(val_set.classes), seed)  # after the timing, so that it is as with --steps
        count = sum(p.numel() for p in model.parameters()) / 1e6
        reporter.note(f"Training {count:.1f} M parameters for {steps} steps of {BATCH} scenes{why(note)} ...")
        result = train(
            model,
            data,
            out=str(folder / "run"),
            augmentation=AUGMENTATION,
            loss=loss,
            training=schedule(steps, seed),
            evaluation=INFERENCE,
            callbacks=[FirstPicture(reporter, folder, val_set, due=began + FIRST_PICTURE)],
            reporter=reporter,
        )
    predictor = Predictor(load(folder / "run" / "last.safetensors"))
    if result is None:
        result = evaluate_model(predictor, val_set, track=reporter.track)
    content = Content(
        result=result,
        largest=largest_class_miou(val_set),
        losses=read_losses(folder / "run"),
        why_steps=why(read_note(folder)),
        first=read_first(folder),
        photos=photos,
    )
    page = folder / "index.html"
    write_whole(page, render(predictor, val_set, content))
    largest = percent(content.largest)
    reporter.note(f"mIoU {percent(result.scores.miou)} % (always predicting the largest class: {largest} %)")
    reporter.note(f"Look at {page}")
    return page


def show_photos(folder: Path, reporter: Reporter) -> list[Photo]:
    """Segment the photographs in the package with the model in the package, and write OUT/photos/NAME_overlay.jpg."""
    predictor = Predictor(load(EMBEDDED[DEFAULT]))
    photos = []
    for path in PHOTOS:
        image = read_image(path)
        prediction = predictor(image, confidence=False)
        photos.append(Photo(image, prediction))
        write_whole(folder / "photos" / f"{path.stem}_overlay.jpg", encoded(prediction.overlay(), "JPEG", quality=90))
    reporter.note(f"Two photographs, segmented by the model in the package: {folder / 'photos'}")
    return photos


def fresh_model(classes: int, seed: int) -> SeMask:
    """The model of the demo, before its first step."""
    torch.manual_seed(seed)
    return build("swin_nano", num_classes=classes, channels=64)


def schedule(steps: int, seed: int) -> Training:
    """Settings of the training; the schedule is fitted to the steps."""
    return Training(
        steps=steps, batch_size=BATCH, lr=2e-3, weight_decay=0.01, warmup_steps=min(40, max(steps // 5, 1)),
        warmup_ratio=1e-3, clip_norm=1.0, log_every=10, save_every=steps, evaluate_every=0, seed=seed,
        cpu=not torch.cuda.is_available(),
        precision="fp32",  # the score that the documentation states, on every machine
    )  # fmt: skip


def time_left_for(model: SeMask, data: Data, loss: PixelLoss, *, seed: int, left: float) -> tuple[float, float]:
    """Time steps and evaluation on a model that is thrown away, with the batches of the training.

    Returns:
        Seconds of a step, and those that are left for steps when the evaluation and the page had theirs.
    """
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    accelerate(model.to(device).train())
    loss = accelerate_loss(loss)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    transform = training_transform(AUGMENTATION, Normalization())
    train_set, val_set = data.dataset("train"), data.dataset("val")
    batches = iter(training_loader(train_set, transform, seed=seed, batch_size=BATCH, steps=1000, workers=data.workers))

    def step() -> None:
        batch = next(batches)
        losses = loss(model(batch.image.to(device)), batch.label.to(device))
        losses.total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        losses.total.item()  # waits for a GPU

    seconds = seconds_per_step(step, time.perf_counter, left=left)
    images = len(val_set) + 20  # and those of the page
    evaluation = images * seconds_per_image(Predictor(model, INFERENCE), val_set, time.perf_counter)
    return seconds, left - evaluation - (time.perf_counter() - began)


def steps_for(left: float, seconds: float) -> int:
    """Steps for which there is time.

    >>> steps_for(100.0, 0.25), steps_for(100.0, 30.0), steps_for(100.0, 0.001)
    (340, 20, 2000)
    """
    return max(LEAST, min(MOST, steps_within(left, seconds)))


def why(note: dict[str, Any]) -> str:
    """Say why there are so many steps, to end a sentence with."""
    if not note.get("chosen"):
        return ""
    return f" (at {note['seconds_per_step']:.2g} s each, as many as fit into two minutes on this machine)"


class FirstPicture(Callback):
    """Writes OUT/first-STEP.png with the first step that ends after it is due."""

    def __init__(self, reporter: Reporter, folder: Path, dataset: SegmentationDataset, *, due: float) -> None:
        self.reporter, self.folder, self.dataset, self.due = reporter, folder, dataset, due

    def on_step(self, run: Progress) -> None:
        """Draw what the model predicts if it is time."""
        if time.perf_counter() < self.due or run.step == run.steps:
            return
        self.due = float("inf")
        picture = first_picture(Predictor(run.model, INFERENCE), self.dataset)
        path = self.folder / f"first-{run.step}.png"
        write_whole(path, encode(picture))
        self.reporter.note(f"A first picture, after step {run.step}: {path}")


def read_first(folder: Path) -> tuple[int, bytes] | None:
    """The first picture and its step; None without one."""
    for path in sorted(folder.glob("first-*.png")):
        return int(path.stem.removeprefix("first-")), path.read_bytes()
    return None


def read_note(folder: Path) -> dict[str, Any]:
    """How the steps were chosen; nothing for a demo of an earlier version."""
    path = folder / "demo.json"
    return dict(parse_json(read_text(path))) if path.is_file() else {}


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


def read_losses(run: Path) -> list[Losses]:
    """Step, loss and prior loss of each line of a run's log."""
    with open(run / "log.csv", encoding="utf-8", newline="") as file:
        return [Losses(int(row["step"]), float(row["main"]), float(row["prior"])) for row in csv.DictReader(file)]
