"""④ Features to logits or masks.

A decoder is built from (in_channels, strides, num_classes, ...), is called with the maps, and says of itself:
`makes_masks` (whether it gives a `MaskOutput`), `size_divisor` (what images are padded to a multiple of),
`prior_align_corners` (how the priors are resized for the loss) and, if so, `skips_maps` (that it leaves some maps out,
which several processes have to know) and `loss_settings` (what `MaskLoss` has to be, where it is not Mask2Former's).

It lives in the file that its name begins with, which says in `DECODERS` how it is built: mask2former_fapn is in
mask2former.py. A new decoder is a new file.
"""

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from torch import nn

from semask.decoders.fpn import SemanticFPN
from semask.decoders.prior import PriorDecoder
from semask.files.schema import require_known
from semask.files.text import reason

SHARED = ("channels", "dropout", "queries", "layers")
"""Settings that several decoders have, and `SeMask` names."""
LIBRARY = "smp/"
"""What the names of decoders of segmentation_models_pytorch begin with."""


def build_decoder(
    name: str,
    in_channels: Sequence[int],
    strides: Sequence[int],
    *,
    num_classes: int,
    channels: int,
    dropout: float,
    queries: int,
    layers: int | None,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a decoder by name.

    Args:
        name: One of `names()`.
        in_channels: Channels of the maps.
        strides: Image pixels per cell of the maps.
        num_classes: Classes K.
        channels: Width of the decoder.
        dropout: Share of channels that is dropped in training.
        queries: Number of masks of a mask decoder.
        layers: Transformer layers of the decoder; None for the decoder's own number.
        options: Settings that only this decoder has.

    Raises:
        ValueError: If the name or an option is unknown, the maps don't suit the decoder, or it needs a package that is
            not installed.
    """
    make = find(name)
    settings: dict[str, Any] = {"channels": channels, "dropout": dropout, "queries": queries}
    if layers is not None:
        settings["layers"] = layers
    known = inspect.signature(make).parameters
    settings = {setting: value for setting, value in settings.items() if setting in known}
    given = {"in_channels", "strides", "num_classes", *SHARED, *getattr(make, "keywords", ())}
    what = f"decoder_options of {name}"
    require_known(options or {}, {x: hint for x, hint in hints_of(make).items() if x not in given}, what)
    return make(in_channels, strides, num_classes=num_classes, **settings, **(options or {}))


def hints_of(make: Callable[..., nn.Module]) -> dict[str, Any]:
    """Annotations of what a decoder is built with; those of its own options have ranges, since files give them too."""
    constructor: Any = make.func if isinstance(make, partial) else make
    hints = get_type_hints(constructor.__init__, include_extras=True)
    return {name: hints.get(name, Any) for name in inspect.signature(make).parameters}


def find(name: str) -> Callable[..., nn.Module]:
    """Find what builds a decoder.

    Raises:
        ValueError: If there is none of that name, or it needs a package that is not installed.
    """
    file = "library" if name.startswith(LIBRARY) else name.split("_")[0]
    table = decoders_of(file, name) if file in files() else {}
    if name not in table:
        raise ValueError(f"decoder is {name!r}: choose one of {', '.join(names())}")
    return table[name]


def decoders_of(file: str, wanted: str) -> Mapping[str, Callable[..., nn.Module]]:
    """The decoders of a file by name."""
    try:
        module = import_module(f"semask.decoders.{file}")
    except ImportError as error:
        extra = "decoders" if file == "library" else "mask"
        raise ValueError(
            f"decoder {wanted} needs the {extra} extra ({reason(error)}): pip install 'semask[{extra}]'"
        ) from error
    table: Mapping[str, Callable[..., nn.Module]] = getattr(module, "DECODERS", {})
    return table


def files() -> list[str]:
    """Files of this folder, any of which may hold decoders."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")


def names() -> list[str]:
    """Decoders that `SeMask` knows by name and whose packages are installed; imports all of them."""
    found: list[str] = []
    for file in files():
        with contextlib.suppress(ValueError):
            found.extend(decoders_of(file, file))
    return found


__all__ = ["PriorDecoder", "SemanticFPN", "build_decoder", "names"]
