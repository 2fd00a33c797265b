"""Weights to start from: whatever of a file of others fits a SeMask; the rest keeps its fresh values."""

import math
import re
from collections.abc import Mapping, Set
from pathlib import Path

import torch.nn.functional as F
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError
from torch import Tensor, nn

from semask.checkpoints.layouts import LAYOUTS, recognize
from semask.checkpoints.names import BACKBONE, DROPPED, take
from semask.checkpoints.packages import PREFIX, package_file, package_for
from semask.checkpoints.places import EMBEDDED, IN_FOLDER
from semask.checkpoints.published import PUBLISHED
from semask.checkpoints.report import LoadReport
from semask.checkpoints.weight_files import read_file
from semask.encoders.backbone import LibraryBackbone
from semask.encoders.swin import Swin
from semask.files import network
from semask.files.text import one_line, reason

PER_CLASS = re.compile(
    r"^decoder\.(.*[._])?(classifier|class_predictor)\.|\.(semantic_query|semantic_key)\."
    r"|^decoder\.(queries|transformer\.queries_(embedder|features))\."
)
"""Tensors whose size follows from the number of classes or queries: fresh where the file has other ones."""


def load_pretrained(model: nn.Module, source: str) -> LoadReport:
    """Load what fits of the weights of others into a SeMask.

    Relative position tables of another window are resized bicubically, as the published training code does. A decoder
    is taken over whole, but for what depends on the classes, or not at all.

    Args:
        model: The SeMask to fill.
        source: For a backbone of a library: a name that its library knows; "library" for the weights of its own name;
            a file or folder in the naming of its library; or "package:NAME", an installed package with weights. For a
            Swin: name of a timm Swin, e.g. "swin_tiny_patch4_window7_224.ms_in1k"; OWNER/NAME of a repository on the
            Hugging Face Hub with model.safetensors or pytorch_model.bin in it; or a file in one of
            `checkpoints.layouts`. For both: name of a published SeMask; a file of semask; or a folder with such a file,
            as of a run, of `save_pretrained` or of the Hub.

    Returns:
        Which tensors were loaded, resized, left fresh, and unused.

    Raises:
        ValueError: If the source can't be read, or is not of this backbone.
    """
    if source in EMBEDDED and not Path(source).exists():
        source = str(EMBEDDED[source])
    backbone = getattr(getattr(model, "encoder", None), "backbone", None)
    local = is_file(source) or source.startswith(PREFIX) or source in PUBLISHED
    if isinstance(backbone, LibraryBackbone) and not local:
        return library_weights(model, backbone, source)
    if not isinstance(backbone, Swin) and not local:
        raise ValueError(f"pretrained weights are for Swin backbones, this one is a {type(backbone).__name__}")
    tensors = read_weights(source)
    if isinstance(backbone, LibraryBackbone) and source not in PUBLISHED and not of_semask(tensors):
        return library_tensors(model, backbone, tensors, source)
    try:
        layout = recognize(tensors)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    if not isinstance(backbone, Swin) and layout is not LAYOUTS[0]:
        raise ValueError(f"{source}: {layout.title} is for Swin backbones, this one is a {type(backbone).__name__}")
    tensors = layout.unify(tensors)
    state = model.state_dict()
    places = {ours: place for ours in state if (place := layout.rename(ours)) is not None and place.name in tensors}
    if not decoder_fits(state, places):
        places = {ours: place for ours, place in places.items() if not ours.startswith("decoder.")}
    report, new = LoadReport(), {}
    for ours, target in state.items():
        value = take(tensors, places[ours]).to(target.dtype) if ours in places else None
        if value is None or (PER_CLASS.search(ours) and value.shape != target.shape):
            report.fresh.append(ours)
            continue
        fitted = fit(value, ours, target, source)
        (report.loaded if fitted is value else report.resized).append(ours)
        new[ours] = fitted
    used = {place.name for place in places.values()}
    report.unused = [name for name in tensors if name not in used and not DROPPED.search(name)]
    if isinstance(backbone, Swin):
        refuse_another_swin(report, source)
    else:
        refuse_another_backbone(report, source, backbone)
    model.load_state_dict(new, strict=False)
    return report


def of_semask(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names of a SeMask."""
    return any(name.startswith(BACKBONE) for name in tensors)


def library_weights(model: nn.Module, backbone: LibraryBackbone, source: str) -> LoadReport:
    """Load the backbone's weights by its library's own means, or those of a package without a network; else fresh."""
    from semask.checkpoints.library_weights import load_library_weights

    stem = getattr(model, "config", {}).get("in_channels", 3)
    try:
        with network.hub():
            names = load_library_weights(backbone, source, in_channels=stem)
    except ValueError as error:
        package = package_for(backbone.name) if source == "library" else None
        if package is None:
            raise
        report = load_pretrained(model, package)
        report.note = f"from {package}, because of: {reason(error)}"
        return report
    return backbone_report(model, set(names), set(), [])


def library_tensors(
    model: nn.Module, backbone: LibraryBackbone, tensors: Mapping[str, Tensor], source: str
) -> LoadReport:
    """Load the backbone's weights from the tensors of a file in the naming of its library; all else stays fresh."""
    from semask.checkpoints.library_files import find_backbone

    found = find_backbone(backbone, tensors, source)
    backbone.model.load_state_dict(found.tensors, strict=False)
    return backbone_report(model, found.tensors.keys() - found.resized, found.resized, found.unused)


def backbone_report(model: nn.Module, loaded: Set[str], resized: Set[str], unused: list[str]) -> LoadReport:
    """Say what became of all tensors of a model by the names of those of its library's backbone."""
    kinds = {f"{BACKBONE}model.{name}": kind for kind, some in enumerate((loaded, resized)) for name in some}
    taken, fitted, fresh = ([name for name in model.state_dict() if kinds.get(name, 2) == kind] for kind in range(3))
    return LoadReport(taken, fitted, fresh, unused)


def in_folder(path: Path) -> Path:
    """The weights in a folder of ours, of a run or of `save_pretrained`, or of the Hub's kind; a file as it is.

    Raises:
        ValueError: If the folder holds none.
    """
    if not path.is_dir():
        return path
    names = (*IN_FOLDER, "pytorch_model.bin")
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        raise ValueError(f"{one_line(path)}: no {' or '.join(names)} in this folder: give a file of weights")
    return found


def is_file(source: str) -> bool:
    """Whether a source was meant as a file."""
    return Path(source).exists() or Path(source).suffix in (".safetensors", ".pth", ".pt", ".pkl", ".bin")


def decoder_fits(state: Mapping[str, Tensor], places: Mapping[str, object]) -> bool:
    """Whether the file has all of the decoder but, perhaps, what depends on the classes."""
    decoder = [name for name in state if name.startswith("decoder.")]
    return all(name in places for name in decoder if not PER_CLASS.search(name))


def refuse_another_swin(report: LoadReport, source: str) -> None:
    """Refuse weights of which the backbone has found nothing, or not all.

    Raises:
        ValueError: If so.
    """
    if not any(name.startswith(BACKBONE) for name in report.loaded):
        raise ValueError(f"{source}: no tensor of a Swin in it (found e.g. {', '.join(report.unused[:3])})")
    strangers = [name for name in report.fresh if name.startswith(BACKBONE) and ".blocks." in name]
    strangers += [name for name in report.unused if re.search(r"(layers|stages)\.\d+\.blocks\.\d+\.", name)]
    if strangers:
        raise ValueError(
            f"{source}: weights of a Swin of another depth, {strangers[0]} has no counterpart: "
            "choose weights of the encoder's size"
        )


def refuse_another_backbone(report: LoadReport, source: str, backbone: object) -> None:
    """Refuse a SeMask whose backbone lacks tensors of this one.

    Raises:
        ValueError: If so.
    """
    missing = [name for name in report.fresh if name.startswith(BACKBONE)]
    if missing:
        name = one_line(getattr(backbone, "name", type(backbone).__name__))
        raise ValueError(
            f"{source}: a SeMask with another backbone than {name}, {missing[0]} is missing there: choose weights of "
            "this backbone"
        )


def fit(value: Tensor, name: str, target: Tensor, source: str) -> Tensor:
    """Resize a tensor of the source to the model's shape where that makes sense.

    Raises:
        ValueError: If it makes none.
    """
    if value.shape == target.shape:
        return value
    if name.endswith("relative_position_bias_table") and value.shape[1] == target.shape[1]:
        return resize_table(value, len(target))
    if name == BACKBONE + "stem.projection.weight" and value.shape[0] == target.shape[0]:
        from timm.models import adapt_input_conv  # timm takes a second to import: only where it is needed

        adapted: Tensor = adapt_input_conv(target.shape[1], value)
        return adapted
    raise ValueError(
        f"{source}: weights of another model, {name} is {list(value.shape)} there and {list(target.shape)} here: "
        "choose weights of the encoder's size and the decoder's width"
    )


def resize_table(table: Tensor, length: int) -> Tensor:
    """Resize a relative position table [(2w - 1)^2, heads] bicubically to [length, heads]."""
    old, new = math.isqrt(len(table)), math.isqrt(length)
    grid = table.T.reshape(1, -1, old, old)
    return F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False).reshape(-1, length).T.contiguous()


def read_weights(source: str) -> dict[str, Tensor]:
    """Read the tensors of a file, a published model, a repository on the Hub or timm, under the names they have there.

    Raises:
        ValueError: If there is no such thing, it can't be downloaded, or it can't be read.
    """
    path = Path(source)
    if source.startswith(PREFIX):
        return read_file(package_file(source)).tensors
    if is_file(source):
        return read_file(in_folder(path)).tensors
    if source in PUBLISHED:
        from semask.checkpoints.download import published_checkpoint

        return read_file(published_checkpoint(PUBLISHED[source])).tensors
    if len(path.parts) == 2:
        return read_file(download(source)).tensors
    import timm

    if not timm.is_model(source.split(".")[0]):
        raise ValueError(
            f"pretrained is {source!r}: neither a file, nor OWNER/NAME on the Hub, nor a model that timm "
            f"{timm.__version__} knows"
        )
    try:
        with network.hub():
            return dict(timm.create_model(source, pretrained=True).state_dict())
    except (OSError, RuntimeError) as error:
        raise could_not_download(source, error) from error


def download(repository: str) -> Path:
    """Fetch the weights of a repository on the Hugging Face Hub, safetensors first."""
    try:
        with network.hub():
            try:
                return Path(hf_hub_download(repository, "model.safetensors"))
            except EntryNotFoundError:
                return Path(hf_hub_download(repository, "pytorch_model.bin"))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise could_not_download(repository, error) from error


def could_not_download(source: str, error: Exception) -> ValueError:
    """Say in one line why, and what to do."""
    return ValueError(f"could not download {source!r} ({reason(error)}): check name and network, or give a local file")
