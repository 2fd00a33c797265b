"""Export a checkpoint as a file for another engine, and check it."""

from typing import TYPE_CHECKING, Literal

from semask.commands.console import make_console
from semask.engines.catalog import FormatName
from semask.engines.description import Precision
from semask.files.text import shown
from semask.settings.inference import Options

if TYPE_CHECKING:
    from semask.engines.export import ExportReport


def export(
    weights: str,
    *,
    format: FormatName = "onnx",
    precision: Precision = "fp32",
    out: str | None = None,
    overwrite: bool = False,
    images: list[str] | None = None,
    samples: int = 32,
    checks: int = 8,
    limit: float | None = None,
    licence: str | None = None,
    size: tuple[int, int] | None = None,
    outputs: Literal["scores", "labels"] = "scores",
    device: str = "cpu",
    inference: Options,
) -> None:
    """Export a checkpoint, compare the file with the model on images, and keep it if they agree.

    Writes OUT, for OpenVINO its .bin next to it, and OUT.report.json. A file that differs too much is not kept, only
    OUT.rejected.json with its numbers; what was there before is untouched.

    Args:
        weights: Checkpoint: a .safetensors file, the folder of a run, OWNER/NAME on the Hugging Face Hub, or the name
            of a published model.
        format: Format of the file; docs/export.md compares them.
        precision: fp32, fp16, bf16 or int8 (calibrated on images).
        out: File to write, which is replaced; null for a new one with the name of the checkpoint, in this folder.
        overwrite: Replace a file with the name of the checkpoint too.
        images: Image files, folders, or quoted patterns to calibrate and check with; without, the validation images of
            the recipe, or for the check synthetic scenes.
        samples: Images to calibrate int8 on, at most.
        checks: Images to compare on, at most; the first is seen at an odd size too.
        limit: Largest share of pixels, in percent, whose label may differ; null for 0.1 (fp32), 0.5 (fp16, bf16) or
            2 (int8).
        licence: License of the weights; null for the one that the checkpoint states.
        size: Height and width of the windows that an aotinductor file takes, which has one size only; larger images go
            through it window by window. Null for the windows of the recipe. Other formats take any size.
        outputs: scores: class scores or masks, which predict makes label maps of; labels: the label map itself, uint8,
            at the size of the images that the file takes.
        device: Where to run the model, and what torch, aotinductor and tensorrt files are for: cpu or cuda.
        inference: How images are put through the file; what is not given is as the checkpoint's recipe says.

    Raises:
        ValueError: If the checkpoint or an image can't be read, the format can't hold the model, something that it
            needs is not installed, the file can't be written, or it differs too much.
    """
    from semask.engines.export import Rejected
    from semask.engines.export import export as write

    console = make_console()

    def tell(line: str) -> None:
        console.print(shown(line), highlight=False, soft_wrap=True)

    try:
        report = write(
            weights,
            format=format,
            precision=precision,
            out=out,
            overwrite=overwrite,
            images=images,
            samples=samples,
            checks=checks,
            limit=limit,
            license=licence,
            size=size,
            outputs=outputs,
            device=device,
            inference=inference,
            tell=tell,
        )
    except Rejected as error:
        print_report(error.report)
        raise
    print_report(report)
    tell(f"{report.file} is ready, exported in {report.seconds:.0f} s")


def print_report(report: "ExportReport") -> None:
    """Print a report as a table."""
    from rich.table import Table

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
