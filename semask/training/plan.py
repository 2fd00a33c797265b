"""A recipe for a folder of images and masks: what is chosen, and why.

folder -> format, classes, split -> encoder, weights -> scale, crop -> batch, steps -> a recipe with its reasons
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from semask.data import catalog
from semask.data.alpha_masks import alpha_if_found
from semask.data.classes import Classes
from semask.data.dataset import SegmentationDataset
from semask.data.guess import guess_classes
from semask.data.image_kinds import kind_of_images
from semask.data.selection import Selection
from semask.data.source import Data, sample_names
from semask.data.splits import Side, split_by_name, write_split
from semask.data.survey import Objects, image_sizes, mask_kinds, measured_objects, similar_groups
from semask.decoders import catalog as decoders
from semask.files.reporter import Reporter
from semask.files.text import one_line
from semask.files.urls import is_url
from semask.settings.model import ModelSettings
from semask.settings.recipe_text import recipe_text
from semask.settings.sections import SECTIONS
from semask.training.trial import Trial, try_steps
from semask.training.weights import choose_encoder

STRIDE = 4
"""Pixels between two locations of the largest feature map."""
LEAST_SIDE = 2 * STRIDE
"""Side in pixels below which an object is hardly learned."""
FEW = 5
"""Validation images below which their score says little."""
COMPARED = 20_000
"""Images up to which near duplicates are looked for."""
TOLD = (
    "data.format", "data.mask_channel", "data.classes", "data.split_file", "data.channels", "model.encoder",
    "training.pretrained", "augmentation.scale", "augmentation.crop", "training.batch_size", "training.accumulate",
    "training.steps", "training.minutes",
)  # fmt: skip
"""Settings that are told before the first step."""
SPLIT_FILE = "split.csv"
RECIPE_FILE = "recipe.yaml"


@dataclass
class Plan:
    """A recipe as it was chosen.

    Attributes:
        sections: Section -> setting -> value, all settings of a recipe.
        reasons: SECTION.SETTING -> why it is so.
        head: What was found, one line each.
        split: Names of the images and their sides, where the folder has no splits.
        seconds: About how long the training takes.
    """

    sections: dict[str, dict[str, Any]]
    reasons: dict[str, str] = field(default_factory=dict)
    head: list[str] = field(default_factory=list)
    split: tuple[list[str], list[Side]] | None = None
    seconds: float = 0.0

    def text(self) -> str:
        """The recipe as YAML with comments."""
        return recipe_text(self.sections, self.reasons, self.head)

    def told(self) -> list[str]:
        """The choices that matter most, one line each, for a person."""
        lines = self.head[1:]
        for setting in TOLD:
            section, name = setting.split(".")
            value = self.sections[section][name]
            if setting in self.reasons and value is not None:
                said = one_line(value if isinstance(value, str) else json.dumps(value), longest=200)
                lines.append(f"{setting}: {said} ({self.reasons[setting]})")
        if self.seconds and self.sections["training"]["minutes"] is None:
            lines.append(f"about {max(1, round(self.seconds / 60)):,} minutes on this machine (--minutes sets a limit)")
        return lines

    def choose(self, setting: str, value: Any, reason: str, given: Mapping[str, Any]) -> Any:
        """Decide on a setting, unless somebody has; returns what it is."""
        section, name = setting.split(".")
        if setting in given:
            value, reason = given[setting], "given"
        self.sections[section][name] = value
        self.reasons[setting] = reason
        return value


def make_plan(
    folder: str | Path,
    given: Mapping[str, Any],
    *,
    out: str | Path,
    minutes: float | None = None,
    reporter: Reporter | None = None,
) -> Plan:
    """Choose all settings for a folder.

    Args:
        folder: The folder, or the table, of the images and masks.
        given: SECTION.SETTING -> value, which the plan keeps.
        out: Folder of the run, where a split is written to.
        minutes: Time that the training may take; None for a number of steps that follows from the images.
        reporter: Is told what is being looked at; None for nobody.

    Raises:
        ValueError: If nothing is recognized in the folder, its files can't be read, or a setting is wrong.
    """
    reporter = reporter or Reporter()
    decoder = decoders.find(given.get("model.decoder", ModelSettings.decoder))
    other = "loss" if getattr(decoder, "makes_masks", False) else "mask_loss"
    sections = {name: _defaults(kind) for name, kind in SECTIONS.items() if name != other}
    for setting, value in given.items():
        section, name = setting.split(".")
        if section in sections:
            sections[section][name] = value
    plan = Plan(sections)
    train_set, val_set = _plan_data(plan, str(folder), given, Path(out), reporter)
    objects = measured_objects(train_set, track=reporter.track)
    cpu = bool(given.get("training.cpu", False)) or not torch.cuda.is_available()
    _plan_model(plan, given, train_set.classes, cpu=cpu, reporter=reporter)
    _plan_sizes(plan, given, train_set, objects, cpu=cpu)
    _plan_training(plan, given, len(train_set), minutes, cpu=cpu, reporter=reporter)
    plan.head = [
        f"Written by `semask train` for {folder}; change what you like and train with: --config {RECIPE_FILE}",
        f"{len(train_set)} training and {len(val_set)} validation images, {len(train_set.classes)} classes",
        *_largest_and_smallest(objects, train_set.classes),
    ]
    if len(val_set) < FEW:
        plan.head.append(f"{len(val_set)} validation images are few: their score says little; more labels help most")
    return plan


def _defaults(kind: Any) -> dict[str, Any]:
    return {x.name: x.default if x.default is not dataclasses.MISSING else None for x in dataclasses.fields(kind)}


def _plan_data(
    plan: Plan, root: str, given: Mapping[str, Any], out: Path, reporter: Reporter
) -> tuple[SegmentationDataset, SegmentationDataset]:
    """Format, channels, classes and split; returns the training and the validation images."""
    plan.choose("data.root", root, "the folder that was given", {})
    folder = Path(root).expanduser()
    if "data.format" in given:
        plan.choose("data.format", None, "", given)
    else:
        found = catalog.recognize(root if is_url(root) else folder)
        plan.choose("data.format", found.format, f"found {found.reason}", given)
    _plan_channels(plan, given)
    data = Data(**plan.sections["data"])
    splits = {} if data.split_file or data.train_split else catalog.find(data.format).splits_in(folder)
    parts = [data.dataset("train"), data.dataset("val")] if splits or data.train_split or data.split_file else []
    whole = parts or [data.everything()]
    if not all(part.names_classes for part in whole):
        whole = _plan_mask_channel(plan, whole, given)
        guess = guess_classes(mask_kinds([label for part in whole for _, label in part.pairs], track=reporter.track))
        plan.choose("data.classes", guess.classes, guess.reason, given)
        if guess.tolerance:
            plan.choose("data.tolerance", guess.tolerance, guess.reason, given)
        selection = Selection(plan.sections["data"]["classes"], plan.sections["data"]["tolerance"])
        whole = [part.selecting(selection) for part in whole]
    elif data.classes is None:
        plan.reasons["data.classes"] = f"the files name them: {', '.join(whole[0].classes.names[:8])}"[:150]
    if "data.holdout" in given and parts:
        raise ValueError("data.holdout is given, but the folder has splits of its own, or a list of them: leave it out")
    if not parts:
        whole = _plan_split(plan, whole[0], folder, given, out, reporter)
    return whole[0], whole[1]


def _plan_mask_channel(
    plan: Plan, whole: Sequence[SegmentationDataset], given: Mapping[str, Any]
) -> list[SegmentationDataset]:
    """Where in the masks the labels are."""
    if "data.mask_channel" in given:
        return list(whole)
    parts, why = alpha_if_found(whole)
    if why is not None:
        plan.choose("data.mask_channel", "alpha", why, given)
    return parts


def _plan_channels(plan: Plan, given: Mapping[str, Any]) -> None:
    """Channels and range of the images, where they are not photos of 8 bits."""
    if "data.channels" in given or "data.measure" in given or catalog.find(plan.sections["data"]["format"]).title:
        return
    data = Data(**plan.sections["data"])
    try:
        first = data.dataset("train") if data.train_split else data.everything()
    except (ValueError, KeyError):
        first = data.dataset("train")
    kind = kind_of_images([image for image, _ in first.pairs])
    if kind is not None:
        plan.choose("data.channels", kind.channels, f"{kind.description}: all of them", given)
        plan.choose(
            "data.measure", "range", f"{kind.description}: their range is measured before the first step", given
        )


def _plan_split(
    plan: Plan, whole: SegmentationDataset, folder: Path, given: Mapping[str, Any], out: Path, reporter: Reporter
) -> list[SegmentationDataset]:
    """Hold some images out; images that show nearly the same stay together."""
    names = sample_names(whole, folder)
    holdout = plan.sections["data"]["holdout"]
    groups, said = None, "by a hash of the names"
    if len(names) <= COMPARED and not any(whole.windows):
        groups = similar_groups([image for image, _ in whole.pairs], track=reporter.track)
        together = len(names) - len(set(groups))
        said += f"; {together} images show nearly the same as another one and stay with it" if together else ""
    sides = split_by_name(names, holdout=holdout, groups=groups)
    plan.split = names, sides
    held = sides.count("val")
    plan.choose(
        "data.split_file", str(out / SPLIT_FILE), f"no splits in the folder: {held} images are held out {said}", given
    )
    return [whole.subset([i for i, side in enumerate(sides) if side == each]) for each in ("train", "val")]


def _plan_model(plan: Plan, given: Mapping[str, Any], classes: Classes, *, cpu: bool, reporter: Reporter) -> None:
    plan.choose("model.num_classes", len(classes), "the classes of the data", given)
    if plan.sections["model"]["num_classes"] != len(classes):
        raise ValueError(
            f"model.num_classes is {plan.sections['model']['num_classes']}, but the data has {len(classes)} classes: "
            "leave it out, or merge classes with data.classes"
        )
    if "model.encoder" in given and "training.pretrained" in given:
        plan.reasons |= {"model.encoder": "given", "training.pretrained": "given"}
    else:
        chosen = choose_encoder(given.get("model.encoder"), cpu=cpu, reporter=reporter)
        plan.choose("model.encoder", chosen.encoder, chosen.reason, given)
        plan.choose("training.pretrained", chosen.pretrained, chosen.reason, given)
    pretrained = plan.sections["training"]["pretrained"] is not None
    if pretrained and "/" in plan.sections["model"]["encoder"]:
        plan.choose(
            "model.residual", "input", "a fresh semantic layer leaves the pretrained features as they are", given
        )
    if cpu:
        plan.choose("model.channels", 64, "a light decoder, for a CPU", given)
    channels = plan.sections["data"]["channels"]
    model = plan.sections["model"]
    if channels != model["in_channels"] and "model.in_channels" not in given:
        known = {name: value for name, value in model.items() if value is not None}
        adapted = ModelSettings(**known).for_images(channels)
        for name in ("in_channels", "mean", "std"):
            plan.choose(f"model.{name}", getattr(adapted, name), "the channels of the images", given)
    lr, why = (7e-4, "AdamW, weights that are pretrained") if pretrained else (1e-3, "AdamW, from scratch")
    plan.choose("training.lr", lr, why, given)
    plan.choose("training.weight_decay", 0.01, "AdamW", given)
    plan.choose("training.clip_norm", 1.0, "a bad batch does little harm", given)


def _plan_sizes(
    plan: Plan, given: Mapping[str, Any], train_set: SegmentationDataset, objects: Objects, *, cpu: bool
) -> None:
    """The size at which images are seen, and the size of the training crops."""
    if any(train_set.windows):
        window = next(x for x in train_set.windows if x is not None)
        sizes = np.array([[len(window.rows), len(window.columns)]])
    else:
        sizes = image_sizes([image for image, _ in train_set.pairs])
    long, short = float(np.median(sizes.max(1))), float(np.median(sizes.min(1)))
    wanted, most, crop = (360, 720, 256) if cpu else (512, 1024, 512)
    total = sum(objects.pixels.values())
    told = {k: side for k, side in objects.sides.items() if objects.pixels[k] >= 2e-4 * total}
    smallest = min(told, key=lambda k: told[k], default=None)
    factor = min(1.0, wanted / short)
    reason = f"the images have about {long:.0f} x {short:.0f} pixels"
    if smallest is not None and told[smallest] * factor < LEAST_SIDE and factor < 1:
        factor = min(1.0, LEAST_SIDE / told[smallest], most / short)
        name = train_set.classes.names[smallest]
        reason += f"; larger than usual, because parts of {name} have a side of {told[smallest]:.0f} pixels only"
    elif factor < 1:
        reason += ", more than is needed" + (" on a CPU" if cpu else "")
    scale = (max(1, round(long * factor)), max(1, round(short * factor)))
    scale = tuple(plan.choose("augmentation.scale", scale, reason, given) or (round(long), round(short)))
    plan.choose("evaluation.scale", scale, "as in training", given)
    side = min(crop, max(32, scale[1] // 32 * 32))
    plan.choose("augmentation.crop", (side, side), "a part of the image, in whole strides of the encoder", given)
    plan.choose("augmentation.scale_range", (0.5, 1.5), "objects are seen nearer and farther", given)
    plan.choose("augmentation.largest_class", 0.95, "crops that show nearly one class alone are drawn again", given)


def _plan_training(
    plan: Plan, given: Mapping[str, Any], images: int, minutes: float | None, *, cpu: bool, reporter: Reporter
) -> None:
    """Batch, steps, and how often to look."""
    wanted = int(given.get("training.batch_size", 8 if cpu else 16))
    reporter.note("trying a training step ...")
    known = {name: value for name, value in plan.sections["model"].items() if value is not None}
    trial = try_steps(ModelSettings(**known), tuple(plan.sections["augmentation"]["crop"]), most=wanted, cpu=cpu)
    batch = plan.choose("training.batch_size", wanted, "enough for steady gradients", given)
    fits = next(size for size in range(min(trial.batch, batch), 0, -1) if batch % size == 0)
    plan.choose("training.accumulate", batch // fits, _said_of_memory(trial), given)
    steps = _plan_steps(plan, given, images, minutes, batch=batch, seconds=trial.seconds)
    plan.seconds = steps * batch * trial.seconds
    plan.choose("training.warmup_steps", min(100, steps // 10), "a tenth, at most 100", given)
    plan.choose("training.warmup_ratio", 1e-3, "nearly from 0", given)
    every = max(steps // 8, 1)
    plan.choose("training.evaluate_every", every, "eight times", given)
    plan.choose("training.save_every", every, "with each evaluation", given)
    plan.choose("training.log_every", max(1, min(25, steps // 20)), "often enough to see a curve", given)
    plan.choose("data.workers", 1 if cpu else 4, "processes that load images", given)


def _plan_steps(
    plan: Plan, given: Mapping[str, Any], images: int, minutes: float | None, *, batch: int, seconds: float
) -> int:
    """How long: as many steps as were given, as epochs or minutes amount to, or as the images suggest."""
    epochs, minutes = given.get("training.epochs"), minutes or given.get("training.minutes")
    if minutes is not None:
        plan.choose("training.minutes", minutes, "given; the steps follow from the time that the first ones take", {})
        steps = max(20, int(minutes * 60 / (seconds * batch)))
        plan.choose("training.steps", steps, "about; training.minutes decides", {})
    elif epochs is not None:
        plan.choose("training.steps", math.ceil(images * epochs / batch), "training.epochs decides", {})
    else:
        steps = int(np.clip(round(images * 60 / batch), 300, 8000))
        why = f"every image about {steps * batch / images:.0f} times, in at least 300 and at most 8000 steps"
        plan.choose("training.steps", steps, why, given)
    return int(plan.sections["training"]["steps"])


def _said_of_memory(trial: Trial) -> str:
    gib = 2**30
    return (
        f"tried: a batch of {trial.batch} needs about {trial.needed / gib:.1f} GiB of the "
        f"{trial.free / gib:.1f} GiB that are free"
    )


def _largest_and_smallest(objects: Objects, classes: Classes) -> list[str]:
    total = sum(objects.pixels.values())
    if not total:
        return []
    shares = sorted(((count / total, classes.names[k]) for k, count in objects.pixels.items()), reverse=True)
    said = ", ".join(
        f"{name} {100 * share:.3g} %" for share, name in (shares[:3] + shares[-2:] if len(shares) > 5 else shares)
    )
    return [f"share of the pixels: {said}"]


def write_plan(plan: Plan, out: str | Path) -> Path:
    """Write the recipe, and the split if the folder has none, into the folder of a run.

    Raises:
        ValueError: If it can't be written.
    """
    from semask.files.atomic import write_whole

    folder = Path(out)
    if plan.split is not None and plan.sections["data"]["split_file"] == str(folder / SPLIT_FILE):
        write_split(folder / SPLIT_FILE, *plan.split)
    write_whole(folder / RECIPE_FILE, plan.text())
    return folder / RECIPE_FILE
