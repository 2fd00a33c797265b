"""Decoders by name: found by the names of the files in this room, built from plain values.

A decoder lives in the file that its name begins with, which says in `DECODERS` how it is built: mask2former_fapn is in
mask2former.py. A new decoder is a new file with a `Decoder` in it (docs/add-a-decoder.md).
"""

import contextlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from semask.decoders.decoder import Decoder
from semask.files.schema import require_known
from semask.files.text import reason

SHARED = ("channels", "dropout", "queries", "layers")
"""Settings that several decoders have, and `ModelSettings` names."""
LIBRARY = "smp/"
"""What the names of decoders of segmentation_models_pytorch begin with."""


def build_decoder(
    name: str,
    in_channels: Sequence[int],
    strides: Sequence[int],
    *,
    num_classes: int,
    channels: int = 256,
    dropout: float = 0.1,
    queries: int = 100,
    layers: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> Decoder:
    """Build a decoder by name.

    Args:
        name: One of `names()`.
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps.
        num_classes: Classes K.
        channels: Width of the decoder.
        dropout: Dropout probability of the channels in training.
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
    decoder = make(in_channels, strides, num_classes=num_classes, **settings, **(options or {}))
    named = {"decoder_layers" if setting == "layers" else setting: value for setting, value in settings.items()}
    decoder.config |= {"decoder": name, **named, **({"decoder_options": dict(options)} if options else {})}
    return decoder


def hints_of(make: Callable[..., Decoder]) -> dict[str, Any]:
    """Annotations of what a decoder is built with; those of its own options have ranges, since files give them too."""
    constructor: Any = make.func if isinstance(make, partial) else make
    hints = get_type_hints(constructor.__init__, include_extras=True)
    return {name: hints.get(name, Any) for name in inspect.signature(make).parameters}


def find(name: str) -> Callable[..., Decoder]:
    """Find what builds a decoder.

    Raises:
        ValueError: If there is none of that name, or it needs a package that is not installed.
    """
    file = "library" if name.startswith(LIBRARY) else name.split("_")[0]
    table = decoders_of(file, name) if file in files() else {}
    if name not in table:
        raise ValueError(f"decoder is {name!r}: choose one of {', '.join(names())}")
    return table[name]


def decoders_of(file: str, wanted: str) -> Mapping[str, Callable[..., Decoder]]:
    """The decoders of a file by name."""
    try:
        module = import_module(f"semask.decoders.{file}")
    except ImportError as error:
        extra = "decoders" if file == "library" else "mask"
        raise ValueError(
            f"decoder {wanted} needs the {extra} extra ({reason(error)}): pip install 'semask[{extra}]'"
        ) from error
    table: Mapping[str, Callable[..., Decoder]] = getattr(module, "DECODERS", {})
    return table


def files() -> list[str]:
    """Files of this folder, any of which may hold decoders."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")


def names() -> list[str]:
    """Decoders that can be built by name and whose packages are installed; imports all of them."""
    found: list[str] = []
    for file in files():
        with contextlib.suppress(ValueError):
            found.extend(decoders_of(file, file))
    return found
