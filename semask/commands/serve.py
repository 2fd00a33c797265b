"""Answer HTTP requests with segmented images."""

from semask.settings.inference import Options
from semask.settings.precision import Precision
from semask.settings.serving import Options as ServingOptions


def serve(
    models: list[str] | None = None,
    *,
    serving: ServingOptions,
    inference: Options,
    device: str | None = None,
    precision: Precision = "auto",
    trust: bool = False,
) -> None:
    """Answer HTTP requests with segmented images: POST an image to /v1/models/NAME/predict.

    The address / of the server describes the API, docs/serve.md the deployment. Beyond this machine (--host) a token is
    required, from the environment variable SEMASK_TOKEN or --token_file.

    Args:
        models: Models, MODEL or NAME=MODEL: a .safetensors file, the folder of a run, OWNER/NAME on the Hugging Face
            Hub, the name of a published model, or an exported file. Left out, the model in the package is served.
        serving: Where the server listens, and its limits.
        inference: How images are put through the models; what is not given is as their recipes say.
        device: Where to run, e.g. cpu or cuda; null for the GPU if there is one (an exported file: the CPU).
        precision: fp32, bf16 (less time and memory where the device computes in it), or auto: bf16 where the device
            computes in it, else fp32.
        trust: Open exported files that hold code too (.pt2, .engine): only those of your own making.

    Raises:
        ValueError: If a model can't be read, a setting is wrong, the port can't be opened, or a token is missing.
    """
    import asyncio

    from semask.checkpoints.places import DEFAULT, EMBEDDED
    from semask.extras import require
    from semask.files.schema import from_plain
    from semask.serving.fetching import read_origin
    from semask.serving.model_process import Source
    from semask.serving.models import named
    from semask.serving.security import check_origins, read_tokens
    from semask.settings.serving import Serving

    for package in ("fastapi", "uvicorn", "prometheus_client"):
        require(package)
    settings = Serving(**from_plain(Serving, serving, "serving"))
    check_origins(settings.origins)
    tokens, origin = read_tokens(settings), read_origin(settings)
    sources = {
        name: Source(source, inference, device, precision, trust, settings.threads, settings.max_batch)
        for name, source in (named(models) if models else {DEFAULT: str(EMBEDDED[DEFAULT])}).items()
    }
    from semask.serving.server import run

    asyncio.run(run(sources, settings, tokens, origin))
