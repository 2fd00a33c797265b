"""Show what each stage of a model already believes of a photo."""

from pathlib import Path

from semask.commands.console import ConsoleReporter, make_console
from semask.files.text import one_line, shown
from semask.settings.inference import Options
from semask.settings.precision import Precision, tell


def explain(
    weights: str,
    photo: str | None = None,
    *,
    inference: Options,
    out: str = "explained",
    device: str | None = None,
    precision: Precision = "auto",
) -> None:
    """Show what each stage of a model already believes of a photo: semask explain MODEL photo.jpg.

    Writes NAME.html, a page that works offline and in which one clicks: priors of the stages, confidence, the stage
    that first had the final class, disagreement, and what the semantic attention of a location looks at. Also NAME.json
    with the numbers, and a PNG of each map. The photo goes through the model once, in one piece. A model without
    semantic layers, as the one in the package, has no priors: its page has classes and confidence.

    Args:
        weights: Checkpoint of a model with semantic layers: a .safetensors file, the folder of a run, OWNER/NAME on the
            Hugging Face Hub, or the name of a published model.
        photo: Image file; left out, the first word is the photo, and the model in the package is used, which has no
            semantic layers.
        inference: How the image is put through the model; only scale and antialias matter. What is not given is as the
            checkpoint's recipe says.
        out: Folder to write to.
        device: Where to run, e.g. cpu or cuda; null for the GPU if there is one.
        precision: fp32, bf16 (less time and memory where the device computes in it), or auto: bf16 where the device
            computes in it, else fp32.

    Raises:
        ValueError: If the model can't be read or is an exported file, the photo can't be read, or a file can't be
            written.
    """
    from semask.checkpoints.places import DEFAULT, EMBEDDED
    from semask.data.images import IMAGE_SUFFIXES, read_image
    from semask.engines.catalog import is_exported
    from semask.explain.compute import semantic_layers
    from semask.explain.writing import ENDINGS
    from semask.prediction.files import output_names, require_nothing_lost
    from semask.prediction.opening import open_predictor
    from semask.prediction.predictor import Predictor

    if photo is None and Path(weights).suffix.lower() not in IMAGE_SUFFIXES:
        named = one_line(weights)
        raise ValueError(f"{named}: a model, but which photo? semask explain {named} photo.jpg")
    source, image = (str(EMBEDDED[DEFAULT]), Path(weights)) if photo is None else (weights, Path(photo))
    if image.is_dir():
        raise ValueError(f"{one_line(image)}: a folder: give one of its images, semask explain MODEL photo.jpg")
    if not image.is_file():
        raise ValueError(f"{one_line(image)}: no such image: semask explain MODEL photo.jpg")
    if is_exported(source):
        raise ValueError(
            f"{one_line(source)}: an exported file gives no priors: give the checkpoint that it was made of"
        )
    if image.suffix.lower() not in (".tif", ".tiff"):  # of which the model says what the bands are
        read_image(image)  # a damaged photo is refused before the model is loaded
    names = output_names([image])
    require_nothing_lost(names, Path(out), ENDINGS)
    opened = open_predictor(source, inference=inference, device=device, precision=precision)
    predictor = opened.predictor
    assert isinstance(predictor, Predictor)
    named, reporter = "the model in the package" if photo is None else one_line(source), ConsoleReporter()
    try:
        layers = semantic_layers(predictor.model)
    except ValueError as error:
        raise ValueError(f"{named}: {error}") from error
    if not layers:
        reporter.note(
            f"{named} has no semantic layers, so no priors: the page has its classes and confidence. "
            "Models that semask train FOLDER makes have priors: semask explain runs/mine photo.jpg"
        )
    tell(opened.choice, reporter)
    page, *others = predictor.explain(image).save(out, name=names[image])
    make_console(stderr=False).print(
        f"{shown(page)}: open it in a browser; {len(others)} further files in {shown(out)}", soft_wrap=True
    )
