"""Whether the 95 % intervals hold the true value in 95 % of studies, and the 5 % tests find a difference in 5 %.

    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py --studies 1000 --tables scores
    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py --studies 500 --tables comparisons
    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py --studies 20 --resamples 200    # whether it runs

Each study draws images of a made-up kind: 11 classes, of which some are large and in every image and one is in 6 % of
them; IoU from 0.2 to 0.92. Its true IoU is that of 400,000 images. Images of a sequence are alike: all that makes an
image is correlated (0.7) with the other images of its sequence, but their kind is the same. Two models that are
compared are equally good. A seed is as good as any other seed on average, with a standard deviation of 1 to 2 points.

A share of 1,000 studies is known to about 1.4 points (two standard errors), one of 500 to 2.
"""

import argparse
import warnings
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from semask.metrics.comparison import paired
from semask.metrics.intervals import Interval, intervals
from semask.metrics.resampling import drawn, unions

Array = NDArray[np.float64]
NORMAL = NormalDist()
PRESENT = np.array([0.99, 0.99, 0.98, 0.95, 0.9, 0.8, 0.6, 0.4, 0.25, 0.12, 0.06])
"""Share of the images that each class is in."""
PIXELS = 1000 * np.array([30, 25, 20, 8, 6, 4, 3, 2, 1.5, 1, 0.8])
QUALITY = np.array([0.95, 0.9, 0.93, 0.8, 0.85, 0.7, 0.6, 0.5, 0.45, 0.6, 0.3])
CLASSES = len(PIXELS)
TRUE_DRAWS = (20_000, 20)
"""Images that the true scores are of, and how many times."""
ALIKE = 0.7
"""Correlation of the images of a sequence."""


def logit(x: Array) -> Array:
    return np.log(x / (1 - x))


def latent(random: np.random.Generator, sequences: int, frames: int, *shape: int) -> Array:
    """Normal numbers [sequences * frames, ...], correlated within a sequence."""
    if frames == 1:
        return random.normal(size=(sequences, *shape))
    of_sequence = np.repeat(random.normal(size=(sequences, *shape)), frames, axis=0)
    return np.sqrt(ALIKE) * of_sequence + np.sqrt(1 - ALIKE) * random.normal(size=of_sequence.shape)


def draw(random: np.random.Generator, sequences: int, frames: int = 1, models: int = 1, seeds: int = 1) -> Array:
    """Areas of images that several models of one quality segmented, [models, seeds, N, K, 3]."""

    def new(*shape: int) -> Array:
        return latent(random, sequences, frames, *shape)

    limits = np.array([NORMAL.inv_cdf(p) for p in PRESENT])
    labeled = np.round((new(CLASSES) < limits) * PIXELS * np.exp(0.8 * new(CLASSES)))
    hard = 0.5 * new(1) + 0.5 * new(CLASSES) + 0.3 * np.log(np.maximum(labeled, 1) / PIXELS)
    areas = np.empty((models, seeds, len(labeled), CLASSES, 3))
    for model in range(models):
        for seed in range(seeds):
            of_seed = random.normal(size=1) * 0.06 + random.normal(size=CLASSES) * 0.06 if seeds > 1 else 0.0
            hit = np.round(labeled / (1 + np.exp(-(logit(QUALITY) + of_seed + hard + 0.6 * new(CLASSES)))))
            false = np.exp(0.7 * new(CLASSES) - 0.5) * (new(CLASSES) < np.maximum(limits, -1))
            wrong = np.round(PIXELS * (1 - QUALITY) * 0.6 * false)
            areas[model, seed] = np.stack([hit, labeled, hit + wrong], axis=-1)
    return areas


def true_scores() -> Array:
    """IoU of the classes, their mean, and overall accuracy, over 400,000 images: [K + 2]."""
    random = np.random.default_rng(2**20)
    images, times = TRUE_DRAWS
    total = sum(draw(random, images)[0, 0].sum(axis=0) for _ in range(times))
    hit, union = unions(np.asarray(total))
    iou = hit / union
    return np.append(iou, [iou.mean(), hit.sum() / np.asarray(total)[:, 1].sum()])


def holds(interval: Interval, value: float) -> float:
    """1 or 0, NaN if there is no interval."""
    if interval.low is None or interval.high is None:
        return np.nan
    return float(interval.low <= value <= interval.high)


def other_intervals(areas: Array, groups: NDArray[np.int64] | None, resamples: int) -> dict[str, tuple[Array, Array]]:
    """Percentile and BCa intervals of the classes and their mean [K + 1], as Efron defines them."""
    if groups is not None:
        areas = np.stack([areas[groups == g].sum(axis=0) for g in range(groups.max() + 1)])
    hit, union = unions(areas)

    def scores(hits: Array, all_: Array) -> Array:
        with np.errstate(invalid="ignore"):
            iou = hits / all_
        return np.column_stack([iou, np.nanmean(iou, axis=1)])

    weights = np.concatenate(list(drawn(len(areas), resamples, 0)))
    values = scores(weights @ hit, weights @ union)  # [R, K + 1]
    (value,) = scores(hit.sum(axis=0)[None], union.sum(axis=0)[None])
    without = scores(hit.sum(axis=0) - hit, union.sum(axis=0) - union)  # [N, K + 1]
    away = np.nanmean(without, axis=0) - without
    skew = np.nansum(away**3, axis=0) / np.maximum(6 * np.nansum(away**2, axis=0) ** 1.5, 1e-30)
    below = np.clip((values < value).mean(axis=0) + (values == value).mean(axis=0) / 2, 1e-4, 1 - 1e-4)
    ends: list[list[float]] = [[], []]
    for k, share in enumerate(below):
        middle = NORMAL.inv_cdf(float(share))
        for side, p in enumerate((0.025, 0.975)):
            z = middle + NORMAL.inv_cdf(p)
            ends[side].append(np.nanquantile(values[:, k], NORMAL.cdf(middle + z / max(1 - skew[k] * z, 0.1))))
    percentile = np.nanquantile(values, [0.025, 0.975], axis=0)
    return {"percentile": (percentile[0], percentile[1]), "BCa": (np.array(ends[0]), np.array(ends[1]))}


def row(name: str, held: Array) -> str:
    """A line of the table, of what was held in each study, [studies, K + 1 or more]; NaN where nothing was given."""
    given = ~np.isnan(held[:, :CLASSES])
    counted = given.mean(axis=0) > 0.2
    with np.errstate(invalid="ignore"):
        shares = 100 * np.nansum(held, axis=0) / np.maximum((~np.isnan(held)).sum(axis=0), 1)
    of_classes = shares[:CLASSES][counted]
    least = f"{of_classes.min():.1f} to {of_classes.max():.1f}" if counted.any() else "-"
    accuracy = f"{shares[CLASSES + 1]:.1f}" if held.shape[1] > CLASSES + 1 else ""
    return f"| {name} | {shares[CLASSES]:.1f} | {accuracy} | {least} | {counted.sum()} |"


def coverage_of_scores(studies: int, resamples: int) -> None:
    """Print how often intervals of one model's scores hold the true ones."""
    truth = true_scores()
    print("True IoU: " + ", ".join(f"{x:.3f}" for x in truth[:CLASSES]) + f"; mean {truth[CLASSES]:.3f}\n")
    print("| 95 % interval | mIoU, % | accuracy, % | classes, % | classes with one |\n|---|---|---|---|---|")
    for sequences, frames in ((30, 1), (50, 1), (100, 1), (300, 1), (12, 10), (30, 10), (100, 10)):
        random = np.random.default_rng(sequences * frames)
        numbers = np.repeat(np.arange(sequences), frames)
        ways = {"images": None} if frames == 1 else {"images": None, "sequences": numbers}
        held: dict[str, list[list[float]]] = {}
        for _ in range(studies):
            areas = draw(random, sequences, frames)[0, 0]
            for unit, groups in ways.items():
                found = intervals(areas, groups, resamples=resamples)
                everything = [*found.iou, found.miou, found.overall_accuracy]
                given = [holds(x, value) for x, value in zip(everything, truth, strict=True)]
                held.setdefault(f"{unit}: bootstrap-t (ours)", []).append(given)
                if (frames == 1) == (unit == "images"):
                    for way, (low, high) in other_intervals(areas, groups, resamples).items():
                        inside = np.where(np.isnan(given[:-1]), np.nan, (low <= truth[:-1]) & (truth[:-1] <= high))
                        held.setdefault(f"{unit}: {way}", []).append(list(inside))
        what = f"{sequences} images" if frames == 1 else f"{sequences} sequences of {frames} images"
        for way, of_studies in held.items():
            print(row(f"{what}, drawn as {way}", np.array(of_studies)), flush=True)


def level_of_comparisons(studies: int, resamples: int) -> None:
    """Print how often comparisons of equally good models find a difference."""
    print("| two equal models | interval of mIoU holds 0, % | of classes, % | p < 0.05, mIoU, % | of classes, % |")
    print("|---|---|---|---|---|")
    one = (1, 1)
    cases = [(30, 1, one), (100, 1, one), (300, 1, one), (30, 10, one)]
    cases += [(100, 1, seeds) for seeds in ((2, 2), (3, 3), (5, 5), (1, 5))]
    for sequences, frames, (seeds, others) in cases:
        random = np.random.default_rng(1000 * others + 10_000 * seeds + sequences * frames)
        numbers = np.repeat(np.arange(sequences), frames)
        ways = {"images": None} if frames == 1 else {"images": None, "sequences": numbers}
        held: dict[str, list[list[float]]] = {name: [] for name in ways}
        p_images: dict[str, list[list[float]]] = {name: [] for name in ways}
        p_shown: dict[str, list[list[float]]] = {name: [] for name in ways}
        of_seeds: list[float] = []
        for _ in range(studies):
            base, other = draw(random, sequences, frames, models=2, seeds=others)
            for unit, groups in ways.items():
                found = paired(base[:seeds], other, groups, resamples=resamples, swaps=resamples)
                everything = [*found.iou, found.miou]
                held[unit].append([holds(x.interval, 0) for x in everything])
                p_images[unit].append([np.nan if x.p is None else x.p for x in everything])
                p = [x.p if x.p_both is None else x.p_both for x in everything]
                p_shown[unit].append([np.nan if x is None else x for x in p])
                if found.p_seeds is not None:
                    of_seeds.append(found.p_seeds)
        what = f"{sequences} images" if frames == 1 else f"{sequences} sequences of {frames} images"
        for unit in ways:
            name = f"{what}, drawn as {unit}" + (f", seeds: {seeds} and {others}" if others > 1 else "")
            inside, p = np.array(held[unit]), np.array(p_shown[unit])
            ours = 100 * np.nanmean(inside, axis=0)
            found_p = 100 * np.nanmean(np.where(np.isnan(p), np.nan, p < 0.05), axis=0)
            kept = (~np.isnan(inside)).mean(axis=0) > 0.2
            kept[-1] = False
            of_classes = f"{ours[kept].min():.1f} to {ours[kept].max():.1f}"
            p_classes = f"{found_p[kept].min():.1f} to {found_p[kept].max():.1f}"
            print(f"| {name} | {ours[-1]:.1f} | {of_classes} | {found_p[-1]:.1f} | {p_classes} |", flush=True)
            if others > 1:
                alone = 100 * np.nanmean(np.array(p_images[unit])[:, -1] < 0.05)
                print(f"| the same, p of swapped images only | | | {alone:.1f} | |")
            if of_seeds:
                print(f"| the same, p of dealt seeds only | | | {100 * np.mean(np.array(of_seeds) <= 0.05):.1f} | |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--tables", nargs="+", choices=["scores", "comparisons"], default=["scores", "comparisons"])
    options = parser.parse_args()
    np.seterr(all="ignore")  # classes that do not occur
    warnings.simplefilter("ignore")
    if "scores" in options.tables:
        coverage_of_scores(options.studies, options.resamples)
    if "comparisons" in options.tables:
        level_of_comparisons(options.studies, options.resamples)


if __name__ == "__main__":
    main()
