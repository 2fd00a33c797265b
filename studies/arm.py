"""An arm of a study: a recipe with something changed, which is compared with another one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NamedTuple

from semask import SeMask
from semask.semantic.layer import SemanticLayer

Setting = Mapping[str, object]
HERE = Path(__file__).parent
SYNTHETIC = "synthetic scenes"
"""As `training.pretrained`: the weights that the arm's plain model gets on scenes that the package draws."""


@dataclass(frozen=True)
class Arm:
    """A model that is compared.

    Attributes:
        title: What it is, for tables.
        settings: What differs from the recipe: SECTION.FIELD -> value.
        change: What is done to the model before training; None: nothing.
        base: Name of the arm that it is compared with; of another study STUDY/ARM.
        share: Share of the training images.
    """

    title: str
    settings: Setting = field(default_factory=dict)
    change: Callable[[SeMask], None] | None = None
    base: str = "plain"
    share: float = 1.0


class Study(NamedTuple):
    """A folder next to this file, with a file arms.py.

    Attributes:
        recipe: What all arms share: a file, or a name in the package.
        arms: Name -> arm.
        results: Folder of its small results.
    """

    recipe: str
    arms: dict[str, Arm]
    results: Path


def study(name: str) -> Study:
    """Read a study of this folder by its name.

    Raises:
        SystemExit: If there is none.
    """
    path = HERE / name / "arms.py"
    if not path.is_file():
        known = ", ".join(sorted(found.parent.name for found in HERE.glob("*/arms.py")))
        raise SystemExit(f"no study {name}: choose one of {known}")
    spec = spec_from_file_location(f"arms_of_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return Study(module.RECIPE, module.ARMS, path.parent / "results")


def layers(model: SeMask) -> list[SemanticLayer]:
    """The semantic layers of a model."""
    return [layer for layer in model.encoder.semantic_layers if isinstance(layer, SemanticLayer)]
