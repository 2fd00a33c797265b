"""Try a model on photos, in the browser."""

from semask.commands.console import ConsoleReporter
from semask.settings.precision import Precision


def app(
    models: list[str] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    user: str = "semask",
    password_file: str | None = None,
    tile: int | None = None,
    overlap: int = 128,
    megabytes: int = 50,
    megapixels: int = 50,
    frames: int = 3000,
    minutes: int = 60,
    waiting: int = 16,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
) -> None:
    """Open a page in which one drops photos and films and sees what a model makes of them.

    The page shows the classes over the photo, their shares, the class and its probability under the pointer, and the
    prior of each stage if the model has semantic layers. Of two or more models it shows two side by side. Masks, areas
    and polygons can be downloaded; they are those of `semask predict`. Needs the extra: pip install 'semask[app]'.

    The page is for this machine only, needs no network, and reports nothing. Another --host needs a password.

    Args:
        models: Checkpoints or exported files, as for `semask predict`. Left out, the model in the package is used,
            which knows 11 classes of street scenes.
        host: Address to listen on. 0.0.0.0 lets other machines in, which needs a password.
        port: Port; null for the first free one from 7860 on.
        user: Name to log in with, if there is a password.
        password_file: File that holds the password, at least 8 characters; null for the environment variable
            SEMASK_APP_PASSWORD, or no password.
        tile: Side in pixels of the tiles in which images are segmented, at their own size; null for the image in one
            piece.
        overlap: Pixels that tiles share with their neighbors and are blended in.
        megabytes: Size of an upload, at most.
        megapixels: Size of an image, at most; a larger one is refused before it is decoded.
        frames: Frames of a film, at most.
        minutes: Time after which an upload is deleted.
        waiting: Photos of all users that may wait for their turn.
        device: Where to run, e.g. cpu or cuda; null for the GPU if there is one (an exported file: the CPU).
        precision: fp32, bf16 (less time and memory where the device computes in it), or auto.
        trust: Open exported files that hold code too (.pt2, .engine): only those of your own making.

    Raises:
        ValueError: If a model can't be read, another machine could come in without a password, or the port is taken.
    """
    from semask.extras import require

    require("gradio")
    from semask.app.models import open_models
    from semask.app.serving import Serving, find_password, listen, serve

    if tile is not None:
        from semask.prediction.blending import check_grid

        require("rasterio")
        check_grid(tile, overlap)
    serving = Serving(
        host=host,
        port=port,
        user=user,
        password=find_password(password_file),
        megabytes=megabytes,
        megapixels=megapixels,
        frames=frames,
        minutes=minutes,
        waiting=waiting,
        tile=tile,
        overlap=overlap,
    )
    with listen(host, port) as listening:  # a port that is taken is said before a model is opened
        opened = open_models(models or [], tile=tile, device=device, precision=precision, trust=trust)
        reporter = ConsoleReporter()
        if models:
            intro = f"Model{'s' if len(opened) > 1 else ''}: {', '.join(model.name for model in opened)}"
        else:
            known = ", ".join(opened[0].predictor.classes.names)
            intro = f"No model named: this is the one in the package, street, for street scenes ({known})"
            reporter.note(intro)
        serve(opened, serving, listening, intro=intro, say=reporter.note)
