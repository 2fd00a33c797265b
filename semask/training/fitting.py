"""The settings of a model that follow from the images it is trained on: range of samples, mean, standard deviation."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from semask.checkpoints.metadata import measured_of
from semask.data.dataset import SegmentationDataset
from semask.data.measuring import PERCENTILES, Measured, measure
from semask.data.source import Data
from semask.files.reporter import Reporter
from semask.model import SeMask
from semask.settings.model import listed
from semask.training.state import EARLIER, FILES, STATE, read_saved


def fit(
    model: SeMask,
    data: Data,
    datasets: Mapping[str, SegmentationDataset],
    *,
    out: Path,
    resume: bool,
    accelerator: Accelerator,
    reporter: Reporter,
) -> None:
    """Measure the training images if `data.measure` says so, and let the data sets be read as the model takes them.

    A run that goes on keeps what was measured when it was started.

    Args:
        model: Its `config` gets what was measured.
        data: Says what to measure.
        datasets: "train" and "val".
        out: Folder of the run.
        resume: Whether the run goes on.
        accelerator: Knows the other processes; the first one measures.
        reporter: Is told what was found.

    Raises:
        ValueError: If an image can't be read, or a channel has no data.
    """
    if data.measure is not None:
        found: list[Any] = [measured_before(out) if resume else None]
        if found[0] is None:
            if accelerator.is_main_process:
                measured = measure(datasets["train"], value_range=data.measure == "range", track=reporter.track)
                found = [{name: listed(value) for name, value in measured._asdict().items()}]
                for line in lines_of(measured):
                    reporter.note(line)
            broadcast_object_list(found)
        model.config |= {name: value for name, value in found[0].items() if value is not None}
    for dataset in datasets.values():
        dataset.reading = dataset.reading.for_model(model.config)


def measured_before(out: Path) -> dict[str, Any] | None:
    """What the run in a folder measured when it was started; None if that can't be read, which is told later."""
    for path in (out / name for name in (STATE, EARLIER, *FILES)):
        with contextlib.suppress(ValueError):
            return measured_of(read_saved(path), path)
    return None


def lines_of(measured: Measured, most: int = 16) -> Sequence[str]:
    """Say what was measured, a line a channel."""
    rows = list(zip(measured.value_range or [None] * len(measured.mean), measured.mean, measured.std, strict=True))
    low, high = PERCENTILES
    lines = []
    for number, (limits, mean, std) in enumerate(rows[:most], start=1):
        spread = "" if limits is None else f"{limits[0]:g} to {limits[1]:g}, "
        lines.append(f"channel {number}: {spread}mean {mean:.3f}, std {std:.3f}")
    more = [f"and {len(rows) - most} more channels"] if len(rows) > most else []
    title = "measured over the training images, for values in [0, 1]"
    if measured.value_range is not None:
        title += f" between the percentiles {low:g} and {high:g} of each channel"
    return [title, *lines, *more]
