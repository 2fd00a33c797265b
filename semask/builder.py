"""Models from names and numbers: `build` for people, `build_for` for the weights of a file of anybody."""

import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from semask.config import ModelConfig
from semask.decoders.catalog import build_decoder
from semask.decoders.decoder import Decoder
from semask.encoders.backbone import Backbone, LibraryBackbone
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.swin import SIZES, Swin
from semask.files.text import one_line, reason
from semask.model import SeMask
from semask.settings.model import ModelSettings, settings_of_file

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of weights that are as good as the model's own."""
FILLS = frozenset(
    f"{name}_"
    for name in (
        *("normal", "uniform", "zero", "fill", "erfinv", "mul", "add", "clamp", "copy", "zeros", "ones", "constant"),
        *("trunc_normal", "kaiming_normal", "kaiming_uniform", "xavier_normal", "xavier_uniform", "orthogonal"),
    )
)
"""Methods of a tensor, and functions of torch.nn.init, that fill a tensor."""


def build(encoder: str | SemanticEncoder = "swin_tiny", decoder: str | Decoder = "fpn", **settings: Any) -> SeMask:
    """Build a SeMask with fresh weights.

    Args:
        encoder: Backbone under the semantic layers, by name: swin_tiny, timm/MODEL, ... (docs/backbones.md); or an
            encoder that you have, e.g. of `semask.attach`.
        decoder: What makes masks of the features, by name: fpn, mask2former, ... (docs/decoders.md); or a `Decoder`.
        settings: num_classes, semantic_window, channels and all others that `ModelSettings` explains.

    Raises:
        ValueError: If a name is unknown, a number out of range, or numbers contradict each other.

    >>> model = build("swin_nano", "fpn", num_classes=5, channels=32).eval()
    >>> model(torch.randn(1, 3, 64, 96)).logits.shape
    torch.Size([1, 5, 16, 24])
    """
    names = [part if isinstance(part, str) else type(part).__name__ for part in (encoder, decoder)]
    chosen = ModelSettings(encoder=names[0], decoder=names[1], **settings)
    built = build_encoder(chosen) if isinstance(encoder, str) else encoder
    model = SeMask(
        built,
        decoder_for(built, chosen) if isinstance(decoder, str) else decoder,
        mean=chosen.mean,
        std=chosen.std,
    )
    if isinstance(encoder, str) and isinstance(decoder, str):  # else its parts say what they are
        normalization = {name: model.config[name] for name in ("mean", "std")}  # the backbone's own, if not given
        model.config = ModelConfig(chosen.as_dict() | described(built.backbone) | normalization)
    elif chosen.value_range is not None:
        model.config["value_range"] = chosen.as_dict()["value_range"]
    return model


def build_model(settings: ModelSettings) -> SeMask:
    """Build the model that settings describe, with fresh weights; see `build`."""
    return build(**asdict(settings))


class Unfilled(TorchFunctionMode):
    """Leaves out what would fill tensors without memory, which torch does in Python after loading its compiler."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")
        if getattr(func, "__name__", "") in FILLS and isinstance(tensor, Tensor) and tensor.is_meta:
            return tensor
        return func(*args, **kwargs)


def build_plan(settings: ModelSettings) -> SeMask:
    """Build a model whose weights have shapes but neither memory nor values (torch's meta device)."""
    with torch.device("meta"), Unfilled():
        return build_model(settings)


def build_encoder(settings: ModelSettings) -> SemanticEncoder:
    """Build a backbone by name, with semantic layers after its stages.

    Raises:
        ValueError: If there is none of that name, or a setting is not for it.
    """
    return SemanticEncoder(
        build_backbone(settings),
        num_classes=settings.prior_classes or settings.num_classes,
        semantic_window=settings.semantic_window,
        semantic_depths=settings.semantic_depths,
        residual=settings.residual,
    )


def build_backbone(settings: ModelSettings) -> Backbone:
    """Build a backbone by name: a Swin as published, with another window or stochastic depth if given, or a library's.

    Raises:
        ValueError: If there is none of that name, or a setting is not for it.
    """
    name, window = settings.encoder, settings.window
    if "/" in name:
        if window is not None:
            raise ValueError(f"window is {window}: not for {name}; give model.encoder_options what its library knows")
        from semask.encoders.library import library_backbone  # loads timm or transformers

        return library_backbone(
            name, in_channels=settings.in_channels, drop_path=settings.drop_path, options=settings.encoder_options
        )
    if name not in SIZES:
        raise ValueError(
            f"encoder is {name!r}: choose one of {', '.join(SIZES)}, or timm/MODEL, transformers/mit_b0, "
            "transformers/OWNER/NAME (docs/backbones.md)"
        )
    if settings.encoder_options:
        raise ValueError(f"encoder_options are for backbones of libraries, not for {name}: leave them out")
    size = SIZES[name]
    if window is not None:
        size = size._replace(window=window)
    if settings.drop_path is not None:
        size = size._replace(drop_path=settings.drop_path)
    return Swin(size, in_channels=settings.in_channels)


def described(backbone: Backbone) -> dict[str, Any]:
    """Settings that build a backbone again, without a folder or the Hub; only libraries' have more than their name."""
    return backbone.described() if isinstance(backbone, LibraryBackbone) else {}


def decoder_for(encoder: SemanticEncoder, settings: ModelSettings) -> Decoder:
    """Build a decoder by name for the maps of an encoder.

    Raises:
        ValueError: If there is none of that name, or the maps or a setting do not suit it.
    """
    return build_decoder(
        settings.decoder,
        encoder.channels,
        encoder.strides,
        num_classes=settings.num_classes,
        channels=settings.channels,
        dropout=settings.dropout,
        queries=settings.queries,
        layers=settings.decoder_layers,
        options=settings.decoder_options,
    )


def build_for(values: Any, tensors: Mapping[str, Tensor], file: str | Path) -> SeMask:
    """Build the model that a file describes, for the weights that it holds.

    First it is built without memory and compared with the weights, so that nothing is allocated that the file does not
    hold itself.

    Args:
        values: The `model` of its recipe.
        tensors: Its weights, by the names of the model's state.
        file: The file, for messages.

    Returns:
        The model with fresh weights.

    Raises:
        ValueError: If the settings are wrong, or describe another model than that of the weights.
    """
    settings = settings_of_file(values, file)
    if settings.encoder.startswith("transformers/"):
        from semask.encoders.library import without_network

        options = without_network(settings.encoder, settings.encoder_options, file)
        settings = replace(settings, encoder_options=options)
    try:
        require_weights(build_plan(settings).state_dict(), tensors, file)
        return build_model(settings)
    except ValueError as error:
        if str(error).startswith(one_line(file)):
            raise
        raise ValueError(
            f"{one_line(file)}: its recipe does not describe a model ({reason(error)}): was it made by another version?"
        ) from error
    except Exception as error:  # what libraries raise when numbers do not fit together
        raise ValueError(
            f"{one_line(file)}: its recipe describes a model that cannot be built ({reason(error)})"
        ) from error


def require_memory(settings: ModelSettings) -> None:
    """Refuse to build a model for training whose weights alone are too many for this machine.

    Raises:
        ValueError: If weights, gradients and the optimizer's two moments would take more than all its memory.
    """
    weights = sum(parameter.numel() for parameter in build_plan(settings).parameters())
    needed, there = 16 * weights, machine_memory()
    if there is not None and needed > there:
        raise ValueError(
            f"the model has {weights:,} weights, which take {needed / 2**30:,.1f} GiB in training, and this machine "
            f"has {there / 2**30:,.1f} GiB: set model.channels and the like lower"
        )


def machine_memory() -> int | None:
    """Bytes of memory of this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows
        return None


def require_weights(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], file: str | Path) -> None:
    """Refuse weights that are not those of a model.

    Args:
        expected: State of the model; its values do not matter.
        found: Tensors of the file.
        file: The file, for messages.

    Raises:
        ValueError: If a tensor is missing, unknown, or of another shape or kind of numbers.
    """
    wrong = sorted(expected.keys() ^ found.keys()) or [n for n in expected if expected[n].shape != found[n].shape]
    if wrong:
        raise ValueError(
            f"{one_line(file)}: the weights belong to another model than its recipe: {len(wrong)} tensors are missing, "
            f"unknown or of another shape, e.g. {one_line(wrong[0])}"
        )
    for name, tensor in expected.items():
        same = found[name].dtype == tensor.dtype
        if not (same or (tensor.is_floating_point() and found[name].dtype in FLOATS)):
            raise ValueError(
                f"{one_line(file)}: {one_line(name)} holds {found[name].dtype} where the model has {tensor.dtype}: "
                "such weights would be rounded or wrong; save them as float32"
            )
