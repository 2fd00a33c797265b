"""Train and evaluate the arms of a study, one run after the other; stopped at any time, it goes on where it was.

    OMP_NUM_THREADS=1 python studies/train_arms.py semask --data data/camvid --out runs/study
    OMP_NUM_THREADS=1 python studies/train_arms.py semask --data DATA --out runs/study --arms plain semask --seeds 0 1

Seeds are the outer loop, so that whatever is finished can be compared. Every run leaves in the folder results of the
study, or in RESULTS/STUDY: ARM-SEED.npz (what was counted in each validation image by the last step's weights, which
`semask compare` reads), ARM-SEED.csv (scores over training) and ARM-SEED.json (learned scales, settings, versions,
machine). Several processes may share the work: give them other arms or seeds.
"""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from arm import SYNTHETIC, Arm, Study, layers, study

from semask import SeMask, evaluate, load, train
from semask.acceleration.devices import machine
from semask.builder import build_model
from semask.checkpoints.saving import versions
from semask.data.source import Data
from semask.settings.recipe import read_recipe
from semask.settings.sections import SECTIONS
from semask.synthetic.dataset import write_synthetic
from semask.training.state import holds_run

SCENES = 2000
"""Synthetic scenes that an encoder without weights of its own is pretrained on."""
PLACE = "data"
"""What results say of the folder of the data, whose place is that of a machine."""


def main() -> None:
    """Run what is not finished yet."""
    options = parse()
    found = study(options.study)
    options.results = found.results if options.results is None else options.results / options.study
    unknown = set(options.arms or ()) - found.arms.keys()
    if unknown:
        raise SystemExit(f"no arm {', '.join(sorted(unknown))}: choose from {', '.join(found.arms)}")
    for seed in options.seeds:
        for name in options.arms or found.arms:
            if not finished(options.results, name, seed):
                print(f"== {name}, seed {seed}", flush=True)
                run(found, name, seed, options)


def run(study: Study, name: str, seed: int, options: argparse.Namespace) -> None:
    """Train an arm with a seed, or go on with it, and evaluate the last step's weights."""
    arm = study.arms[name]
    sections = settings_of(study.recipe, arm, seed, options)
    if arm.share < 1:
        sections["data"] = part_of(sections["data"], arm.share, options.out)
    out = options.out / f"{name}-{seed}"
    started = dict(sections)
    if sections["training"].pretrained == SYNTHETIC:
        weights = pretrained_on_scenes(sections, options.out)
        started["training"] = dataclasses.replace(sections["training"], pretrained=str(weights))
    train_or_resume(model_of(arm, sections, seed), started, out)
    trained = load(out / "last.safetensors", into=model_of(arm, sections, seed))
    options.results.mkdir(parents=True, exist_ok=True)
    counts = evaluate(trained, sections["data"], workers=0, reporter=None).counts
    assert counts is not None
    shutil.copy(out / "evaluation.csv", options.results / f"{name}-{seed}.csv")
    said = {
        "settings": {section: dataclasses.asdict(values) for section, values in sections.items()}
        | {"data": {"root": PLACE}},
        "scales": [[block.scale.item() for block in layer.attentions] for layer in layers(trained)],
        "versions": versions(),
        "machine": machine(torch.device("cpu")),
    }
    (options.results / f"{name}-{seed}.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
    report = {**counts.report, "data": {**counts.report["data"], "root": PLACE}}
    counts = dataclasses.replace(counts, report=report)
    counts.save(options.results / f"{name}-{seed}.npz")  # last: it says that the run is finished


def train_or_resume(model: SeMask, sections: dict[str, Any], out: Path) -> None:
    """Train by the settings of a recipe, or go on with it."""
    train(
        model,
        sections["data"],
        out=str(out),
        augmentation=sections["augmentation"],
        loss=None if model.decoder.makes_masks else sections["loss"],
        training=sections["training"],
        evaluation=sections["evaluation"],
        resume=holds_run(out),
    )


def pretrained_on_scenes(sections: dict[str, Any], out: Path) -> Path:
    """Weights of the plain model after as many steps on synthetic scenes of the same size: one file for all seeds."""
    weights = out / "on-scenes.safetensors"
    if weights.exists():
        return weights
    long, short = sections["evaluation"].scale
    data = Data(root=str(write_synthetic(out / "scenes", train=SCENES, size=(short, long))), workers=0)
    model = dataclasses.replace(sections["model"], semantic_depths=0)
    training = dataclasses.replace(sections["training"], pretrained=None, seed=0)
    sections = {**sections, "data": data, "model": model, "training": training}
    train_or_resume(model_of(Arm("on scenes"), sections, 0), sections, out / "on-scenes")
    (out / "on-scenes" / "last.safetensors").rename(weights)
    return weights


def finished(results: Path, name: str, seed: int) -> bool:
    """Whether an arm was trained and evaluated with a seed."""
    return (results / f"{name}-{seed}.npz").is_file()


def settings_of(recipe_name: str, arm: Arm, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The recipe with what an arm and the command line change."""
    recipe: dict[str, dict[str, Any]] = read_recipe(recipe_name)
    own = {**arm.settings, "data.root": str(options.data), "training.seed": seed}
    if options.steps is not None:
        own |= {"training.steps": options.steps, "training.warmup_steps": min(100, options.steps // 10)}
    for setting, value in own.items():
        section, field = setting.split(".")
        recipe.setdefault(section, {})[field] = value
    return {name: kind(**recipe.get(name, {})) for name, kind in SECTIONS.items() if name != "mask_loss"}


def part_of(data: Data, share: float, out: Path) -> Data:
    """Make a folder whose training images are an even share of those of a data set."""
    folder = out / f"data-{share:g}"
    if not folder.exists():
        root = Path(data.root).expanduser().resolve()
        making = out / f".data-{share:g}"
        shutil.rmtree(making, ignore_errors=True)
        train_set = data.dataset("train")
        pairs = train_set.pairs[:: round(1 / share)]
        for kind in ("images", "annotations"):
            (making / kind / "train").mkdir(parents=True)
            (making / kind / "val").symlink_to(root / kind / "val")
        shutil.copy(root / "classes.json", making)
        for image, label in pairs:
            assert isinstance(image, Path)
            assert isinstance(label, Path)
            shutil.copy(image, making / "images/train")
            shutil.copy(label, making / "annotations/train")
        making.rename(folder)
    return dataclasses.replace(data, root=str(folder))


def model_of(arm: Arm, sections: dict[str, Any], seed: int) -> SeMask:
    """The model of an arm, with the fresh weights of a seed."""
    torch.manual_seed(seed)
    model = build_model(sections["model"])
    if arm.change is not None:
        arm.change(model)
    return model


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="folder next to this file, e.g. semask")
    parser.add_argument("--data", required=True, type=Path, help="CamVid as images/ and annotations/, train and val")
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs")
    parser.add_argument("--results", type=Path, help="folder of small results, with one for each study")
    parser.add_argument("--arms", nargs="+", metavar="ARM", help="all unless given")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--steps", type=int, help="other than the recipe's")
    return parser.parse_args()


if __name__ == "__main__":
    main()
