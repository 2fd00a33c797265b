"""What an exported file says of itself: one JSON object, the same in every format, and never believed unread.

An exported file travels without its checkpoint and may come from anybody, so it carries all that using it takes, and
`read` checks each value before anything else looks at it. Reading needs no torch.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from semask.checkpoints.metadata import check_facts, check_recipe
from semask.data.classes import Classes
from semask.files.reading import parse_json
from semask.files.schema import from_plain
from semask.files.text import reason
from semask.prediction.recipe import model_classes
from semask.settings.model import ModelSettings

if TYPE_CHECKING:
    from semask.model import SeMask

Precision = Literal["fp32", "fp16", "bf16", "int8"]

KEY = "semask"
"""Name that the JSON is stored under: in ONNX's metadata_props, OpenVINO's rt_info, torch's extra files."""
FORMAT_VERSION = 1
UNKNOWN_LICENSE = "unknown"
OUTPUTS = {False: ("logits",), True: ("classes", "masks")}
"""Names of the graph's outputs, of per-pixel and of mask decoders."""
FACTS_HERE = ("step", "sha256", "published", "calibration")
"""Facts of a checkpoint that it keeps; files without a temperature have no calibration."""
LABELS = ("labels",)
"""Name of the only output of a graph that chooses the classes itself."""


def metadata(
    model: "SeMask",
    *,
    precision: Precision,
    license: str | None = None,
    sha256: str | None = None,
    evaluation: dict[str, Any] | None = None,
    size: tuple[int, int] | None = None,
    labels: bool = False,
) -> dict[str, Any]:
    """Describe a model for the file that it is exported to.

    Args:
        model: Model with the `metadata` of its checkpoint.
        precision: What the exported file computes in.
        license: License of the weights; None for what the checkpoint states, else "unknown".
        sha256: Hash of the checkpoint's file.
        evaluation: How images are put through it, `Inference` as a dictionary; None as the recipe says.
        size: Height and width of the only images that it takes; None for any.
        labels: Whether the graph gives the label map, and no scores.

    Returns:
        JSON: "format_version", "semask", "config", "classes" (with "palette"), "mean", "std", "size_divisor",
        "makes_masks", "outputs", "size", "precision", "licence", "recipe" (its data and evaluation), "published",
        "step", "sha256", "calibration" if it has one. Folders of this machine are not in it.
    """
    from semask import __version__
    from semask.checkpoints.hub import without_paths

    known = without_paths(model.metadata)
    published = known.get("published")
    makes_masks = bool(model.decoder.makes_masks)
    recipe = {name: known.get("recipe", {}).get(name, {}) for name in ("data", "evaluation")}
    calibration = None if labels else known.get("calibration")  # a label map has no confidence
    return {
        "format_version": FORMAT_VERSION,
        "semask": __version__,
        "config": model.config,
        "classes": model_classes(model).as_dict(),
        "mean": model.config["mean"],
        "std": model.config["std"],
        "size_divisor": model.size_divisor,
        "makes_masks": makes_masks,
        "outputs": list(LABELS if labels else OUTPUTS[makes_masks]),
        "size": None if size is None else list(size),
        "precision": precision,
        "licence": license or known.get("licence") or (published or {}).get("licence") or UNKNOWN_LICENSE,
        "recipe": recipe if evaluation is None else {**recipe, "evaluation": evaluation},
        "published": published,
        "step": known.get("step"),
        "sha256": sha256,
        **({} if calibration is None else {"calibration": calibration}),
    }


def read(text: str | None, path: str | Path) -> dict[str, Any]:
    """Read the JSON of an exported file and check it.

    Args:
        text: The JSON as it was stored; None where the file has none.
        path: The file, for messages.

    Raises:
        ValueError: If there is none, it is from a newer version, or a value is not what `metadata` would write.
    """
    if not text:
        raise ValueError(f"{path}: not exported by semask: it does not say its classes; make it with `semask export`")
    try:
        values = parse_json(text)
        version = values["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: its description is damaged ({type(error).__name__}): export it again") from error
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise ValueError(
            f"{path}: described in format {version!r}, this semask reads {FORMAT_VERSION}: update it, or export again"
        )
    try:
        check(values)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        said = f"{reason(error)} is missing" if isinstance(error, KeyError) else reason(error)
        raise ValueError(f"{path}: its description is wrong ({said}): export it again") from error
    return dict(values)


def check(values: Mapping[str, Any]) -> None:
    """Check the description of an exported file.

    Raises:
        ValueError: If a value is out of range or two contradict each other.
        KeyError: If one is missing.
        TypeError: If one is of another type.
    """
    makes_masks = values["makes_masks"]
    config = ModelSettings(**from_plain(ModelSettings, values["config"], "config")).as_dict()
    classes = Classes.from_dict(values["classes"])
    _require(len(classes) == config["num_classes"], f"{len(classes)} names for {config['num_classes']} classes")
    for name in ("mean", "std"):
        _require(
            isinstance(values[name], list) and all(_is_finite(x) for x in values[name]), f"{name} is no list of numbers"
        )
        _require(len(values[name]) == config["in_channels"], f"{name} has another length than in_channels")
    _require(min(values["std"]) > 0, "std is not above 0")
    _require(_is_count(values["size_divisor"], 4096), "size_divisor is not a number from 1 to 4096")
    _require(isinstance(makes_masks, bool), "makes_masks is neither true nor false")
    known = (list(OUTPUTS[makes_masks]), list(LABELS))
    _require(values["outputs"] in known, f"outputs are not {', '.join(OUTPUTS[makes_masks])}")
    size = values.get("size")  # files from before there were such formats have none
    _require(
        size is None or (isinstance(size, list) and len(size) == 2 and all(_is_count(x, 2**16) for x in size)),
        "size is neither null nor height and width",
    )
    _require(values["precision"] in get_args(Precision), f"precision is not one of {', '.join(get_args(Precision))}")
    _require(isinstance(values["licence"], str), "licence is no text")
    recipe = values["recipe"]
    check_recipe({name: recipe[name] for name in ("data", "evaluation")})
    check_facts({name: values.get(name) if name == "calibration" else values[name] for name in FACTS_HERE})


def described_outputs(text: str | None) -> tuple[str, ...]:
    """Names of the outputs where the format keeps none: as the JSON says, which then can't contradict them."""
    try:
        values = json.loads(text or "{}")
        return LABELS if values.get("outputs") == list(LABELS) else OUTPUTS[bool(values["makes_masks"])]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()  # `read` tells what is wrong


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)


def _is_count(value: object, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
