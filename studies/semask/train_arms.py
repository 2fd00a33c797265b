"""Train and evaluate the arms of the study, one run after the other; stopped at any time, it goes on where it was.

    OMP_NUM_THREADS=1 python studies/semask/train_arms.py --data data/camvid --out runs/study
    OMP_NUM_THREADS=1 python studies/semask/train_arms.py --data DATA --out runs/study --arms plain semask --seeds 0 1

Seeds are the outer loop, so that whatever is finished can be compared. Every run leaves in --results (by default
results/ next to this file): ARM-SEED.npz (what was counted in each validation image by the last step's weights, `semask
compare` reads it), ARM-SEED.csv (scores over training) and ARM-SEED.json (learned scales, settings, versions, machine).
Several processes may share the work: give them other arms or seeds.
"""

import argparse
import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from arms import ARMS, Arm, layers

from semask import SeMask, evaluate, load, train
from semask.acceleration.devices import machine
from semask.builder import build_model
from semask.checkpoints.saving import versions
from semask.data.source import Data
from semask.settings.recipe import read_recipe
from semask.settings.sections import SECTIONS

HERE = Path(__file__).parent


def main() -> None:
    """Run what is not finished yet."""
    options = parse()
    for seed in options.seeds:
        for name in options.arms:
            if not finished(options.results, name, seed):
                print(f"== {name}, seed {seed}", flush=True)
                run(name, ARMS[name], seed, options)


def run(name: str, arm: Arm, seed: int, options: argparse.Namespace) -> None:
    """Train an arm with a seed, or go on with it, and evaluate the last step's weights."""
    sections = settings_of(arm, seed, options)
    if arm.share < 1:
        sections["data"] = part_of(sections["data"], arm.share, options.out)
    model = model_of(arm, sections, seed)
    out = options.out / f"{name}-{seed}"
    train(
        model,
        sections["data"],
        out=str(out),
        augmentation=sections["augmentation"],
        loss=None if model.decoder.makes_masks else sections["loss"],
        training=sections["training"],
        evaluation=sections["evaluation"],
        resume=(out / "resume.safetensors").exists(),
    )
    trained = load(out / "last.safetensors", into=model_of(arm, sections, seed))
    options.results.mkdir(parents=True, exist_ok=True)
    counts = evaluate(trained, sections["data"], workers=0, reporter=None).counts
    assert counts is not None
    shutil.copy(out / "evaluation.csv", options.results / f"{name}-{seed}.csv")
    said = {
        "settings": {section: dataclasses.asdict(values) for section, values in sections.items()},
        "scales": [[block.scale.item() for block in layer.attentions] for layer in layers(trained)],
        "versions": versions(),
        "machine": machine(torch.device("cpu")),
    }
    (options.results / f"{name}-{seed}.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
    counts.save(options.results / f"{name}-{seed}.npz")  # last: it says that the run is finished


def finished(results: Path, name: str, seed: int) -> bool:
    """Whether an arm was trained and evaluated with a seed."""
    return (results / f"{name}-{seed}.npz").is_file()


def settings_of(arm: Arm, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The recipe with what an arm and the command line change."""
    recipe: dict[str, dict[str, Any]] = read_recipe(HERE / "recipe.yaml")
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
    parser.add_argument("--data", required=True, type=Path, help="CamVid as images/ and annotations/, train and val")
    parser.add_argument("--out", required=True, type=Path, help="folder of the runs")
    parser.add_argument("--results", type=Path, default=HERE / "results", help="folder of the small results")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--steps", type=int, help="other than the recipe's")
    return parser.parse_args()


if __name__ == "__main__":
    main()
