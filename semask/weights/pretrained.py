"""ImageNet weights for the Swin backbone, from timm by name or from a local file in timm's or Microsoft's layout."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from semask.encoders.swin import Swin


@dataclass
class LoadReport:
    """What happened to each tensor when weights were loaded.

    Attributes:
        loaded: Tensors of the model that were taken over as they are.
        resized: Tensors that were resized to fit: relative position tables of another window, the first convolution of
            another number of bands.
        left: Tensors of the model that the source does not have; they keep their fresh values.
        unused: Tensors of the source that the model has no place for.
    """

    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in vars(self).items())
        details = [f"{kind}: {', '.join(names)}" for kind, names in vars(self).items() if kind != "loaded" and names]
        return "\n  ".join([counts, *details])


def load_pretrained(backbone: object, source: str) -> LoadReport:
    """Load ImageNet weights into a Swin.

    Relative position tables of another window are resized bicubically, as the published training code does.

    Args:
        backbone: The Swin to fill.
        source: Name of a timm model, e.g. "swin_tiny_patch4_window7_224.ms_in1k", downloaded by timm where the network
            allows; or a local .safetensors, .pth or .pt file in timm's or Microsoft's layout.

    Returns:
        Which tensors were loaded, resized, left as they were, and unused.

    Raises:
        ValueError: If the source can't be read, or is not a Swin of this size.
    """
    if not isinstance(backbone, Swin):
        raise ValueError(f"pretrained weights are for Swin backbones, this one is a {type(backbone).__name__}")
    weights = read_weights(source)
    report, new = LoadReport(), {}
    rename = timm_name if is_timm_layout(weights) else microsoft_name
    for ours, target in backbone.state_dict().items():
        theirs = rename(ours)
        if theirs not in weights:
            report.left.append(ours)
            continue
        value = weights.pop(theirs).to(target.dtype)
        fitted = fit(value, ours, target)
        (report.loaded if fitted is value else report.resized).append(ours)
        new[ours] = fitted
    if not new:
        raise ValueError(
            f"{source}: no tensor of a Swin in it (found e.g. {', '.join(list(weights)[:3])}): give Swin weights"
        )
    report.unused = [name for name in weights if not name.endswith(("relative_position_index", "attn_mask"))]
    strangers = [name for name in (*report.left, *report.unused) if ".blocks." in name]
    if strangers:
        raise ValueError(
            f"{source}: weights of a Swin of another depth, {strangers[0]} has no counterpart: "
            "choose weights of the encoder's size"
        )
    backbone.load_state_dict(new, strict=False)
    return report


def fit(value: Tensor, name: str, target: Tensor) -> Tensor:
    """Resize a tensor of the source to the model's shape where that makes sense."""
    if value.shape == target.shape:
        return value
    if name.endswith("relative_position_bias_table") and value.shape[1] == target.shape[1]:
        return resize_table(value, len(target))
    if name == "stem.projection.weight" and value.shape[0] == target.shape[0]:
        from timm.models import adapt_input_conv  # timm takes a second to import: only where it is needed

        adapted: Tensor = adapt_input_conv(target.shape[1], value)
        return adapted
    raise ValueError(
        f"pretrained weights are of another Swin: {name} is {list(value.shape)} there and {list(target.shape)} here; "
        "choose weights of the encoder's size"
    )


def resize_table(table: Tensor, length: int) -> Tensor:
    """Resize a relative position table [(2w - 1)^2, heads] bicubically to [length, heads]."""
    old, new = math.isqrt(len(table)), math.isqrt(length)
    grid = table.T.reshape(1, -1, old, old)
    return F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False).reshape(-1, length).T.contiguous()


def read_weights(source: str) -> dict[str, Tensor]:
    """Read tensors from a file, or from timm by name, under the names that they have there."""
    path = Path(source)
    if path.suffix in (".safetensors", ".pth", ".pt", ".bin") or path.exists():
        return read_file(path)
    import timm

    if not timm.is_model(source.split(".")[0]):
        raise ValueError(f"pretrained is {source!r}: neither a file nor a model that timm {timm.__version__} knows")
    try:
        return dict(timm.create_model(source, pretrained=True).state_dict())
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"could not download {source!r} ({reason}): check the network, or give a local file"
        ) from error


def read_file(path: Path) -> dict[str, Tensor]:
    """Read a .safetensors file, or a .pth file that holds nothing but tensors and plain containers."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file: give a timm name or a .safetensors or .pth file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # weights_only admits tensors and plain containers; anything else in the file is refused and never run.
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = (str(error) or "it ends too early").splitlines()[0]
        raise ValueError(f"{path}: not a readable weight file ({reason})") from error
    except Exception as error:  # pickle.UnpicklingError, and what a damaged archive raises
        raise ValueError(
            f"{path}: refused, it holds more than tensors, or is damaged; convert it to .safetensors"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not tensors:
        raise ValueError(f"{path}: no tensors in it: give a file with a state dict")
    return tensors


def is_timm_layout(weights: Mapping[str, Tensor]) -> bool:
    """Tell the layouts apart: timm's merging belongs to the stage after it, Microsoft's to the stage before."""
    return not any(name.startswith("layers.0.downsample.") for name in weights)


def microsoft_name(name: str) -> str:
    """Name one of our tensors as Microsoft does: stages.1.merge.norm.weight -> layers.0.downsample.norm.weight."""
    name = re.sub(r"^stages\.(\d+)\.merge\.", lambda match: f"layers.{int(match[1]) - 1}.downsample.", name)
    return _blocks(name)


def timm_name(name: str) -> str:
    """Name one of our tensors as timm does: stages.1.merge.norm.weight -> layers.1.downsample.norm.weight."""
    return _blocks(re.sub(r"^stages\.(\d+)\.merge\.", r"layers.\1.downsample.", name))


def _blocks(name: str) -> str:
    for pattern, replacement in (
        (r"^stem\.projection\.", "patch_embed.proj."),
        (r"^stem\.norm\.", "patch_embed.norm."),
        (r"^stages\.", "layers."),
        (r"\.attention\.projection\.", ".attn.proj."),
        (r"\.attention\.", ".attn."),
        (r"\.mlp\.0\.", ".mlp.fc1."),
        (r"\.mlp\.2\.", ".mlp.fc2."),
    ):
        name = re.sub(pattern, replacement, name)
    return name
