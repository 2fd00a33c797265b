"""The section `model` of a recipe."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from semask.data.imagenet import IMAGENET_MEAN, IMAGENET_STD
from semask.files.schema import Probability, Range, from_plain, require_fields
from semask.files.text import one_line, reason
from semask.semantic.residual import Residual

NAME = re.compile(r"(\w{1,64}|timm/[\w.-]{1,128}|transformers/[\w-][\w.-]{0,127}(/[\w-][\w.-]{0,127})?)", re.ASCII)
"""Encoders that a file may name: no addresses, and no paths but OWNER/NAME."""
ClassCount = Annotated[int, Range(2, 255), "(one kind of object is two classes: background and object)"]
Window = Annotated[int, Range(1, 1024)]
Depth = Annotated[int, Range(0, 32)]
Width = Annotated[int, Range(1, 8192)]
RGB = 3
"""Channels that a backbone's own mean and standard deviation are for."""
Sample = Annotated[float, Range(-1e300, 1e300)]
Spread = tuple[Sample, Sample]


@dataclass(frozen=True)
class ModelSettings:
    """Settings of a SeMask.

    Attributes:
        encoder: Backbone under the semantic layers: swin_nano, swin_tiny, swin_small, swin_base, swin_large as
            published; timm/MODEL, transformers/mit_b0 or transformers/OWNER/NAME (docs/backbones.md).
        decoder: What makes masks of the features: fpn (Semantic FPN), maskformer, mask2former, mask2former_fapn,
            mask2former_msfapn as published; segmenter, upernet and others of docs/decoders.md.
        num_classes: Classes K of the masks; with one kind of object two, background and object.
        prior_classes: Classes of the semantic priors; null for num_classes. The published COCO-Stuff models have 171
            classes, but priors of 150.
        in_channels: Channels of the image.
        encoder_options: Further arguments of a library's backbone, numbers and flags only, e.g. {img_size: 512}.
        window: Side of the backbone's own attention windows in tokens; null for the published one (12 for Base and
            Large, 7 for the others).
        drop_path: Stochastic depth of the backbone's last block, rising linearly from 0; null for the published 0.3
            (0.1 for nano).
        semantic_window: Scope of the semantic attention of each stage: side of its windows in tokens, null for global.
        semantic_depths: Semantic attention blocks of each stage, one number for all or one a stage; 0 is the plain
            backbone, the baseline of the paper.
        residual: What a semantic layer adds its refinement to: normed (its normalized input, as published) or input
            (its input as it came: a fresh layer leaves a pretrained backbone untouched).
        channels: Width of the decoder.
        decoder_options: Settings that only this decoder has, e.g. {level: 2} for segmenter (docs/decoders.md).
        dropout: Dropout probability of the decoder's channels in training (fpn and maskformer).
        queries: Masks that a mask decoder makes.
        decoder_layers: Transformer layers of a mask decoder; null for the published 6 (maskformer) or 9.
        mean: Mean of each channel that images are normalized with, for values in [0, 1]; null for what the backbone's
            weights were trained with, ImageNet's for a Swin as published. A built model has the numbers.
        std: Standard deviation of each channel, likewise.
        value_range: Samples of each channel that become 0 and 1, e.g. [[0, 3000], [0, 5000]], for images that are not
            photos of 8 bits; null for 8 bits as they are, of 16 the upper 8. data.measure finds it.

    Raises:
        ValueError: If a setting is out of its range, or two contradict each other.
    """

    encoder: str = "swin_tiny"
    decoder: str = "fpn"
    num_classes: ClassCount = 150
    prior_classes: ClassCount | None = None
    in_channels: Annotated[int, Range(1, 1024)] = 3
    encoder_options: dict[str, Any] | None = None
    window: Annotated[int, Range(1, 64)] | None = None
    drop_path: Probability | None = None
    semantic_window: tuple[Window | None, ...] = (7, 7, None, None)
    semantic_depths: Depth | tuple[Depth, ...] = 1
    residual: Residual = "normed"
    channels: Width = 256
    decoder_options: dict[str, Any] | None = None
    dropout: Probability = 0.1
    queries: Annotated[int, Range(1, 10_000)] = 100
    decoder_layers: Annotated[int, Range(1, 64)] | None = None
    mean: tuple[Annotated[float, Range(-1e4, 1e4)], ...] | None = None
    std: tuple[Annotated[float, Range(0, 1e4, above=True)], ...] | None = None
    value_range: tuple[Spread, ...] | None = None

    def __post_init__(self) -> None:
        require_fields(self, "model")
        means, stds = (RGB if values is None else len(values) for values in (self.mean, self.std))
        if not means == stds == self.in_channels:
            raise ValueError(
                f"model.mean has {means} and model.std {stds} values for "
                f"in_channels={self.in_channels}: give one a channel"
            )
        if self.value_range is not None:
            require_range(self.value_range, self.in_channels)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as JSON holds them: lists in place of tuples, and no value_range where there is none."""
        plain = {name: listed(value) for name, value in asdict(self).items()}
        return {name: value for name, value in plain.items() if name != "value_range" or value is not None}

    def for_images(self, channels: int) -> "ModelSettings":
        """Settings for images of another number of channels, where these are still those of RGB images.

        The mean and the standard deviation of every channel become those of ImageNet's three on average.
        """
        own = (None, None), (IMAGENET_MEAN, IMAGENET_STD)
        given = tuple(None if values is None else tuple(values) for values in (self.mean, self.std))
        if channels == RGB or self.in_channels != RGB or given not in own or self.value_range is not None:
            return self
        mean, std = (round(sum(values) / len(values), 6) for values in (IMAGENET_MEAN, IMAGENET_STD))
        return replace(self, in_channels=channels, mean=(mean,) * channels, std=(std,) * channels)


def require_range(value_range: Sequence[Sequence[float]], channels: int) -> None:
    """Refuse a range that is not one of low and high for each channel.

    Raises:
        ValueError: If it is not.
    """
    if len(value_range) != channels:
        raise ValueError(
            f"model.value_range has {len(value_range)} entries for {channels} channels: give one a channel"
        )
    for low, high in value_range:
        if low >= high:
            raise ValueError(f"model.value_range has [{low:g}, {high:g}]: give the lower sample first")


def listed(value: Any) -> Any:
    """A setting as JSON holds it: lists in place of tuples."""
    return [listed(entry) for entry in value] if isinstance(value, tuple) else value


def settings_of_file(values: Any, file: str | Path) -> ModelSettings:
    """Check the settings of a model that a file of anybody holds.

    Args:
        values: The `model` of its recipe, as JSON or YAML gives it.
        file: Where it was found, for messages.

    Raises:
        ValueError: If a setting is unknown or out of range, or something would be read or fetched from elsewhere.
    """
    try:
        settings = ModelSettings(**from_plain(ModelSettings, values, "model"))
    except ValueError as error:
        raise ValueError(f"{one_line(file)}: its recipe does not describe a model ({reason(error)})") from error
    require_name(settings.encoder, file)
    return settings


def require_name(encoder: str, file: str | Path) -> None:
    """Refuse an encoder that a file names by a path or an address.

    Raises:
        ValueError: If it does.
    """
    if not NAME.fullmatch(encoder) or Path(encoder.removeprefix("transformers/")).is_dir():
        raise ValueError(
            f"{one_line(file)}: its encoder is {one_line(repr(encoder), longest=80)}, but a file can name no path or "
            "address: give it on the line, or build the model in Python and load with semask.load(FILE, into=model)"
        )
