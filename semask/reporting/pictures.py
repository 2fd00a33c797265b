"""Pictures of a page: image, label, prediction, errors and priors under a slider, and samples over the steps."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from semask.data.classes import Classes
from semask.data.dataset import SegmentationDataset
from semask.data.images import encoded, read_image
from semask.evaluation.details import worst_images
from semask.evaluation.image_counts import ImageCounts
from semask.evaluation.pictures import error_picture
from semask.evaluation.reopening import reopened_data, reopened_model
from semask.files.text import reason
from semask.prediction.pictures import index_mask, to_picture
from semask.prediction.predictor import Predictor
from semask.reporting.reading import Subject
from semask.reporting.values import entries, escaped, name_of, percent, share

SIDE, WIDTH = 560, 1200
"""Longest side of a picture, and width of a row of them."""
MOST_PICTURES = 50
MOST_PLACES, MOST_STEPS = 4, 6
MOST_FILES = 100_000
SAMPLE = re.compile(r"(\d{1,9})_step(\d{1,12})\.png")
Layer = tuple[str, str]
"""Title of a picture, and its data URL."""


@dataclass(frozen=True)
class Chosen:
    """An image to be shown.

    Attributes:
        name: Its name.
        said: What its scores are.
    """

    name: str
    said: str


def chosen_images(subject: Subject, count: int) -> dict[str, list[Chosen]]:
    """The worst and the best images of an evaluation, as far as it says which these are."""
    if subject.counts is not None:
        return chosen_of(subject.counts, count)
    of_details = subject.scores.get("details")
    listed = entries(of_details, "worst")[:count]
    found = [Chosen(name_of(x, "image"), f"mIoU {percent(share(x.get('miou')))} %") for x in listed]
    return {"Worst images": found} if found else {}


def chosen_of(counts: ImageCounts, count: int) -> dict[str, list[Chosen]]:
    """The worst and half as many of the best images of what was counted, none twice."""
    taken: set[str] = set()
    groups = {}
    for title, best, most in (("Worst images", False, count), ("Best images", True, count // 2)):
        found = []
        for one in worst_images(counts, most, best=best):
            name = counts.names[one.place]
            if name in taken:
                continue
            taken.add(name)
            said = f"mIoU {percent(one.miou)} %, right {percent(one.accuracy)} %"
            if one.label is not None and one.prediction is not None:
                said += f"; most often {counts.classes[one.label]} taken for {counts.classes[one.prediction]}"
            found.append(Chosen(name, said))
        groups[title] = found
    return groups


def reopened_pictures(subject: Subject, count: int, device: str | None) -> str:
    """Open checkpoint and data that a report names, and show the worst and the best images; or say why not."""
    groups = chosen_images(subject, min(count, MOST_PICTURES))
    if not any(groups.values()):
        return (
            "<p>No pictures: the evaluation does not say which images are the worst. Give the .npz file of semask "
            "evaluate --images.</p>"
        )
    try:
        predictor = reopened_model(subject.scores, subject.name, device)
        names = tuple(name_of(x) for x in entries(subject.scores, "classes"))
        dataset, places = reopened_data(subject.scores, predictor, names)
        return picture_groups(groups, predictor, dataset, places)
    except ValueError as error:
        return f"<p>{escaped(reason(error))}</p>"


def picture_groups(
    groups: Mapping[str, Sequence[Chosen]],
    predictor: Predictor,
    dataset: SegmentationDataset,
    places: Mapping[str, int],
) -> str:
    """Predict images again, and show what was made of them.

    Args:
        groups: Title of a group -> its images.
        predictor: The model.
        dataset: The data.
        places: Place of each image in the data, by name.
    """
    parts = [class_legend(dataset.classes)]
    for title, images in groups.items():
        figures = [
            stack(one.name, one.said, image_layers(predictor, dataset, places[one.name]))
            for one in images
            if one.name in places
        ]
        if figures:
            parts.append(f'<h3>{escaped(title)}</h3><div class="pictures">{"".join(figures)}</div>')
    return "".join(parts)


def image_layers(predictor: Predictor, dataset: SegmentationDataset, index: int) -> list[Layer]:
    """Image, label, prediction, errors and priors of an image."""
    image, label = dataset[index]
    truth = label.numpy()
    prediction = predictor(image, confidence=False, priors=True)
    photo = to_picture(image.permute(1, 2, 0).numpy())
    size = _fitted(photo.size, SIDE)
    maps = {"label": truth, "prediction": prediction.label}
    maps |= {f"prior of stage {stage}": x for stage, x in enumerate(prediction.priors, start=1)}
    painted = {name: index_mask(x, dataset.classes) for name, x in maps.items()}
    layers = [("image", data_url(photo.resize(size)))]
    for name, picture in painted.items():
        layers.append((name, data_url(picture.resize(size, Image.Resampling.NEAREST), exact=True)))
        if name == "prediction":
            wrong = error_picture(truth, prediction.label).resize(size, Image.Resampling.NEAREST)
            layers.append(("errors (red)", data_url(wrong.quantize(4), exact=True)))
    return layers


def samples_over_time(folder: Path, *, most: int = MOST_STEPS) -> str:
    """The sample predictions of a run under a slider over the steps; nothing without any.

    Args:
        folder: Folder of the run.
        most: Steps of each image that are shown: the first, the last, and some between.
    """
    found: dict[int, dict[int, Path]] = {}
    try:
        paths = [path for _, path in zip(range(MOST_FILES), (folder / "samples").iterdir(), strict=False)]
    except OSError:
        return ""
    for path in paths:
        if named := SAMPLE.fullmatch(path.name):
            found.setdefault(int(named[1]), {})[int(named[2])] = path
    figures = []
    for place, steps in sorted(found.items())[:MOST_PLACES]:
        kept = [sorted(steps)[int(i)] for i in np.linspace(0, len(steps) - 1, min(most, len(steps)))]
        layers = []
        for step in kept:
            try:
                picture = read_image(steps[step])
            except ValueError:
                continue
            layers.append((f"step {step}", data_url(picture.resize(_fitted(picture.size, WIDTH)))))
        if layers:
            figures.append(stack(f"validation image {place}", "image, label, prediction, priors", layers, wide=True))
    return "".join(figures)


def stack(name: str, said: str, layers: Sequence[Layer], *, wide: bool = False) -> str:
    """Pictures of one size on top of each other, with a slider that goes from one to the next."""
    pictures = "".join(
        f'<span class="layer"><img alt="{escaped(name)}: {escaped(title)}" src="{url}">'
        f"<small>{escaped(title)}</small></span>"
        for title, url in layers
    )
    last = wide * (len(layers) - 1)
    slider = (
        f'<label class="slider"><span>Show</span><input type="range" min="0" max="{len(layers) - 1}" step="0.25" '
        f'value="{last}" aria-label="Picture of {escaped(name)}"><output></output></label>'
        if len(layers) > 1
        else ""
    )
    return (
        f'<figure class="stack{" wide" if wide else ""}"><div class="layers">{pictures}</div>{slider}'
        f"<figcaption><b>{escaped(name)}</b> {escaped(said)}</figcaption></figure>"
    )


def class_legend(classes: Classes) -> str:
    """Names and colors of the classes."""
    swatches = "".join(
        f'<li><i class="color" style="background:#{r:02x}{g:02x}{b:02x}"></i>{escaped(name, longest=40)}</li>'
        for name, (r, g, b) in zip(classes.names, classes.palette, strict=True)
    )
    return f'<ul class="legend">{swatches}</ul>'


def data_url(picture: Image.Image, *, exact: bool = False) -> str:
    """A picture as an address that holds it; `exact` keeps every pixel."""
    content = encoded(picture, "PNG", optimize=True) if exact else encoded(picture.convert("RGB"), "JPEG", quality=82)
    return f"data:image/{'png' if exact else 'jpeg'};base64,{base64.b64encode(content).decode()}"


def _fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    factor = min(1.0, longest / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
