"""How many steps a run has, where epochs or minutes decide it; and what was decided of a run that goes on."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from semask.checkpoints.tensors import read_header
from semask.data.dataset import SegmentationDataset
from semask.files.reporter import Reporter
from semask.files.schema import Range
from semask.prediction.predictor import Predictor
from semask.settings.inference import Inference
from semask.settings.training import Training
from semask.training.pace import WARM, Clock, steps_within
from semask.training.run import Run
from semask.training.state import EARLIER, FILES, STATE
from semask.training.state_files import read_manifest

TRIAL = 8.0
"""Seconds in which steps are timed."""
PATIENCE = 0.1
"""Share of the time left after which the timing ends, however few steps were done."""
STEP = Range(0, 10**8)


def saved_runs(out: Path) -> Iterator[dict[str, Any]]:
    """What the files of the run in a folder say of it, the newest state first; none that cannot be read."""
    for path in (*(out / name for name in (STATE, EARLIER, *FILES)), *sorted(out.glob("*.safetensors"))):
        try:
            saved = read_manifest(path)[0] if path.name in (STATE, EARLIER) else read_header(path)
            if isinstance(saved["recipe"]["training"], dict) and isinstance(saved["step"], int):
                yield saved
        except (OSError, ValueError, TypeError, KeyError):
            continue  # it is read again, and its faults are told, when the run goes on


def steps_of_epochs(training: Training, images: int, saved: Mapping[str, Any]) -> Training:
    """Turn epochs into steps: the images that are left to be seen, in batches, the last of which may go on.

    Args:
        training: Settings; `epochs` is given.
        images: Images of the training set.
        saved: What a run to resume says of itself; empty for a new one.
    """
    assert training.epochs is not None
    step, before = saved.get("step", 0), saved.get("recipe", {}).get("training", {}).get("batch_size", 0)
    samples = saved.get("samples", step * before if before in STEP and step in STEP else 0)
    if step not in STEP or samples not in Range(0, 2**53):  # it is refused when the run goes on
        step, samples = 0, 0
    left = round(images * training.epochs, 6) - samples  # 3 x 0.1 epochs of 10 images are 3 images
    return dataclasses.replace(training, steps=max(1, step + math.ceil(left / training.batch_size)))


def decide_steps(training: Training, images: int, saved: Mapping[str, Any], *, changed: bool) -> tuple[Training, bool]:
    """Find the steps of a run as far as they are known before it is timed.

    Args:
        training: Settings.
        images: Images of the training set.
        saved: What a run to resume says of itself; empty for a new one.
        changed: Whether it may go on with other settings.

    Returns:
        The settings with the steps, and whether they are still to be found out by timing.
    """
    if training.epochs is not None:
        return steps_of_epochs(training, images, saved), False
    if training.minutes is None:
        return training, False
    before = saved.get("recipe", {}).get("training", {})
    same = before.get("minutes") == training.minutes or not changed  # if they differ, resuming refuses it
    if not same or before.get("steps") not in Range(1, 10**8):
        return training, True
    return dataclasses.replace(training, steps=before["steps"]), False


def seconds_spent(saved: Mapping[str, Any]) -> float:
    """Seconds that the run took before it was stopped."""
    seconds = saved.get("seconds", 0.0)
    return float(seconds) if seconds in Range(0, 1e12) else 0.0


def steps_in_time(
    run: Run, step: Callable[[], object], inference: Inference, dataset: SegmentationDataset, *, done: int
) -> int:
    """Time steps and the evaluation of a few images, and say how many steps there is time for.

    Args:
        run: The run, before its state is there.
        step: Does a step like those of the run.
        inference: How images are evaluated.
        dataset: Images to evaluate on.
        done: Steps that were done in sessions before.
    """
    pace, training = run.pace, run.training
    assert training.minutes is not None
    limit = 60 * training.minutes
    seconds = seconds_per_step(step, pace.clock, left=limit - pace.elapsed(), agree=run.told_by_first)
    run.gather()
    images = -(-len(dataset) // run.accelerator.num_processes) + training.samples
    evaluation = images * seconds_per_image(Predictor(run.trained, inference), dataset, pace.clock)
    pace.expect("evaluation", evaluation)
    left, every = limit - pace.elapsed(), training.evaluate_every
    steps = steps_within(left, seconds, evaluation=evaluation, every=every, done=done)
    return int(run.told_by_first(steps))


def seconds_per_step(
    step: Callable[[], object], clock: Clock, *, left: float, agree: Callable[[bool], bool] = bool
) -> float:
    """Time steps of a training, the first ones aside, for about `TRIAL` seconds.

    Args:
        step: Does one.
        clock: Gives the time in seconds.
        left: Seconds that the run has.
        agree: Makes all processes of a run end the timing at the same step.
    """
    ends = [clock()]
    while True:
        step()
        ends.append(clock())
        count, seconds = len(ends) - 1, ends[-1] - ends[0]
        if agree((count > WARM and seconds > TRIAL) or (count > 1 and seconds > PATIENCE * left)):
            warm = min(WARM, count - 1)
            return (ends[-1] - ends[warm]) / (count - warm)


def seconds_per_image(predictor: Predictor, dataset: SegmentationDataset, clock: Clock) -> float:
    """Time that the evaluation of an image takes, from that of two; the first run of a model is slower."""
    images = [dataset[index * (len(dataset) - 1) // 2][0] for index in range(3)]
    predictor(images[0], priors=True)
    began = clock()
    for image in images[1:]:
        predictor(image, priors=True)
    return (clock() - began) / 2


def tell_length(training: Training, images: int, reporter: Reporter) -> None:
    """Say how many steps the run has, and why."""
    if training.epochs is not None:
        reporter.note(
            f"{training.epochs:g} epochs of {images:,} images in batches of {training.batch_size} are "
            f"{training.steps:,} steps"
        )
    if training.minutes is not None:
        reporter.note(f"{training.minutes:g} minutes are enough for {training.steps:,} steps")
