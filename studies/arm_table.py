"""Tables of what is finished: each arm against its base, on the same images, with intervals.

    python studies/arm_table.py semask                       # of studies/semask/results
    python studies/arm_table.py semask --results runs/results --out runs/table.md
    python studies/arm_table.py semask --data data/camvid    # adds the time of a training step, on this machine

Frames of a video are alike, so blocks of them are drawn and swapped as a whole: --groups.
"""

import argparse
import csv
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from arm import Arm, Study, study
from torch.utils.flop_counter import FlopCounterMode
from train_arms import model_of, settings_of

from semask import SeMask, compare
from semask.acceleration.accelerate import accelerate
from semask.cost import flops, parameters, shadow
from semask.evaluation.image_counts import ImageCounts, read_counts
from semask.losses.pixel import PixelLoss
from semask.metrics.comparison import Difference

BLOCKS = r"_(\d+)\d$"
"""Frames whose numbers differ in the last digit only: 5 of CamVid's validation frames, a third of a second."""
STEPS = 5


def main() -> None:
    """Read what is there, and print."""
    options = parse()
    found = study(options.study)
    files = finished_arms(options.study, options.results)
    times = step_times(found, list(files), options) if options.data is not None else {}
    bases = base_files(found, files, options.results)
    lines = [*scores(found, files, bases, options.groups, times), "", *priors(found, files), "", *exits(found, files)]
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


def finished_arms(name: str, results: Path | None) -> dict[str, list[Path]]:
    """Files of the seeds of each arm that has any."""
    folder = results_folder(name, results)
    return {arm: some for arm in study(name).arms if (some := results_of(arm, folder))}


def results_folder(name: str, results: Path | None) -> Path:
    """Folder of the results of a study."""
    return study(name).results if results is None else results / name


def base_files(study: Study, files: dict[str, list[Path]], results: Path | None) -> dict[str, list[Path]]:
    """Files of the seeds of all arms that others are compared with; STUDY/ARM is one of another study."""
    found = {}
    for base in {study.arms[name].base for name in files}:
        other, _, name = base.rpartition("/")
        found[base] = results_of(name, results_folder(other, results)) if other else files.get(name, [])
    return found


def results_of(name: str, folder: Path) -> list[Path]:
    """Files of the seeds of an arm."""
    found = [path for path in folder.glob(f"{name}-*.npz") if path.stem.removeprefix(f"{name}-").isdigit()]
    return sorted(found)


def scores(
    study: Study,
    files: dict[str, list[Path]],
    bases: dict[str, list[Path]],
    groups: str,
    times: dict[str, float],
) -> list[str]:
    """Each arm with its mIoU, the difference to its base, and what it costs."""
    head = ["arm", "seeds", "mIoU %", "of each seed", "base", "difference, 95 % interval", "p", "smallest difference"]
    head += ["parameters", "GFLOPs", *(["ms a step"] if times else [])]
    lines = [row(head), row(["---"] * len(head))]
    for name, some in files.items():
        arm, sides = study.arms[name], [read_counts(path) for path in some]
        each = [100 * miou(side) for side in sides]
        against = [""] * 4
        if arm.base != name and bases[arm.base]:
            found = compare([read_counts(path) for path in bases[arm.base]], sides, groups=groups)
            against = [arm.base, *said(found.pairs[0].scores.miou)]
        model = plain_model(study, arm)
        cells = [
            arm.title, str(len(some)), f"{statistics.mean(each):.2f}", ", ".join(f"{x:.1f}" for x in each),
            *against, f"{parameters(model) / 1e6:.2f} M", f"{flops(model, size_of(study, arm)) / 1e9:.2f}",
        ]  # fmt: skip
        lines.append(row(cells + ([f"{1000 * times[name]:.0f}"] if times else [])))
    return lines


def plain_model(study: Study, arm: Arm) -> SeMask:
    """The model of an arm with fresh weights."""
    return model_of(arm, sections_of(study, arm), 0)


def size_of(study: Study, arm: Arm) -> tuple[int, int]:
    """Height and width of the images that an arm is evaluated with."""
    long, short = sections_of(study, arm)["evaluation"].scale
    return short, long


def sections_of(study: Study, arm: Arm) -> dict[str, Any]:
    """The settings of an arm."""
    return settings_of(study.recipe, arm, 0, argparse.Namespace(data="data", steps=None))


def said(difference: Difference) -> list[str]:
    """A difference of mIoU in percent, its p, and what could have been seen."""
    if difference.difference is None or difference.interval.low is None or difference.interval.high is None:
        return [difference.interval.reason or "", "", ""]
    low, high = 100 * difference.interval.low, 100 * difference.interval.high
    p = difference.p if difference.p_both is None else difference.p_both
    smallest = "" if difference.smallest is None else f"{100 * difference.smallest:.1f}"
    return [f"{100 * difference.difference:+.2f} ({low:+.2f} to {high:+.2f})", f"{p:.3f}", smallest]


def priors(study: Study, files: dict[str, list[Path]]) -> list[str]:
    """What the priors know: mIoU of each stage over training, and the scales that were learned; means over seeds."""
    head = ["arm", "step", "mIoU %", *(f"prior {stage}" for stage in range(1, 5)), "scales"]
    lines = [row(head), row(["---"] * len(head))]
    for name, some in files.items():
        tables = [list(csv.DictReader(path.with_suffix(".csv").open(encoding="utf-8"))) for path in some]
        facts = [json.loads(path.with_suffix(".json").read_text(encoding="utf-8")) for path in some]
        if "prior_1" not in tables[0][0]:
            continue
        for rows in zip(*tables, strict=True):
            names = ["miou", *(f"prior_{stage}" for stage in range(1, 5))]
            means = [f"{100 * statistics.mean(float(line[x]) for line in rows):.1f}" for x in names]
            last = rows[0]["step"] == tables[0][-1]["step"]
            scales = ", ".join(
                f"{statistics.mean(x):.2f}" for x in zip(*(flat(f["scales"]) for f in facts), strict=True)
            )
            lines.append(row([study.arms[name].title, rows[0]["step"], *means, scales if last else ""]))
    return lines


def exits(study: Study, files: dict[str, list[Path]]) -> list[str]:
    """What it costs to stop at the prior of a stage, and what is lost; means over seeds."""
    lines = [row(["arm", "exit", "GFLOPs", "mIoU %"]), row(["---"] * 4)]
    for name, some in files.items():
        arm, sides = study.arms[name], [read_counts(path) for path in some]
        model, size = plain_model(study, arm), size_of(study, arm)
        for place in range(1, sides[0].maps):
            cost = f"{until(model, place, size) / 1e9:.2f}"
            score = f"{100 * statistics.mean(miou(side, place) for side in sides):.2f}"
            lines.append(row([arm.title, f"prior of stage {place}", cost, score]))
        score = f"{100 * statistics.mean(miou(side) for side in sides):.2f}"
        lines.append(row([arm.title, "masks", f"{flops(model, size) / 1e9:.2f}", score]))
    return lines


def until(model: SeMask, stage: int, size: tuple[int, int]) -> int:
    """FLOPs from the image, of height and width, to the prior of a stage (from 1)."""
    with shadow(model, size) as (twin, image), FlopCounterMode(display=False) as counter:
        state = twin.encoder.backbone.stem(image)
        for index, run in enumerate(twin.encoder.backbone.stages[:stage]):
            state = run(state)
            x, _ = twin.encoder.semantic_layers[index](twin.encoder.backbone.read(state, index))
            state = twin.encoder.backbone.write(state, x, index)
    return int(counter.get_total_flops())


def flat(scales: Sequence[Sequence[float]]) -> list[float]:
    """Scales of all blocks in a row."""
    return [scale for layer in scales for scale in layer]


def miou(counts: ImageCounts, place: int = 0) -> float:
    """Mean IoU over the classes that occur, of the masks or of the prior of a stage."""
    hit, labeled, predicted = counts.areas(place).sum(axis=0).T
    union = labeled + predicted - hit
    return float((hit[union > 0] / union[union > 0]).mean())


def step_times(study: Study, names: Sequence[str], options: argparse.Namespace) -> dict[str, float]:
    """Median processor seconds of a training step; all arms take turns."""
    steps = {name: step_of(study, study.arms[name], options) for name in names}
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(STEPS + 1):
        for name, step in steps.items():
            began = time.process_time()
            step()
            taken[name].append(time.process_time() - began)
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


def step_of(study: Study, arm: Arm, options: argparse.Namespace) -> Any:
    """A training step of an arm on random images."""
    sections = settings_of(study.recipe, arm, 0, options)
    model = accelerate(model_of(arm, sections, 0)).train()
    loss: PixelLoss = sections["loss"]
    height, width = sections["augmentation"].crop
    image = torch.randn(sections["training"].batch_size, 3, height, width)
    label = torch.randint(0, 11, (len(image), height, width))

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            output = model(image)
        loss(output, label).total.backward()  # type: ignore[no-untyped-call]
        model.zero_grad()

    return step


def row(cells: Sequence[str]) -> str:
    """A row of a table in Markdown."""
    return f"| {' | '.join(cells)} |"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="folder next to this file, e.g. semask")
    parser.add_argument("--results", type=Path, help="folder of small results, with one for each study")
    parser.add_argument("--out", type=Path, help="Markdown file to write")
    parser.add_argument("--data", type=Path, help="CamVid, to time the training steps of all arms")
    parser.add_argument("--groups", default=BLOCKS, help="expression that finds the sequence in an image's name")
    options = parser.parse_args()
    options.steps = None
    return options


if __name__ == "__main__":
    main()
