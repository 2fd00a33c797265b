"""Where a checkpoint is: a file, the folder of a run, the name of a published model, or a repository on the Hub."""

import difflib
from pathlib import Path

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from semask.files.reading import require_file
from semask.files.text import one_line, reason


def find_checkpoint(source: str | Path) -> Path:
    """Find the file of a checkpoint; see `load`. The name of a published model gets it: `semask.weights.published`."""
    from semask.checkpoints.pretrained import IN_FOLDER
    from semask.checkpoints.published import PUBLISHED
    from semask.files import network

    path = Path(source)
    if str(source) in PUBLISHED and not path.exists():
        from semask.checkpoints.download import published_checkpoint

        return published_checkpoint(PUBLISHED[str(source)])
    if path.is_dir():
        for name in IN_FOLDER:
            if (path / name).is_file():
                return path / name
        raise ValueError(f"{path}: no best.safetensors, model.safetensors or last.safetensors in this folder")
    if not is_hub_name(path):
        close = difflib.get_close_matches(str(source), PUBLISHED, n=1, cutoff=0.8)
        meant = f"that of a published model (did you mean {close[0]}?)" if close else "that of a published model"
        otherwise = f"give a .safetensors file, a folder, a name OWNER/NAME on the Hub, or {meant}"
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
