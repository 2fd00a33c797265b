"""The verb `export`: a checkpoint as a file for other engines, checked against the model before it takes its name."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from rich.table import Table

from semask.acceleration.devices import machine
from semask.checkpoints.saving import versions
from semask.checkpoints.sources import find_checkpoint, load
from semask.engines.check import LIMITS, NEAR_TIE, Check, Latency, compare, measure
from semask.engines.description import Precision, metadata
from semask.engines.request import Request
from semask.engines.runtime import load_exported
from semask.engines.samples import Inputs, Picture, Samples, choose_samples
from semask.files.atomic import temporary_folder, written_whole
from semask.files.reading import sha256
from semask.files.text import make_console, one_line, shown
from semask.model import SeMask
from semask.prediction.predictor import recipe_inference, to_tensor
from semask.settings.inference import Inference

Format = Literal["onnx", "openvino", "torch", "aotinductor", "tensorrt"]
ENDINGS: dict[str, str] = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "torch": ".pt2",
    "aotinductor": ".aoti.pt2",
    "tensorrt": ".engine",
}
MODULES: dict[str, str] = {"torch": "torch_program", "aotinductor": "aot_inductor"}
"""Modules of `exporters` that are not called like their format."""
OF_ONE_SIZE = ("aotinductor",)
"""Formats whose files take images of one size only."""

ON_DEVICE = (".pt2", ".engine")
"""Endings of files that run on the device they were exported for; others are run on the CPU to be checked."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported, and how it differs from the model.

    Attributes:
        file: The exported file.
        format: onnx, openvino, torch, aotinductor or tensorrt.
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


def export(
    weights: str,
    *,
    format: Format = "onnx",
    precision: Precision = "fp32",
    out: str | None = None,
    images: list[str] | None = None,
    samples: int = 32,
    checks: int = 8,
    limit: float | None = None,
    licence: str | None = None,
    size: tuple[int, int] | None = None,
    device: str = "cpu",
) -> ExportReport:
    """Export a checkpoint, compare the file with the model on images, and keep it if they agree.

    Writes OUT, for OpenVINO its .bin beside it, and OUT.report.json. A file that differs too much is not kept, only
    OUT.rejected.json with its numbers; what was there before is untouched.

    Args:
        weights: Checkpoint: a .safetensors file, the folder of a run, or OWNER/NAME on the Hugging Face Hub.
        format: onnx, openvino, torch (torch.export), aotinductor or tensorrt.
        precision: fp32, fp16, bf16 or int8 (calibrated on images).
        out: File to write; null for the name of the checkpoint in this folder. Only a named one is replaced.
        images: Image files, folders, or quoted patterns to calibrate and check with; null for the validation images of
            the recipe, or for the check drawn scenes.
        samples: Images to calibrate int8 on, at most.
        checks: Images to compare on, at most; the first is seen at an odd size too.
        limit: Largest share of pixels, in percent, whose label may differ; null for 0.1 (fp32), 0.5 (fp16, bf16) or
            2 (int8).
        licence: Licence of the weights; null for the one that the checkpoint states.
        size: Height and width of the windows that an aotinductor file takes, which has one size only; larger images go
            through it window by window. Null for the windows of the recipe. Other formats take any size.
        device: Where to run the model, and what torch, aotinductor and tensorrt files are for: cpu or cuda.

    Returns:
        The report, as written.

    Raises:
        ValueError: If the checkpoint or an image can't be read, the format can't hold the model, something that it
            takes is not installed, the file can't be written, or it differs too much.
    """
    if samples < 1 or checks < 1 or not (limit is None or 0 <= limit <= 100):
        raise ValueError(
            f"samples {samples}, checks {checks}, limit {limit}: give at least 1 image, and 0 to 100 percent"
        )
    if size is not None and format not in OF_ONE_SIZE:
        raise ValueError(f"size is {size}, but {format} files take images of any size: leave it out")
    target = output_file(weights, format, out)
    model, source = load(weights, device=device), find_checkpoint(weights)
    inference = in_windows(recipe_inference(model), size, format) if format in OF_ONE_SIZE else recipe_inference(model)
    window = inference.crop if format in OF_ONE_SIZE else None
    calibrated = precision == "int8"
    chosen = choose_samples(
        images,
        model.metadata.get("recipe", {}),
        count=checks + (samples if calibrated else 0),
        channels=model.config["in_channels"],
    )
    if calibrated and chosen.drawn:
        raise ValueError("int8 is calibrated on images like those it will see: give some with --images")
    weights_file: dict[str, Any] = {"file": str(weights), "sha256": sha256(source), "bytes": source.stat().st_size}
    console = make_console()
    with staging(target) as folder:
        console.print(f"Exporting {shown(weights)} as {format}, {precision} ...", highlight=False, soft_wrap=True)
        start = time.perf_counter()
        sample = next(iter(Inputs(chosen.images[-1:], model, inference))).to(device)
        if window is not None and tuple(sample.shape[-2:]) != window:
            raise ValueError(
                f"{chosen.source}: there is an image of {sample.shape[-2]} x {sample.shape[-1]}, smaller than the "
                f"window of {window[0]} x {window[1]}: give a smaller --size, or larger images"
            )
        request = Request(
            model=model,
            path=folder / target.name,
            sample=sample,
            precision=precision,
            metadata=metadata(
                model,
                precision=precision,
                licence=licence,
                sha256=weights_file["sha256"],
                evaluation=asdict(inference) if window is not None else None,
                size=window,
            ),
            calibration=Inputs(chosen.images[:samples], model, inference) if calibrated else (),
        )
        files = save(request, format)
        seconds = time.perf_counter() - start
        console.print(f"Comparing it with the model on {shown(chosen.source)} ...", highlight=False, soft_wrap=True)
        allowed = LIMITS[precision] if limit is None else limit
        check, latency, engine = compare_file(files[0], model, chosen.images[-checks:], device=device)
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
            remarks=remarks(check, chosen, seen=calibrated and len(chosen.images) < checks + samples),
        )
        print_report(report)
        finish(report, files, target)
    console.print(f"{shown(target)} is ready, exported in {seconds:.0f} s", highlight=False, soft_wrap=True)
    return report


def output_file(weights: str, format: str, out: str | None) -> Path:
    """Decide which file to write.

    Raises:
        ValueError: If it has another ending than the format, or would replace a file that was not named.
    """
    ending = ENDINGS[format]
    if out is None:
        name = Path(weights).name if Path(weights).is_dir() else Path(weights).name.removesuffix(".safetensors")
        target = Path(f"{name or 'model'}{ending}")
        if target.exists():
            raise ValueError(f"{target}: is there already: give it as --out to replace it, or another name")
    else:
        target = Path(out)
        others = [x for x in ENDINGS.values() if x.endswith(ending) and x != ending and out.endswith(x)]
        if not out.endswith(ending) or target.name == ending or others or target.is_dir():
            raise ValueError(f"{out}: {format} files end in {ending}: give such a name as --out, or another --format")
    beside = target.with_suffix(".bin") if format == "openvino" else target.with_name(f"{target.name}.data")
    named = (f"{target.name}.json", f"{target.name}.report.json")
    for file in (beside, *(target.with_name(name) for name in named)):
        if file.exists() and not target.exists():  # with the target it is replaced, alone it may be anything
            raise ValueError(
                f"{file}: would be replaced, and is not of an earlier {target}: move it, or give another --out"
            )
    return target


def in_windows(inference: Inference, size: tuple[int, int] | None, format: str) -> Inference:
    """How images are put through a file that takes windows of one size.

    Raises:
        ValueError: If neither `size` nor the recipe says which.
    """
    if size is None and inference.mode != "slide":
        raise ValueError(f"{format} files take images of one size: give height and width, e.g. --size [512,512]")
    if size is None or (inference.mode == "slide" and size == inference.crop):
        return inference
    if min(size) < 1:
        raise ValueError(f"size is {size}: give height and width in pixels")
    height, width = (max(2 * side // 3, 1) for side in size)
    return replace(inference, mode="slide", crop=size, stride=(height, width))


def save(request: Request, format: str) -> list[Path]:
    """Write a model in a format, with the `save` of its module in `exporters`; gives the files.

    Raises:
        ValueError: If the format can't hold the model, or something that it takes is not installed.
    """
    module = import_module(f"semask.engines.{MODULES.get(format, format)}")
    try:
        files: list[Path] = module.save(request)
    except (ValueError, OSError):
        raise
    except Exception as error:  # each library has errors of its own
        said = one_line(next(iter(str(error).strip().splitlines()), type(error).__name__))  # the rest is its traceback
        raise ValueError(f"this model can't be exported as {format} ({said}): take another format") from error
    return files


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Give an empty folder beside a file that is to be written, and remove it in the end.

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
    file: Path, model: SeMask, images: Sequence[Picture], *, device: str
) -> tuple[Check, Latency, dict[str, Any]]:
    """Open an exported file and measure it against the model; also tells what ran it."""
    runtime = load_exported(file, device=device if file.suffix in ON_DEVICE and device != "cpu" else None, trust=True)
    inference, channels = recipe_inference(runtime), model.config["in_channels"]
    check = compare(model, runtime, (to_tensor(image, channels=channels) for image in images), inference)
    latency = measure(model, runtime, next(iter(Inputs(images, model, inference))).to(device))
    details = {**runtime.details, "opset": opset(file)} if file.suffix == ".onnx" else runtime.details
    return check, latency, details


def opset(file: Path) -> int:
    """Version of the operators in an ONNX file."""
    import onnx

    graph = onnx.load(file, load_external_data=False)
    return next(int(entry.version) for entry in graph.opset_import if entry.domain in ("", "ai.onnx"))


def remarks(check: Check, samples: Samples, *, seen: bool = False) -> tuple[str, ...]:
    """Say what a reader of the report should know; `seen`: int8 was calibrated on images of the check too."""
    notes = []
    if seen:
        notes.append("a weak check: some of its images were calibrated on as well; give more with --images")
    if samples.drawn:
        notes.append("a weak check: drawn scenes, not images like those it will see; give some with --images")
    lead = check.largest_lead
    if check.different > 0 and lead < NEAR_TIE:
        notes.append(f"where labels differ, both were nearly as likely: the lead in probability is at most {lead:.1g}")
    return tuple(notes)


def finish(report: ExportReport, files: Sequence[Path], target: Path) -> None:
    """Move the files and the report to their place if they passed.

    Raises:
        ValueError: If they did not; then only a report is left, under another name.
        OSError: If they can't be moved; then what was there before is there again.
    """
    text = json.dumps(asdict(report), indent=1, ensure_ascii=False)
    rejected = target.with_name(f"{target.name}.rejected.json")
    if not report.passed:
        with written_whole(rejected) as temporary:
            temporary.write_text(text, encoding="utf-8")
        notes = "".join(f"; {note}" for note in report.remarks)
        raise ValueError(
            f"{target}: not kept, because {report.different_percent:.3g} % of the labels differ from the model's (or a "
            f"score is no number) and the limit is {report.limit_percent:g} %: see {rejected}{notes}"
        )
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


def print_report(report: ExportReport) -> None:
    """Print a report as a table."""
    check, latency = report.check, report.latency
    before, after = report.weights["bytes"], sum(report.files.values())
    table = Table(title=f"{shown(report.file)}, {report.precision}, {report.engine['engine']}")
    for column in ("", "model", "exported"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row("size, MB", f"{before / 1e6:.1f}", f"{after / 1e6:.1f}")
    table.add_row(
        f"one image of {latency.size[0]} x {latency.size[1]}, s", f"{latency.model:.3f}", f"{latency.exported:.3f}"
    )
    table.add_section()
    table.add_row("largest difference of a score", "", f"{check.max_difference:.2g}")
    table.add_row("mean difference of a score", "", f"{check.mean_difference:.2g}")
    table.add_row(f"labels that differ, of {check.pixels:,}", "", f"{check.different:,}")
    table.add_row(f"labels that differ, % (limit {report.limit_percent:g})", "", f"{report.different_percent:.4f}")
    table.caption = "\n".join(map(shown, report.remarks)) or None
    make_console(stderr=False).print(table)
