"""Any hierarchical backbone as a stem and stages, so that a semantic layer can come after each stage.

There is one mechanism: a `Plan` says in functions how the stem and each stage of somebody else's model are run, and how
to get from what passes between them to a map and back. The model itself and the names of its weights stay as they are.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from semask.encoders.normalization import normalization_of
from semask.files.text import reason

Step = Callable[[nn.Module, Any], Any]


def keep(model: nn.Module, state: Any, stage: int) -> Tensor:
    """Read a state that is the map [B, h, w, C] itself."""
    map_: Tensor = state
    return map_


def replace(model: nn.Module, state: Any, map: Tensor, stage: int) -> Any:
    """Write a map [B, h, w, C] where it is the state itself."""
    return map


def channels_to_back(model: nn.Module, state: Any, stage: int) -> Tensor:
    """Read a state [B, C, h, w] as a map [B, h, w, C]."""
    map_: Tensor = state.permute(0, 2, 3, 1)
    return map_


def channels_to_front(model: nn.Module, state: Any, map: Tensor, stage: int) -> Any:
    """Write a map [B, h, w, C] as a state [B, C, h, w], in memory as the old one: another order rounds differently."""
    x = map.permute(0, 3, 1, 2)
    return x.contiguous() if state.is_contiguous() else x


class Plan(NamedTuple):
    """How a model is run stage by stage; the functions are called with the model, so the plan holds no weights."""

    stem: Step
    """Image [B, in_channels, H, W] -> state."""
    stages: tuple[Step, ...]
    """State -> state; each begins with its own downsampling."""
    channels: tuple[int, ...]
    """Channels after each stage."""
    strides: tuple[int, ...]
    """Image pixels per location after each stage."""
    read: Callable[[nn.Module, Any, int], Tensor] = channels_to_back
    """State after a stage (its index comes last) -> map [B, h, w, C]."""
    write: Callable[[nn.Module, Any, Tensor, int], Any] = channels_to_front
    """State after a stage and the refined map -> state for the next stage."""
    plain: bool = False
    """Whether all stages have the same size, as in a plain ViT, so that a pyramid is made of their maps."""
    size_divisor: int = 1
    """What the sides of images have to be a multiple of."""


class Backbone(nn.Module):
    """What a `SemanticEncoder` runs.

    Attributes:
        stem: Image [B, in_channels, H, W] -> state; unless `read` says otherwise a state is a map [B, h, w, C].
        stages: State -> state, one for each stage; each begins with its own downsampling.
        channels: Channels after each stage.
        strides: Image pixels per location after each stage.
        size_divisor: Images are padded with zeros, at the right and the bottom, to a multiple of this.
        output_norms: Whether the map of each stage gets a LayerNorm of its own, as Swin for dense prediction does.
        plain: Whether all stages have the same size, as in a plain ViT, so that a pyramid is made of their maps.
        mean: Mean of each channel that its weights were trained with, for values in [0, 1]; None is for ImageNet's.
        std: Standard deviation of each channel, likewise.
    """

    stem: Callable[[Tensor], Any]
    stages: Any
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    size_divisor = 1
    output_norms = True
    plain = False
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def blocks(self) -> list[nn.Module]:
        """Modules that repeat, to be compiled one by one; none: the encoder is compiled as a whole."""
        return []

    def read(self, state: Any, stage: int) -> Tensor:
        """State after a stage -> map [B, h, w, C]."""
        return keep(self, state, stage)

    def write(self, state: Any, map: Tensor, stage: int) -> Any:
        """State after a stage and the refined map [B, h, w, C] -> state for the next stage."""
        return map

    def size_errors(self, image: Tensor) -> contextlib.AbstractContextManager[None]:
        """A context that explains why the backbone does not take an image [B, in_channels, H, W], if it does not."""
        return contextlib.nullcontext()

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Keep no activations inside the stages in training, compute them again."""
        raise ValueError(
            f"{type(self).__name__} has no gradient checkpointing: set training.gradient_checkpointing false"
        )


class LibraryBackbone(Backbone):
    """A model of timm, transformers or your own, run by a plan.

    Args:
        model: The model; its weights keep their names below `model.`.
        plan: How it is run.
        name: What messages call it.
        options: What its library's constructor was given besides the usual.
    """

    output_norms = False

    def __init__(self, model: nn.Module, plan: Plan, *, name: str, options: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.model, self.plan, self.name, self.options = model, plan, name, options or {}
        self.channels, self.strides, self.plain = plan.channels, plan.strides, plan.plain
        self.size_divisor = plan.size_divisor
        self.mean, self.std = normalization_of(model)
        self.checkpointing = False

    def described(self) -> dict[str, Any]:
        """Settings of `SeMask` that build it again, without the folder that its configuration was read from."""
        name, kind = self.name, self.options.get("model_type")
        if kind is not None and Path(name.removeprefix("transformers/")).is_dir():
            name = f"transformers/{kind}"
        return {"encoder": name, "encoder_options": self.options or None}

    def stem(self, image: Tensor) -> Any:
        """Run the stem."""
        return self.plan.stem(self.model, image)

    @property
    def stages(self) -> list[Callable[[Any], Any]]:
        """The stages as functions of the state."""
        run = self._checkpointed if self.checkpointing and self.training else self._direct
        return [partial(run, step) for step in self.plan.stages]

    def _direct(self, step: Step, state: Any) -> Any:
        return step(self.model, state)

    def _checkpointed(self, step: Step, state: Any) -> Any:
        return checkpoint(step, self.model, state, use_reentrant=False)

    def read(self, state: Any, stage: int) -> Tensor:
        """State after a stage -> map [B, h, w, C]."""
        return self.plan.read(self.model, state, stage)

    def write(self, state: Any, map: Tensor, stage: int) -> Any:
        """State after a stage and the refined map [B, h, w, C] -> state for the next stage."""
        return self.plan.write(self.model, state, map, stage)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Keep no activations inside the stages in training, compute them again."""
        self.checkpointing = enabled

    @contextlib.contextmanager
    def _size_errors(self, image: Tensor) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, RuntimeError, IndexError) as error:
            said = reason(error, longest=200)
            raise ValueError(
                f"{self.name} does not take images of {image.shape[-2]} x {image.shape[-1]} ({said}): choose another "
                "backbone, give model.encoder_options its size (e.g. img_size: 512), or cut images to that size "
                "(augmentation.crop; evaluation.mode slide with that crop)"
            ) from error

    def size_errors(self, image: Tensor) -> contextlib.AbstractContextManager[None]:
        """Say in one line that the model does not take images of this size: libraries have some for one size only."""
        return contextlib.nullcontext() if torch.compiler.is_compiling() else self._size_errors(image)


def run(model: nn.Module, state: Any, *, names: Sequence[str]) -> Any:
    """Run modules of a model, given by their paths, one after another."""
    for name in names:
        state = model.get_submodule(name)(state)
    return state


def sequence(
    model: nn.Module,
    names: Sequence[str],
    ends: Sequence[str],
    *,
    channels: Sequence[int],
    strides: Sequence[int],
    channels_last: bool = False,
) -> Plan:
    """Plan for a model whose modules are run one after another.

    Args:
        model: The model.
        names: Paths of its modules, in order.
        ends: Those that end a stage. The first stage is the one module that ends it; all before is the stem.
        channels: Channels after each end.
        strides: Image pixels per location after each end.
        channels_last: Whether maps are [B, h, w, C].

    Raises:
        ValueError: If an end is not among the names, or they are not in order.
    """
    missing = [end for end in ends if end not in names]
    if missing or not ends:
        raise ValueError(f"stages {list(ends)}: {missing} not among the model's modules {', '.join(names)}")
    places = [list(names).index(end) for end in ends]
    if places != sorted(places):
        raise ValueError(f"stages {list(ends)}: not in the order in which the model runs them: {', '.join(names)}")
    starts = [places[0], *(place + 1 for place in places[:-1])]
    stages = tuple(partial(run, names=tuple(names[start : end + 1])) for start, end in zip(starts, places, strict=True))
    plan = Plan(partial(run, names=tuple(names[: places[0]])), stages, tuple(channels), tuple(strides))
    return plan._replace(read=keep, write=replace) if channels_last else plan


def flattened(model: nn.Module, ends: Sequence[str]) -> list[str]:
    """Paths of a model's modules in the order of their registration, opened as far as the ends of stages ask for."""
    names: list[str] = []

    def add(module: nn.Module, prefix: str) -> None:
        for name, child in module.named_children():
            path = prefix + name
            if any(end.startswith(path + ".") for end in ends):
                add(child, path + ".")
            else:
                names.append(path)

    add(model, "")
    return names[: 1 + max(map(names.index, ends))] if ends and set(ends) <= set(names) else names


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode without gradients; after it each module is in the mode that it was in."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def probe(model: nn.Module, plan: Plan, *, in_channels: int, size: int = 64) -> Plan:
    """Find out channels and strides by running a small black image.

    Raises:
        RuntimeError: If what stages give are no maps.
    """
    shapes = []
    with evaluating(model):
        state = plan.stem(model, next(model.parameters()).new_zeros(1, in_channels, size, size))
        for index, step in enumerate(plan.stages):
            state = step(model, state)
            shapes.append(plan.read(model, state, index).shape)
    if any(shape[1] != shape[2] for shape in shapes):
        raise RuntimeError(f"of a square image stages give {[list(shape) for shape in shapes]}, not maps [B, C, h, w]")
    return plan._replace(
        channels=tuple(shape[-1] for shape in shapes), strides=tuple(round(size / shape[1]) for shape in shapes)
    )


def difference(
    model: nn.Module, modules: Mapping[str, nn.Module], *, in_channels: int, sizes: Sequence[int] = (64, 224)
) -> str | None:
    """Compare a model's own forward with its modules run one after another, on an image of noise.

    Only so can it be known that the model does nothing else between the modules, such as a functional ReLU.

    Args:
        model: The model.
        modules: Those of its modules that are run one after another, by their names in messages.
        in_channels: Channels of the image.
        sizes: Sides of the image, of which the first is taken that the model's forward accepts.

    Returns:
        What differs, and what to do; None if they compute the same.
    """

    def sequentially(image: Tensor) -> None:
        x = image
        for module in modules.values():
            x = module(x)

    fault: Exception | None = None
    for size in sizes:
        noise = torch.randn(1, in_channels, size, size, generator=torch.Generator().manual_seed(0))
        image = noise.to(next(model.parameters()))
        with evaluating(model):
            own, fault = outputs(model, modules, image)
            if fault is not None and not all(own.values()):
                continue  # it did not get through the modules; what comes after them does not matter
            ours, fault = outputs(sequentially, modules, image)
        if fault is not None:
            return f"its modules can't be run one after another ({reason(fault)})"
        return next(filter(None, (_differs(name, own[name], ours[name]) for name in modules)), None)
    return f"its own forward does not take an image [1, {in_channels}, {sizes[0]}, {sizes[0]}] ({reason(fault)})"  # type: ignore[arg-type]


def outputs(
    run: Callable[[Tensor], object], modules: Mapping[str, nn.Module], image: Tensor
) -> tuple[dict[str, list[Any]], Exception | None]:
    """Run something; note what each module gave each time that it was called, and what was raised."""
    given: dict[str, list[Any]] = {name: [] for name in modules}

    def note(_: nn.Module, inputs: object, output: Any, *, name: str) -> None:
        given[name].append(output.clone() if isinstance(output, Tensor) else output)  # who gets it may change it

    hooks = [module.register_forward_hook(partial(note, name=name)) for name, module in modules.items()]
    try:
        run(image)
    except Exception as error:  # somebody else's model may raise anything
        return given, error
    finally:
        for hook in hooks:
            hook.remove()
    return given, None


def _differs(name: str, own: list[Any], ours: list[Any]) -> str | None:
    """Say how the calls of a module in the model's own forward differ from the one call of ours."""
    if len(own) != 1:
        times = f"{len(own)} times" if own else "not"
        return f"its own forward calls {name!r} {times}, but stages run every module once"
    theirs, found = own[0], ours[0]
    if not isinstance(theirs, Tensor) or not isinstance(found, Tensor):
        return None
    if theirs.shape != found.shape:
        return f"{name!r} gives {list(theirs.shape)} in its own forward, {list(found.shape)} with its modules in a row"
    largest, gap = theirs.abs().max().item(), (theirs - found).abs().max().item()
    tolerance = 1e-4 if theirs.dtype in (torch.float32, torch.float64) else 1e-2
    if gap <= tolerance * largest:
        return None
    return (
        f"its own forward computes something else: what {name!r} gives differs by up to {gap:.2g} (the largest is "
        f"{largest:.2g}), so something is done before it that is not a module of its own"
    )
