"""What helps rare classes: the same training with each remedy, over several seeds.

    OMP_NUM_THREADS=1 python benchmarks/rare_classes.py --data data/camvid --out runs/rare
    python benchmarks/rare_classes.py --data data/camvid --out runs/rare --only plain crops --steps 500
    python benchmarks/rare_classes.py --data data/camvid --out runs/rare --table     # of what is there already

trains one model after the other on one thread, and writes table.md and table.json after each. Stop it at any time: the
same command goes on where it stopped, and a run that is finished is not repeated. Scores are those of the last step,
not of the best one: a choice that looks at the validation images would help whatever varies most.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from semask.cli import main as semask

REMEDIES: dict[str, dict[str, object]] = {
    "plain": {},
    "inverse": {"loss.class_weights": "inverse"},
    "median": {"loss.class_weights": "median"},
    "effective": {"loss.class_weights": "effective"},
    "focal": {"loss.cross_entropy_weight": 0, "loss.focal_weight": 1},
    "dice": {"loss.dice_weight": 1},
    "lovasz": {"loss.lovasz_weight": 1},
    "images": {"augmentation.rare_images": 0.5},
    "crops": {"augmentation.rare_crop": 0.5},
    "copy-paste": {"augmentation.copy_paste": 0.5},
    "images+crops": {"augmentation.rare_images": 0.5, "augmentation.rare_crop": 0.5},
    "crops+lovasz": {"augmentation.rare_crop": 0.5, "loss.lovasz_weight": 1},
    "effective+crops": {"loss.class_weights": "effective", "augmentation.rare_crop": 0.5},
    "effective+lovasz": {"loss.class_weights": "effective", "loss.lovasz_weight": 1},
    "crops+copy-paste+lovasz": {
        "augmentation.rare_crop": 0.5,
        "augmentation.copy_paste": 0.5,
        "loss.lovasz_weight": 1,
    },
}
"""Settings that are added to the recipe, by a short name."""
RARE = ("pole", "sign symbol", "pedestrian", "bicyclist")
"""Classes that the remedies are for, in CamVid."""


def train(remedy: str, seed: int, options: argparse.Namespace) -> Path:
    """Train with a remedy and a seed, or go on with it; returns the folder of the run."""
    run = folder(remedy, seed, options)
    if scores_of(run) is not None:
        return run
    settings: dict[str, object] = {
        "data.root": options.data,
        "data.workers": options.workers,
        "training.seed": seed,
        "training.cpu": "true",
        "training.steps": options.steps,
        "training.warmup_steps": min(100, options.steps // 10),
        "training.save_every": options.save_every,
        "training.evaluate_every": 0,
        **REMEDIES[remedy],
    }
    given = [f"--{name}={value}" for name, value in settings.items()]
    try:
        semask(["train", f"--config={options.config}", *given, f"--out={run}", "--resume_or_start"])
    except SystemExit as stop:
        if stop.code:
            raise
    return run


def folder(remedy: str, seed: int, options: argparse.Namespace) -> Path:
    """Where the run of a remedy and a seed lies."""
    return Path(options.out) / f"{remedy}-{seed}"


def scores_of(run: Path) -> dict[str, Any] | None:
    """Scores of the last step of a finished run; None of one that is not."""
    path = run / "last.json"
    if not path.is_file():
        return None
    metadata: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    finished = metadata["step"] == metadata["recipe"]["training"]["steps"]
    scores: dict[str, Any] | None = metadata.get("metrics")
    return scores if finished else None


def table(options: argparse.Namespace) -> list[str]:
    """Lines of a table in Markdown: means over the seeds, and behind mIoU that of each seed."""
    found = {
        remedy: [x for seed in options.seeds if (x := scores_of(folder(remedy, seed, options))) is not None]
        for remedy in options.only
    }
    names = [x["name"] for scores in found.values() for run in scores[:1] for x in run["classes"]]
    rare = [name for name in dict.fromkeys(names) if name in options.rare]
    lines = [
        f"| {' | '.join(['remedy', 'mIoU %', 'of each seed', 'mean of the rare', *rare])} |",
        f"|{'---|' * (4 + len(rare))}",
    ]
    for remedy, runs in found.items():
        if not runs:
            continue
        miou = [100 * run["miou"] for run in runs]
        ious = [{x["name"]: 100 * (x["iou"] or 0) for x in run["classes"]} for run in runs]
        of_rare = [statistics.mean(iou[name] for iou in ious) for name in rare]
        cells = [
            remedy,
            f"{statistics.mean(miou):.2f}",
            ", ".join(f"{x:.2f}" for x in miou),
            f"{statistics.mean(of_rare):.2f}" if of_rare else "",
            *(f"{x:.2f}" for x in of_rare),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    (Path(options.out) / "table.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
    return lines


def write_table(options: argparse.Namespace) -> None:
    """Print the table, and write it to the folder."""
    lines = table(options)
    (Path(options.out) / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines), flush=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with images/ and annotations/, train and val")
    parser.add_argument("--out", required=True, help="folder of the runs and the table")
    parser.add_argument("--config", default="camvid/semask_nano_fpn", help="recipe that all runs begin from")
    parser.add_argument("--only", nargs="+", choices=REMEDIES, default=list(REMEDIES), metavar="REMEDY")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--rare", nargs="+", default=RARE, metavar="CLASS", help="classes that get a column")
    parser.add_argument("--table", action="store_true", help="only write the table of the runs that are finished")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train whatever is missing, seed by seed, so that every remedy has one run before any has two."""
    options = parse(arguments)
    Path(options.out).mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    if not options.table:
        for seed in options.seeds:
            for remedy in options.only:
                train(remedy, seed, options)
                write_table(options)
    else:
        write_table(options)


if __name__ == "__main__":
    main()
