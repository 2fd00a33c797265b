"""A checkpoint as a file for other engines, checked against the model before it takes its name; without a console."""

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from semask.acceleration.devices import machine
from semask.checkpoints.saving import versions
from semask.checkpoints.sources import find_checkpoint, load
from semask.engines.catalog import find, formats, require_precision
from semask.engines.check import LIMITS, NEAR_TIE, Check, Latency, compare, measure
from semask.engines.description import Precision, metadata
from semask.engines.format import Format, Request
from semask.engines.runtime import load_exported
from semask.engines.samples import Inputs, Picture, Samples, choose_samples, sample_tensor
from semask.files.atomic import temporary_folder, written_whole
from semask.files.reading import sha256
from semask.files.schema import require
from semask.model import SeMask
from semask.prediction.recipe import recipe_inference
from semask.settings.inference import Given, Inference, inference_of

OutputsName = Literal["scores", "labels"]
LABELS_ONLY = "the file gives labels only: they are compared at the size that the model sees, and no scores are"


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how it differs from the model.

    Attributes:
        file: The exported file.
        format: Name of the format.
        precision: fp32, fp16, bf16 or int8.
        weights: The checkpoint: "file", "sha256", "bytes".
        files: Bytes of each file that was written.
        seconds: Time that the export took, without the check.
        images: Where the images of the check, and of the calibration, are from.
        check: Differences of scores and labels.
        different_percent: Share of the pixels whose label differs, in percent.
        limit_percent: The most that was allowed.
        passed: Whether the file was kept.
        latency: Median seconds before and after.
        engine: Versions, device and threads of what ran the file.
        versions: Versions of what exported it.
        machine: Hardware.
        remarks: What to know before trusting the check.
    """

    file: str
    format: str
    precision: str
    weights: dict[str, Any]
    files: dict[str, int]
    seconds: float
    images: str
    check: Check
    different_percent: float
    limit_percent: float
    passed: bool
    latency: Latency
    engine: dict[str, Any]
    versions: dict[str, str]
    machine: str
    remarks: tuple[str, ...]


class Rejected(ValueError):
    """An exported file differed too much from the model, and was not kept.

    Args:
        report: What was measured.
        file: Where it was written.
    """

    def __init__(self, report: ExportReport, file: Path) -> None:
        self.report = report
        notes = "".join(f"; {note}" for note in report.remarks)
        super().__init__(
            f"{report.file}: not kept, because {report.different_percent:.3g} % of the labels differ from the model's "
            f"(or a score is NaN or infinite) and the limit is {report.limit_percent:g} %: see {file}{notes}"
        )


def export(
    weights: str | Path,
    *,
    format: str = "onnx",
    precision: Precision = "fp32",
    out: str | Path | None = None,
    overwrite: bool = False,
    images: Sequence[str] | None = None,
    samples: int = 32,
    checks: int = 8,
    limit: float | None = None,
    license: str | None = None,
    size: tuple[int, int] | None = None,
    inference: Given = None,
    outputs: OutputsName = "scores",
    device: str = "cpu",
    tell: Callable[[str], None] | None = None,
) -> ExportReport:
    """Export a checkpoint, compare the file with the model on images, and keep it if they agree.

    Writes OUT, for OpenVINO its .bin next to it, and OUT.report.json. A file that differs too much is not kept, only
    OUT.rejected.json with its numbers; what was there before is untouched.

    Args:
        weights: Checkpoint: a .safetensors file, the folder of a run, OWNER/NAME on the Hugging Face Hub, or the name
            of a published model.
        format: Name of a format: onnx, openvino, torch (torch.export), aotinductor, tensorrt.
        precision: fp32, fp16, bf16 or int8 (calibrated on images).
        out: File to write, which is replaced; None for a new one with the name of the checkpoint, in this folder.
        overwrite: Whether to replace a file with the name of the checkpoint too.
        images: Image files, folders and patterns to calibrate and check with; None for the validation images of the
            recipe, or for the check synthetic scenes.
        samples: Images to calibrate int8 on, at most.
        checks: Images to compare on, at most; the first is seen at an odd size too.
        limit: Largest share of pixels, in percent, whose label may differ; None for 0.1 (fp32), 0.5 (fp16, bf16) or
            2 (int8).
        license: License of the weights; None for the one that the checkpoint states.
        size: Height and width of the windows of a format whose files take one size only; larger images go through it
            window by window. None for the windows of `inference`. Other formats take any size.
        inference: How images are put through the file, which says so itself: an `Inference`, or only what differs from
            the checkpoint's recipe, e.g. {"flip": True}; None for the recipe's.
        outputs: scores: class scores, or masks with their classes, which `predict` makes label maps of; labels: the
            label map itself, [B, H, W] uint8 at the size of the images that the file takes.
        device: Where to run the model, and what files that run on one device only are for: cpu or cuda.
        tell: Is given lines that say how far the work is; None for nobody.

    Returns:
        The report, as written.

    Raises:
        ValueError: If the checkpoint or an image can't be read, the format can't hold the model, something that it
            needs is not installed, the file can't be written, or it differs too much (`Rejected`).
    """
    if samples < 1 or checks < 1 or not (limit is None or 0 <= limit <= 100):
        raise ValueError(
            f"samples {samples}, checks {checks}, limit {limit}: give at least 1 image, and 0 to 100 percent"
        )
    row, say = find(format), tell or (lambda line: None)
    if size is not None and not row.one_size:
        raise ValueError(f"size is {size}, but {format} files take images of any size: leave it out")
    require_precision(row, precision)
    require(outputs, OutputsName, "outputs")
    target = output_file(weights, row, out, overwrite=overwrite)
    model, source = load(weights, device=device), find_checkpoint(weights)
    used = inference_of(recipe_inference(model), inference)
    used = in_windows(used, size, row) if row.one_size else used
    int8 = precision == "int8"
    chosen = choose_samples(
        images,
        model.metadata.get("recipe", {}),
        count=checks + (samples if int8 else 0),
        channels=model.config["in_channels"],
    )
    if int8 and chosen.synthetic:
        raise ValueError("int8 is calibrated on images like those it will see: give some with --images")
    weights_file: dict[str, Any] = {"file": str(weights), "sha256": sha256(source), "bytes": source.stat().st_size}
    with staging(target) as folder:
        say(f"Exporting {weights} as {format}, {precision} ...")
        start = time.perf_counter()
        window = used.crop if row.one_size else None
        request = Request(
            model=model,
            path=folder / target.name,
            sample=sample_of(chosen, model, used, window).to(device),
            precision=precision,
            metadata=metadata(
                model,
                precision=precision,
                license=license,
                sha256=weights_file["sha256"],
                evaluation=asdict(used) if inference or window else None,
                size=window,
                labels=outputs == "labels",
            ),
            labels=outputs == "labels",
            calibration=Inputs(chosen.images[:samples], model, used) if int8 else (),
        )
        files = row.export(request)
        seconds = time.perf_counter() - start
        say(f"Comparing it with the model on {chosen.source} ...")
        allowed = LIMITS[precision] if limit is None else limit
        check, latency, engine = compare_file(files[0], row, model, chosen.images[-checks:], device=device)
        report = ExportReport(
            file=str(target),
            format=format,
            precision=precision,
            weights=weights_file,
            files={file.name: file.stat().st_size for file in files},
            seconds=seconds,
            images=chosen.source,
            check=check,
            different_percent=check.percent,
            limit_percent=allowed,
            passed=check.passes(allowed),
            latency=latency,
            engine=engine,
            versions=versions(),
            machine=machine(torch.device(device)),
            remarks=(LABELS_ONLY,) * (outputs == "labels")
            + remarks(check, chosen, seen=int8 and len(chosen.images) < checks + samples),
        )
        finish(report, files, target)
    return report


def sample_of(chosen: Samples, model: SeMask, inference: Inference, window: tuple[int, int] | None) -> torch.Tensor:
    """One image as the model sees it, [1, C, h, w].

    Raises:
        ValueError: If it can't be read, or is smaller than the only size that a file takes.
    """
    sample = next(iter(Inputs(chosen.images[-1:], model, inference)))
    if window is not None and tuple(sample.shape[-2:]) != window:
        raise ValueError(
            f"{chosen.source}: there is an image of {sample.shape[-2]} x {sample.shape[-1]}, smaller than the "
            f"window of {window[0]} x {window[1]}: give a smaller --size, or larger images"
        )
    return sample


def output_file(weights: str | Path, row: Format, out: str | Path | None, *, overwrite: bool = False) -> Path:
    """Decide which file to write.

    Raises:
        ValueError: If it has another ending than the format, or would replace a file that was not named.
    """
    if out is None:
        name = Path(weights).name if Path(weights).is_dir() else Path(weights).name.removesuffix(".safetensors")
        target = Path(f"{name or 'model'}{row.ending}")
        if target.exists() and not overwrite:
            raise ValueError(f"{target}: already exists; pass --overwrite to replace it, or another name as --out")
    else:
        target = Path(out)
        endings = [x.ending for x in formats().values()]
        others = [x for x in endings if x.endswith(row.ending) and x != row.ending and target.name.endswith(x)]
        if not target.name.endswith(row.ending) or target.name == row.ending or others or target.is_dir():
            raise ValueError(
                f"{out}: {row.name} files end in {row.ending}: give such a name as --out, or another --format"
            )
    for file in (*row.files(target)[1:], target.with_name(f"{target.name}.report.json")):
        if file.exists() and not target.exists():  # with the target it is replaced, alone it may be anything
            raise ValueError(
                f"{file}: would be replaced, and is not of an earlier {target}: move it, or give another --out"
            )
    return target


def in_windows(inference: Inference, size: tuple[int, int] | None, row: Format) -> Inference:
    """How images are put through a file that takes windows of one size.

    Raises:
        ValueError: If neither `size` nor `inference` says which.
    """
    if size is None and inference.mode != "slide":
        raise ValueError(f"{row.name} files take images of one size: give height and width, e.g. --size [512,512]")
    if size is None or (inference.mode == "slide" and size == inference.crop):
        return inference
    if min(size) < 1:
        raise ValueError(f"size is {size}: give height and width in pixels")
    height, width = (max(2 * side // 3, 1) for side in size)
    return replace(inference, mode="slide", crop=size, stride=(height, width))


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Give an empty folder next to a file that is to be written, and remove it in the end.

    Raises:
        ValueError: If there can't be one, or something could not be written.
    """
    try:
        with temporary_folder(target) as folder:
            yield folder
    except OSError as error:
        raise ValueError(
            f"{target}: could not be written ({error.strerror or error}): free some space or choose another folder; "
            "what was there before is untouched"
        ) from error


def compare_file(
    file: Path, row: Format, model: SeMask, images: Sequence[Picture], *, device: str
) -> tuple[Check, Latency, dict[str, Any]]:
    """Open an exported file and measure it against the model; also tells what ran it."""
    runtime = load_exported(file, device=device if row.on_device and device != "cpu" else None, trust=True)
    inference = recipe_inference(runtime)
    check = compare(model, runtime, (sample_tensor(image, model) for image in images), inference)
    latency = measure(model, runtime, next(iter(Inputs(images, model, inference))).to(device))
    return check, latency, runtime.details


def remarks(check: Check, samples: Samples, *, seen: bool = False) -> tuple[str, ...]:
    """Say what a reader of the report should know; `seen`: int8 was calibrated on images of the check too."""
    notes = []
    if seen:
        notes.append("a weak check: some of its images were calibrated on as well; give more with --images")
    if samples.synthetic:
        notes.append("a weak check: synthetic scenes, not images like those it will see; give some with --images")
    lead = check.largest_lead
    if check.different > 0 and lead < NEAR_TIE:
        notes.append(f"where labels differ, both were nearly as likely: the lead in probability is at most {lead:.1g}")
    return tuple(notes)


def finish(report: ExportReport, files: Sequence[Path], target: Path) -> None:
    """Move the files and the report to their place if they passed.

    Raises:
        Rejected: If they did not; then only a report is left, under another name.
        OSError: If they can't be moved; then what was there before is there again.
    """
    text = json.dumps(asdict(report), indent=1, ensure_ascii=False)
    rejected = target.with_name(f"{target.name}.rejected.json")
    if not report.passed:
        with written_whole(rejected) as temporary:
            temporary.write_text(text, encoding="utf-8")
        raise Rejected(report, rejected)
    described = files[0].with_name(f"{target.name}.report.json")
    described.write_text(text, encoding="utf-8")
    replace_all([*files, described], target.parent)
    rejected.unlink(missing_ok=True)


def replace_all(files: Sequence[Path], folder: Path) -> None:
    """Move files into a folder, in place of those of the same names: all, or if one fails none."""
    kept: list[tuple[Path, Path]] = []
    placed: list[Path] = []
    try:
        for file in files:
            place = folder / file.name
            if place.is_dir():
                raise IsADirectoryError(f"{place} is a folder")
            if place.exists():
                old = file.with_name(f"{file.name}.old")
                os.replace(place, old)
                kept.append((old, place))
            os.replace(file, place)
            placed.append(place)
    except BaseException:
        for place in placed:
            place.unlink()
        for old, place in kept:
            os.replace(old, place)
        raise
