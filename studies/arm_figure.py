"""Picture of a study: each arm's difference to its base with its interval, and what masks and priors know.

    python studies/arm_figure.py semask --out docs/images/does-semask-help.png      # needs matplotlib

Reads the same files as arm_table.py. Hollow points: one seed, whose interval is over images alone.
"""

import argparse
import csv
import statistics
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
from arm import Study, study
from arm_table import BLOCKS, base_files, finished_arms

from semask import compare
from semask.evaluation.image_counts import read_counts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#b5c7e3", "#8aa6d1", "#5f85bf", "#3564ad", "#c8502a")
"""Of the priors of stages 1 to 4, and of the masks."""


def main() -> None:
    """Read what is there, and draw."""
    options = parse()
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    found = study(options.study)
    files = finished_arms(options.study, options.results)
    rows = sum(found.arms[name].base != name for name in files)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 1.8 + 0.34 * max(rows, 5)), width_ratios=(3, 2))
    draw_differences(left, found, files, base_files(found, files, options.results), options.groups)
    draw_priors(right, files[options.priors], found.arms[options.priors].title)
    figure.tight_layout()
    figure.savefig(options.out, dpi=110)


def draw_differences(
    axes: "Axes", study: Study, files: dict[str, list[Path]], bases: dict[str, list[Path]], groups: str
) -> None:
    """A row for each arm that has a base: the difference of mIoU in points, and its 95 % interval."""
    names = [name for name in files if study.arms[name].base != name and bases[study.arms[name].base]]
    for place, name in enumerate(names):
        sides = [[read_counts(path) for path in some] for some in (bases[study.arms[name].base], files[name])]
        found = compare(*sides, groups=groups).pairs[0].scores.miou
        low, high = found.interval.low, found.interval.high
        if found.difference is None or low is None or high is None:
            continue
        one = min(map(len, sides)) == 1
        axes.plot([100 * low, 100 * high], [place, place], color=COLORS[3], linewidth=2)
        axes.plot(100 * found.difference, place, "o", color=COLORS[3], markerfacecolor="white" if one else COLORS[3])
    axes.axvline(0, color="#888888", linewidth=1, zorder=0)
    base = {name: study.arms[name].base for name in names}
    axes.set_yticks(
        range(len(names)),
        [f"{study.arms[name].title}\nagainst {base[name]}, {seeds(files, bases, base[name], name)}" for name in names],
        fontsize=8,
    )
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel("difference of mIoU in points, 95 % interval")
    axes.grid(axis="x", color="#dddddd")


def seeds(files: dict[str, list[Path]], bases: dict[str, list[Path]], base: str, name: str) -> str:
    """How many seeds both sides have."""
    theirs, own = len(bases[base]), len(files[name])
    if theirs != own:
        return f"{own} and {theirs} seeds"
    return f"{own} seed{'s' * (own > 1)}"


def draw_priors(axes: "Axes", files: list[Path], title: str) -> None:
    """MIoU of masks and priors over the steps, means over seeds."""
    tables = [list(csv.DictReader(path.with_suffix(".csv").open(encoding="utf-8"))) for path in files]
    for column, color in zip(("prior_1", "prior_2", "prior_3", "prior_4", "miou"), COLORS, strict=True):
        rows = list(zip(*tables, strict=True))
        steps = [int(row[0]["step"]) for row in rows]
        means = [100 * statistics.mean(float(line[column]) for line in row) for row in rows]
        name = "masks" if column == "miou" else f"prior of stage {column[-1]}"
        axes.plot(steps, means, color=color, marker="o", markersize=3, label=name)
    axes.set(xlabel="step", ylabel="mIoU, %", ylim=(0, None))
    axes.set_title(title, fontsize=9)
    axes.grid(color="#dddddd")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", help="folder next to this file, e.g. semask")
    parser.add_argument("--results", type=Path, help="folder of small results, with one for each study")
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument("--priors", default="semask", help="arm whose priors are drawn")
    parser.add_argument("--groups", default=BLOCKS, help="expression that finds the sequence in an image's name")
    return parser.parse_args()


if __name__ == "__main__":
    main()
