"""A trained model for other classes: all weights but those whose size follows from the number of classes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from semask.builder import build_model, build_plan
from semask.checkpoints.report import LoadReport
from semask.data.classes import Classes
from semask.files.schema import from_plain, require
from semask.model import SeMask
from semask.settings.model import ClassCount, ModelSettings


def with_classes(model: SeMask, num_classes: int | None, classes: Sequence[str] | None) -> SeMask:
    """Make a model for other classes of one that was loaded.

    Args:
        model: Model that was built from names, with what its checkpoint says.
        num_classes: Number of classes; None for that of the names.
        classes: Names of the classes; None if they are not known yet.

    Returns:
        A model with the weights of the first. Tensors of the classes are fresh if number or names differ. Its
        `load_report` says which. Its `metadata` keeps settings of evaluation and license; steps, scores and old names
        are not true of it any more.

    Raises:
        ValueError: If a number is out of range, names are repeated, or the two contradict each other.
    """
    names = check_names(classes)
    count = num_classes if num_classes is not None else len(names or ())
    require(count, ClassCount, "num_classes")
    if names is not None and len(names) != count:
        raise ValueError(f"num_classes is {count}, but classes has {len(names)} names: give one a class, or only names")
    old = ModelSettings(**from_plain(ModelSettings, model.config.to_dict(), "model"))
    before = model.metadata.get("classes", {}).get("classes")
    if count == old.num_classes and (names is None or list(names) == before):
        model.load_report = LoadReport(list(model.state_dict()))
        return model
    new = replace(old, num_classes=count, prior_classes=None)
    made, fresh = build_model(new), class_tensors(old)
    source, state = model.state_dict(), made.state_dict()
    report = LoadReport([name for name in state if name not in fresh], fresh=[name for name in state if name in fresh])
    made.load_state_dict({name: source[name] for name in report.loaded}, strict=False)
    made.metadata, made.load_report = metadata_for(made, model.metadata, names), report
    return made.to(next(model.parameters()).device).eval()


def check_names(classes: Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of classes, if there are any.

    Raises:
        ValueError: If they are no list, or not as names have to be.
    """
    if classes is None:
        return None
    if isinstance(classes, str):
        raise ValueError(f"classes is one text: give a list of names, e.g. [{classes!r}, 'other']")
    return Classes(tuple(classes)).names


def class_tensors(settings: ModelSettings) -> set[str]:
    """Names of the tensors whose size follows from the number of classes: what differs in a model with another one."""
    priors = settings.prior_classes or settings.num_classes
    other = replace(settings, num_classes=another(settings.num_classes), prior_classes=another(priors))
    here, there = (build_plan(x).state_dict() for x in (settings, other))
    return {name for name, x in here.items() if name not in there or there[name].shape != x.shape}


def another(count: int) -> int:
    """Some other number of classes."""
    return count - 1 if count > 2 else count + 1


def metadata_for(model: SeMask, before: dict[str, Any], names: tuple[str, ...] | None) -> dict[str, Any]:
    """What is still true of a model after its classes were changed."""
    recipe = before.get("recipe", {})
    kept: dict[str, Any] = {"recipe": {name: recipe[name] for name in ("evaluation",) if name in recipe}}
    kept["recipe"]["model"] = model.config
    if license_ := before.get("licence") or before.get("published", {}).get("licence"):
        kept["licence"] = license_
    if names is not None:
        kept["classes"] = Classes(names).as_dict()
    return kept
