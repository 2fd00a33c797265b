"""Write a report of runs and evaluations as one HTML file."""

from semask.commands.console import make_console
from semask.files.text import shown


def report(
    sources: list[str],
    *,
    out: str | None = None,
    pictures: int = 0,
    device: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write one HTML file with curves, scores, and pictures, which needs no network and nothing else.

    Several runs and evaluations are compared.

    Args:
        sources: Folders of runs, JSON files of semask evaluate --out, or .npz files of semask evaluate --images. An
            evaluation of a checkpoint in the folder of a run that is given too belongs to that run.
        out: File to write; null for report.html in the folder of the run, NAME.html next to the evaluation, and for
            several report.html in the current folder.
        pictures: How many of the worst images to show, and half as many of the best; opens the checkpoint and the data
            that the evaluation names, if they are still there.
        device: Where to run the model for pictures, e.g. cpu or cuda; null for the GPU if there is one.
        overwrite: Replace the file even if it is not a report.

    Raises:
        ValueError: If a source can't be read, matplotlib is missing, or the file can't be written.
    """
    from semask.reporting.report import report as write_report

    path = write_report(*sources, out=out, pictures=pictures, device=device, overwrite=overwrite)
    make_console(stderr=False).print(f"The report: {shown(path)}", soft_wrap=True)
