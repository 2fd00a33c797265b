"""What became of each tensor when weights were loaded into a model that they fit in part."""

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class LoadReport:
    """What happened to each tensor when weights were loaded.

    Attributes:
        loaded: Tensors of the model that were taken over as they are.
        resized: Tensors that were resized to fit: relative position tables of another window, the first convolution of
            another number of channels.
        fresh: Tensors of the model that the source does not have, or has for other classes; they keep their values.
        unused: Tensors of the source that the model has no place for.
        note: What else there is to say of the source; empty for nothing.
    """

    loaded: list[str] = field(default_factory=list)
    resized: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    note: str = ""

    def __str__(self) -> str:
        kinds = {kind: names for kind, names in vars(self).items() if kind != "note"}
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in kinds.items())
        details = [f"{kind}: {summary(names)}" for kind, names in kinds.items() if kind != "loaded" and names]
        return "\n  ".join([counts, *details, *filter(None, [self.note])])


def summary(names: list[str]) -> str:
    """List names, a line's worth; many of them by the module that they belong to, with their number."""
    if len(names) <= 4:
        return ", ".join(names)
    modules = Counter(".".join(name.split(".")[:2]) for name in names)
    return ", ".join(f"{module}.* ({count})" if count > 1 else f"{module}.*" for module, count in modules.items())
