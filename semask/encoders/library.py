"""Backbones of timm and transformers by name, and models that you already have."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from torch import nn

from semask.encoders import efficientnet_lite
from semask.encoders.backbone import Backbone, LibraryBackbone, difference, evaluating, flattened, probe, sequence
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.families import plan_of
from semask.encoders.options import TIMM, TRANSFORMERS, Kind
from semask.files.reading import parse_json, read_text
from semask.files.schema import admits, quoted, require_known
from semask.files.text import one_line, reason
from semask.semantic.residual import Residual

SIZE_OPTIONS: tuple[dict[str, Any], ...] = (
    {"strict_img_size": False, "always_partition": True},  # Swin: or the last stage loses its shift
    {"strict_img_size": False},  # Swin V2
    {"dynamic_img_size": True, "dynamic_img_pad": True},  # plain ViT
    {"dynamic_img_size": True},
    {},
)
"""What families of timm ask for to take images of any size; the first that a model knows is used."""

MIT = {
    "b0": ((32, 64, 160, 256), (2, 2, 2, 2)),
    "b1": ((64, 128, 320, 512), (2, 2, 2, 2)),
    "b2": ((64, 128, 320, 512), (3, 4, 6, 3)),
    "b3": ((64, 128, 320, 512), (3, 4, 18, 3)),
    "b4": ((64, 128, 320, 512), (3, 8, 27, 3)),
    "b5": ((64, 128, 320, 512), (3, 6, 40, 3)),
}
"""Channels and depths of Mix Transformer (SegFormer, arXiv 2105.15203, table 6)."""

PVT = {"tiny": (2, 2, 2, 2), "small": (3, 4, 6, 3), "medium": (3, 4, 18, 3), "large": (3, 8, 27, 3)}
"""Depths of PVT (arXiv 2102.12122, table 1); all else is as in the configuration of `transformers`."""

NAMED = (*(f"mit_{size}" for size in MIT), *(f"pvt_{size}" for size in PVT))
"""Models of transformers that are known without their configuration."""


def library_backbone(
    name: str, *, in_channels: int = 3, drop_path: float | None = None, options: dict[str, Any] | None = None
) -> LibraryBackbone:
    """Build a backbone of timm or transformers, with fresh weights.

    Args:
        name: timm/MODEL; transformers/mit_b0 ... mit_b5; transformers/pvt_tiny ... pvt_large; transformers/KIND, a
            model of a known kind whose numbers are all in `options`; or transformers/OWNER/NAME, whose configuration is
            read from the Hugging Face Hub or a local folder.
        in_channels: Channels of the image.
        drop_path: Stochastic depth; None for the library's own.
        options: Numbers and flags for the library's constructor (timm) or configuration (transformers), of those in
            `encoders.options`.

    Returns:
        The backbone; its `options` are all that building it again takes, without reading or fetching anything.

    Raises:
        ValueError: If there is no such model, an option is not admitted, or it can't be run stage by stage.
    """
    library, _, model_name = name.partition("/")
    if library not in ("timm", "transformers") or not model_name:
        raise ValueError(f"encoder is {one_line(repr(name))}: give a name of ours, timm/MODEL or transformers/MODEL")
    admitted = TIMM if library == "timm" else TRANSFORMERS
    try:
        require_known(options or {}, admitted, "encoder_options")
    except ValueError as error:
        raise ValueError(
            f"{error}; for anything else build the backbone in Python and give it to semask.attach"
        ) from error
    options = dict(options or {})
    if name == efficientnet_lite.NAME and not options and drop_path is None:  # the same, without importing timm
        lite = efficientnet_lite.EfficientNetLite0(in_channels)
        return LibraryBackbone(lite, efficientnet_lite.plan(), name=name, options=options)
    if library == "timm":
        model = timm_model(model_name, in_channels, drop_path, options)
    else:
        known = model_name.startswith("mit_") or model_name in (*NAMED, *get_args(Kind))
        if "model_type" not in options and not known:
            options = {**read_configuration(model_name), **options}
        model = _transformers(_described(model_name, options), in_channels, drop_path)
    try:
        return LibraryBackbone(model, plan_of(model), name=name, options=options)
    except ValueError as error:
        raise ValueError(f"encoder is {one_line(repr(name))}: {error}") from error


def timm_model(name: str, in_channels: int, drop_path: float | None, options: dict[str, Any], **more: Any) -> nn.Module:
    """A model of timm with its features in view; `more` goes to timm as it is."""
    import timm

    # A registered name only: others are addresses and folders to timm.
    if not timm.is_model(name.split(".")[0]) or ":" in name or "/" in name:
        raise ValueError(
            f"encoder is {one_line(repr(f'timm/{name}'))}: timm {timm.__version__} has no such model "
            "(timm.list_models())"
        )
    arguments = {"in_chans": in_channels, "features_only": True, **options, **more}
    if drop_path is not None:
        arguments["drop_path_rate"] = drop_path
    for size_options in SIZE_OPTIONS:
        try:
            model = timm.create_model(name, **{**size_options, **arguments})
            break
        except TypeError as error:
            if not size_options or not any(option in str(error) for option in size_options):
                raise ValueError(f"encoder is 'timm/{name}': timm says: {reason(error)}") from error
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"encoder is 'timm/{name}': timm says: {reason(error)}") from error
    return unwrapped(model)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside timm's wrapper for features that a model itself returns; any other as it is."""
    inner = getattr(model, "model", None)
    return inner if type(model).__name__ == "FeatureGetterNet" and isinstance(inner, nn.Module) else model


def _described(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """All numbers of a model of transformers, with its `model_type`, from its name and its options.

    Raises:
        ValueError: If there is no Mix Transformer of that name.
    """
    kind, _, size = name.partition("_")
    if kind == "pvt" and size in PVT:
        return {"model_type": "pvt", "depths": list(PVT[size]), **options}
    if kind != "mit":
        return {"model_type": name, **options}
    if size not in MIT:
        raise ValueError(f"encoder is {one_line(repr(f'transformers/{name}'))}: choose one of mit_{', mit_'.join(MIT)}")
    channels, depths = MIT[size]
    return {"model_type": "segformer", "hidden_sizes": list(channels), "depths": list(depths), **options}


def hub_name(name: str) -> str:
    """Where the weights of a model of transformers are: OWNER/NAME on the Hugging Face Hub, or a folder."""
    if name not in NAMED:
        return name
    kind, _, size = name.partition("_")
    return f"nvidia/mit-{size}" if kind == "mit" else f"Zetatech/pvt-{size}-224"


def read_configuration(name: str, *, local_only: bool = False) -> dict[str, Any]:
    """Read the configuration of a model from the Hub or a local folder: what is admitted of it, and no code ever.

    Args:
        name: OWNER/NAME on the Hugging Face Hub, or a folder.
        local_only: Use only what was downloaded before.

    Raises:
        ValueError: If there is none, or it is of a kind that is not known.
    """
    try:
        values = parse_json(read_text(configuration_file(name, local_only=local_only)))
    except Exception as error:  # what a failed connection raises differs from one huggingface_hub to the next
        raise ValueError(
            f"encoder is {one_line(repr(f'transformers/{name}'))}: no configuration to be had ({reason(error)})"
        ) from error
    kind = values.get("model_type") if isinstance(values, dict) else None
    if kind not in get_args(Kind):
        raise ValueError(
            f"encoder is {one_line(repr(f'transformers/{name}'))}: a model of kind {quoted(kind)}, known are "
            f"{', '.join(get_args(Kind))}"
        )
    return {key: values[key] for key, hint in TRANSFORMERS.items() if key in values and admits(values[key], hint)}


def configuration_file(name: str, *, local_only: bool) -> Path:
    """Find a model's config.json in a folder, among earlier downloads, or on the Hub.

    Raises:
        ValueError: If there is none; from the Hub also what huggingface_hub raises.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    if not local_only and Path(name).is_dir():
        return Path(name) / "config.json"
    known = try_to_load_from_cache(name, "config.json")
    if isinstance(known, str):
        return Path(known)
    if local_only:
        raise ValueError("it was not downloaded before")
    from semask.files import network

    with network.hub():
        return Path(hf_hub_download(name, "config.json"))


def without_network(name: str, options: dict[str, Any] | None, file: str | Path) -> dict[str, Any]:
    """Options of a backbone of transformers that a file of anybody names, without fetching anything for it.

    Files of semask 0.1 do not hold the configuration of transformers/OWNER/NAME; it is taken from earlier downloads.

    Raises:
        ValueError: If it is not among these.
    """
    options = dict(options or {})
    model = name.removeprefix("transformers/")
    if "/" not in model or "model_type" in options:
        return options
    try:
        return {**read_configuration(model, local_only=True), **options}
    except ValueError as error:
        raise ValueError(
            f"{one_line(file)}: does not hold the configuration of its encoder {name}, and nothing is fetched because "
            f"a file says so: build it with semask.build({name!r}, ...) and load it with semask.load(FILE, into=model)"
        ) from error


def _transformers_module() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ValueError("encoders transformers/... need the mask extra: pip install 'semask[mask]'") from error
    return transformers


def _transformers(options: dict[str, Any], in_channels: int, drop_path: float | None) -> nn.Module:
    """A model of transformers, without its head."""
    library = _transformers_module()
    numbers = {key: value for key, value in options.items() if key != "model_type"}
    more = {"num_channels": in_channels, **({} if drop_path is None else {"drop_path_rate": drop_path})}
    lists = {key: list(value) if isinstance(value, tuple) else value for key, value in numbers.items()}
    kind = options["model_type"]
    try:
        config = library.AutoConfig.for_model(kind, **{**lists, **more})
        model: nn.Module = library.AutoModel.from_config(config, trust_remote_code=False)
    except Exception as error:  # what transformers raises when numbers do not fit together
        raise ValueError(f"encoder_options do not describe a {kind} of transformers ({reason(error)})") from error
    return model


def attach(
    backbone: Any,
    *,
    num_classes: int,
    stages: Sequence[str] | None = None,
    semantic_window: Sequence[int | None] | None = None,
    semantic_depths: int | Sequence[int] = 1,
    residual: Residual = "input",
    in_channels: int = 3,
) -> SemanticEncoder:
    """Put semantic layers into a model that you already have.

    The model is not copied: it is trained within the encoder. Its weights keep their names below `backbone.model.`;
    those of a model of timm whose features come as a list have the names of its `features_only`.

    Args:
        backbone: A model of timm (with or without `features_only`) or of transformers that `docs/backbones.md` lists;
            any module with `stages` given; or an object with `stem`, `stages`, `channels` and `strides` over maps
            [B, h, w, C] (a `Backbone`).
        num_classes: Classes K of the semantic priors.
        stages: Paths of the modules that end a stage, in order, e.g. ["layer1", "layer2", "layer3", "layer4"], for a
            model whose modules are run one after another in the order of their registration and pass maps [B, C, h, w]
            on. What is registered after the last of them (pooling, head) is not run. That this is what the model's own
            forward computes is tried on an image of noise.
        semantic_window: Scope of the semantic attention of each stage, None for global; by default 7 locations, and
            global in the last two stages.
        semantic_depths: Semantic attention blocks of each stage.
        residual: What a semantic layer adds to. By default its input, so that a fresh layer leaves what the model
            computes untouched; "normed" is the published form.
        in_channels: Channels of the image, to find out the channels of `stages`.

    Raises:
        ValueError: If the model can't be run stage by stage, or its own forward computes something else.

    >>> import timm, torch
    >>> encoder = attach(timm.create_model("resnet18"), num_classes=5)
    >>> [tuple(prior.shape) for prior in encoder(torch.zeros(1, 3, 64, 96)).priors]
    [(1, 5, 16, 24), (1, 5, 8, 12), (1, 5, 4, 6), (1, 5, 2, 3)]
    """
    if not isinstance(backbone, Backbone):
        backbone = wrapped(backbone, stages, in_channels)
    count = len(backbone.channels)
    if semantic_window is None:
        semantic_window = tuple(None if stage >= count - 2 else 7 for stage in range(count))
    return SemanticEncoder(
        backbone,
        num_classes=num_classes,
        semantic_window=semantic_window,
        semantic_depths=semantic_depths,
        residual=residual,
    )


def wrapped(model: Any, stages: Sequence[str] | None, in_channels: int) -> LibraryBackbone:
    """Find the plan of somebody's model.

    Raises:
        ValueError: If there is none.
    """
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise ValueError(f"backbone is a {name}: give a torch module, e.g. a model of timm")
    if stages is not None:
        names = flattened(model, stages)
        plan = sequence(model, names, stages, channels=[0] * len(stages), strides=[0] * len(stages))
        try:
            backbone = LibraryBackbone(model, probe(model, plan, in_channels=in_channels), name=name)
        except (RuntimeError, AttributeError, TypeError) as error:
            raise ValueError(
                f"{name}: its modules {', '.join(names)} can't be run one after another ({reason(error)}): write stem, "
                "stages, channels and strides as a semask Backbone, see docs/backbones.md"
            ) from error
        run = names[: 1 + names.index(stages[-1])]
        require_same(model, {name: model.get_submodule(name) for name in run}, in_channels)
        return backbone
    model = unwrapped(model)
    try:
        return LibraryBackbone(model, plan_of(model), name=name)
    except ValueError:
        if not hasattr(model, "feature_info"):
            raise
    model = with_features(model, in_channels)
    return LibraryBackbone(model, plan_of(model), name=name)


def require_same(model: nn.Module, modules: Mapping[str, nn.Module], in_channels: int) -> None:
    """Refuse a model whose forward is not its modules one after another.

    Raises:
        ValueError: If so, or if it can't be known.
    """
    if (said := difference(model, modules, in_channels=in_channels)) is not None:
        raise ValueError(
            f"{type(model).__name__}: {said}: write stem, stages, channels and strides as a semask Backbone, see "
            "docs/backbones.md"
        )


def with_features(model: Any, in_channels: int) -> nn.Module:
    """A full model of timm as timm would have built it with `features_only`; itself if it is none that can be.

    That its modules are run one after another shows by its own words about the channels of what comes out, and by its
    own forward.

    Raises:
        ValueError: If its forward computes something else.
    """
    from timm.models import FeatureListNet

    said = [entry["num_chs"] for entry in model.feature_info]
    side = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))[-1]
    image = next(model.parameters()).new_zeros(1, in_channels, side, side)
    for flatten in (False, True):  # timm itself finds stages by their names, or one level below
        try:
            features: Any = FeatureListNet(
                model, tuple(range(len(said))), output_fmt=_format(model), flatten_sequential=flatten
            )
            with evaluating(features):
                maps = features(image)
        except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            continue
        if [x.shape[-1 if _format(model) == "NHWC" else 1] for x in maps] == said:
            if (fault := difference(model, dict(features.items()), in_channels=in_channels, sizes=(side,))) is not None:
                raise ValueError(f"{type(model).__name__}: {fault}: build it with timm's features_only=True")
            features.pretrained_cfg = getattr(model, "pretrained_cfg", None)  # mean and standard deviation
            wrapped: nn.Module = features
            return wrapped
    full: nn.Module = model
    return full


def _format(model: nn.Module) -> str:
    """Whether the maps of a model of timm have their channels first or last."""
    return str(getattr(model, "output_fmt", "NCHW"))
