"""What an evaluation does on request: details, a calibrated copy of the checkpoint, pictures of the worst images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semask.checkpoints.saving import require_checkpoint_name, save_calibrated
from semask.data.dataset import SegmentationDataset
from semask.data.source import Data
from semask.engines.catalog import is_exported
from semask.engines.runtime import Runtime
from semask.evaluation.details import SAMPLE, ImageMeasures, fitted, sample_size, worst_images
from semask.evaluation.details_report import describe_details
from semask.evaluation.image_counts import ImageCounts
from semask.evaluation.pictures import write_pictures
from semask.extras import require
from semask.files.text import one_line
from semask.model import SeMask
from semask.prediction.predictor import Predictor
from semask.settings.details import Details


@dataclass(frozen=True)
class Requested:
    """What an evaluation does on request.

    Args:
        details: Settings of the details; None for none.
        calibrate: Checkpoint to write; None for none.
        worst: Folder of the pictures; None for none.

    Raises:
        ValueError: If scipy is missing, or the checkpoint has another ending than .safetensors.
    """

    details: Details | None
    calibrate: str | Path | None
    worst: str | Path | None

    def __post_init__(self) -> None:  # what is known now, and not only after the evaluation
        if self.details is not None:
            require("scipy")
        if self.calibrate is not None:
            require_checkpoint_name(self.calibrate)

    def require_copy(self, model: SeMask | Runtime | str | Path, path: Path | None) -> None:
        """Refuse to write a copy of what is no checkpoint, or of a checkpoint in its own place.

        Args:
            model: What is evaluated.
            path: Its file; None for a model that was loaded already.

        Raises:
            ValueError: If there is no checkpoint to write a copy of.
        """
        if self.calibrate is None:
            return
        if isinstance(model, Runtime) or (path is not None and is_exported(path)):
            name = "this" if path is None else one_line(path)
            raise ValueError(
                f"{name} is an exported file: calibrate the checkpoint that it was made of, and export that"
            )
        if path is not None and Path(self.calibrate).resolve() == path.resolve():
            raise ValueError(f"{one_line(path)}: calibrate would replace the checkpoint itself: give another file")

    def measures(self, predictor: Predictor, dataset: SegmentationDataset) -> ImageMeasures:
        """What is counted in each image."""
        K = len(dataset.classes)
        sampled = 0 if self.calibrate is None else sample_size(len(dataset), K)
        return ImageMeasures(self.details, K, predictor.temperature, sampled)

    def finish(
        self,
        predictor: Predictor,
        dataset: SegmentationDataset,
        source: Data,
        counts: ImageCounts,
        path: Path | None,
        *,
        write: bool,
    ) -> dict[str, Any]:
        """Entries of the report; writes the files that are asked for.

        Args:
            predictor: What was evaluated.
            dataset: What it was evaluated on.
            source: Where that is.
            counts: What was counted.
            path: File of the checkpoint; None for a model that was loaded already.
            write: Whether this process writes files.

        Raises:
            ValueError: If no pixel is labeled to fit a temperature to, or a file can't be written.
        """
        report: dict[str, Any] = {}
        if self.details is not None:
            report["details"] = describe_details(counts, self.details, predictor.temperature)
        if self.calibrate is not None:
            sample = counts.details[SAMPLE]
            found = fitted(sample)
            calibration = {
                **{name: list(x) if isinstance(x, tuple) else x for name, x in found._asdict().items()},
                "data": dataset.name,
                "split": source.val_split,
                "images": len(dataset),
                "pixels": sample.shape[0] * sample.shape[2],
            }
            report["calibrated"] = calibration
            if write:
                assert isinstance(predictor.model, SeMask)
                save_calibrated(self.calibrate, predictor.model if path is None else path, calibration)
        if write and self.worst is not None:
            assert self.details is not None
            indices = [one.place for one in worst_images(counts, self.details.worst_images)]
            write_pictures(self.worst, [predictor], dataset, counts.names, indices)
        return report
