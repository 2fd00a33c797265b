"""From the name of a checkpoint to its model: a file, the folder of a run, a published model, or one on the Hub."""

import difflib
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from semask.builder import build_for, require_weights
from semask.checkpoints.metadata import check, measured_of
from semask.checkpoints.other_classes import with_classes
from semask.checkpoints.places import EMBEDDED, IN_FOLDER
from semask.checkpoints.published import PUBLISHED
from semask.checkpoints.tensors import read_tensors
from semask.files import network
from semask.files.reading import require_file
from semask.files.text import one_line, reason
from semask.model import SeMask


def find_checkpoint(source: str | Path) -> Path:
    """Find the file of a checkpoint; see `load`. A published model is downloaded and converted the first time.

    Raises:
        ValueError: If there is none.
    """
    path = Path(source)
    if str(source) in PUBLISHED and not path.exists():
        from semask.checkpoints.download import published_checkpoint

        return published_checkpoint(PUBLISHED[str(source)])
    if str(source) in EMBEDDED and not path.exists():
        return EMBEDDED[str(source)]
    if path.is_dir():
        for name in IN_FOLDER:
            if (path / name).is_file():
                return path / name
        raise ValueError(f"{path}: no best.safetensors, model.safetensors or last.safetensors in this folder")
    if not is_hub_name(path):
        close = difflib.get_close_matches(str(source), [*EMBEDDED, *PUBLISHED], n=1, cutoff=0.8)
        meant = f" (did you mean {close[0]}?)" if close else ""
        known = f"{', '.join(EMBEDDED)}, or that of a published model{meant}"
        otherwise = f"give a .safetensors file, a folder, or a name: OWNER/NAME on the Hub, {known}"
        if not path.exists():
            raise ValueError(f"{one_line(path)}: no such checkpoint file: {otherwise}")
        return require_file(path, otherwise=otherwise)
    try:
        with network.hub():
            return Path(hf_hub_download(str(source), "model.safetensors"))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise ValueError(
            f"{one_line(source)}: neither a local checkpoint nor one on the Hugging Face Hub ({reason(error)})"
        ) from error


def is_hub_name(path: Path) -> bool:
    """Whether OWNER/NAME on the Hub was meant: what lies in an existing folder, or has the ending, is a file."""
    return len(path.parts) == 2 and path.suffix != ".safetensors" and not path.exists() and not path.parent.is_dir()


def load(
    source: str | Path,
    *,
    device: torch.device | str = "cpu",
    into: SeMask | None = None,
    num_classes: int | None = None,
    classes: Sequence[str] | None = None,
) -> SeMask:
    """Load a model for use.

    Args:
        source: A .safetensors checkpoint, a folder with best.safetensors or model.safetensors in it, "street", the
            model in the package, the name "owner/name" of a repository on the Hugging Face Hub that holds
            model.safetensors, or the name of a published model, e.g. semask-tiny-fpn-ade20k, which is downloaded and
            converted the first time.
        device: Where to put the model.
        into: Model to fill, for one with an encoder or decoder object of your own, which no recipe can build.
        num_classes: Number of classes if it is to be another one, to train the model on other data. Tensors of the
            classes are then fresh; the model's `load_report` says which.
        classes: Names of other classes, in place of their number.

    Returns:
        The model in evaluation mode; `metadata` holds what the checkpoint says besides the weights.

    Raises:
        ValueError: If there is no such checkpoint, it is damaged or not one of ours, there is no such device, or the
            classes can't be.
    """
    if str(source).lower().endswith(EXPORTED):
        raise ValueError(
            f"{source}: an exported file, not a checkpoint: predict and evaluate take it, and semask.load_exported does"
        )
    others = num_classes is not None or classes is not None
    if others and into is not None:
        raise ValueError("num_classes and classes are for a model that is built from its file: leave out into")
    path = find_checkpoint(source)
    tensors, found = read_tensors(path)
    metadata = check(found, path)
    model = build_for(metadata["recipe"]["model"], tensors, path) if into is None else into
    require_weights(model.state_dict(), tensors, path)
    model.load_state_dict(tensors)
    model.metadata = metadata
    model.config.update(measured_of(metadata, path))  # a model of one's own does not know what was measured
    if others:
        model = with_classes(model, num_classes, classes)
    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("it holds no numbers")
        return model.to(device).eval()
    except (AssertionError, RuntimeError) as error:  # what torch raises differs from build to build
        raise ValueError(f"device {device} can't be used ({reason(error)}): try cpu") from error


EXPORTED = (".onnx", ".xml", ".pt2", ".engine")
"""Endings of exported files, to say what to do with one."""
