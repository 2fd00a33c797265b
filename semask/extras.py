"""Packages that are installed with an extra only, and the line that says so where one is missing."""

from importlib.util import find_spec

EXTRAS = {
    "accelerate": "train",
    "tensorboard": "train",
    "transformers": "mask",
    "scipy": "train",
    "psutil": "train",
    "segmentation_models_pytorch": "decoders",
    "pycocotools": "labels",
    "rasterio": "geo",
    "pyogrio": "geo",
    "shapely": "geo",
    "pyarrow": "labels",
    "onnx": "export",
    "onnxruntime": "export",
    "openvino": "export",
    "nncf": "export",
    "av": "video",
    "imagecorruptions-imaug": "robustness",
    "matplotlib": "report",
    "gradio": "app",
    "fastapi": "serve",
    "uvicorn": "serve",
    "prometheus_client": "serve",
    "httpx": "serve",
    "fsspec": "shards",
    "aiohttp": "shards",
    "s3fs": "shards",
    "gcsfs": "shards",
}
"""For each package the extra that it comes with."""


def require(package: str) -> None:
    """Refuse to go on without a package.

    Raises:
        ValueError: If it is not installed.
    """
    if find_spec(package) is None:
        raise ValueError(advice(package))


def advice(package: str) -> str:
    """Say how to get a package."""
    extra = EXTRAS[package]
    return f"{package} is not installed: it comes with the {extra} extra, pip install 'semask[{extra}]'"


def explained(error: ImportError) -> str | None:
    """The line for a package that could not be imported; None if it is none that semask names."""
    words = [(error.name or "").partition(".")[0], *str(error).replace("'", " ").split()]
    if "torch" in words[:1]:
        return "torch is not installed: only .onnx files are predicted without it; pip install semask"
    return next((advice(word) for word in words if word in EXTRAS), None)
