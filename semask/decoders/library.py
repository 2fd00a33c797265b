"""Decoders of segmentation_models_pytorch on the maps of our encoders."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from segmentation_models_pytorch.base.initialization import initialize_decoder, initialize_head
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3PlusDecoder
from segmentation_models_pytorch.decoders.dpt.decoder import DPTDecoder
from segmentation_models_pytorch.decoders.linknet.decoder import LinknetDecoder
from segmentation_models_pytorch.decoders.manet.decoder import MAnetDecoder
from segmentation_models_pytorch.decoders.pan.decoder import PANDecoder
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPDecoder
from segmentation_models_pytorch.decoders.segformer.decoder import SegformerDecoder
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder
from segmentation_models_pytorch.decoders.upernet.decoder import UPerNetDecoder
from torch import Tensor, nn

from semask.decoders.decoder import Decoder
from semask.outputs import PixelOutput, resize


class LibraryDecoder(Decoder):
    """A decoder of segmentation_models_pytorch, unchanged, between our maps and our 1 x 1 classifier.

    The library's decoders want a list of features that begins at strides 1 and 2, of which those kept here read
    nothing: the two places are taken by maps without channels. What each decoder wants beyond that is in `ROWS`;
    docs/decoders.md names the papers. Decoders that walk up the maps by exact doublings get maps of such sizes: the
    maps are resized where the image's sides are no multiples of the coarsest stride, and left alone where they are.

    Weights start as the library's models do. Channel-wise dropout before the classifier is the only dropout.

    Args:
        in_channels: Channels of the maps, from fine to coarse; 2 to 4 maps.
        strides: Image pixels per location of the maps; only their number counts, sizes are taken from the maps.
        num_classes: Classes K.
        channels: Width of the decoder: of all of it, or of the coarsest block of a U-Net, whose finer ones have half of
            it each; linknet has the widths of the maps and does not use it.
        dropout: Share of the channels that is dropped in training.
        name: Which decoder, a key of `ROWS`.

    Raises:
        ValueError: If the name is unknown or the maps don't suit the decoder.

    >>> import torch
    >>> decoder = LibraryDecoder((8, 16), (4, 8), num_classes=5, channels=4, name="upernet")
    >>> decoder((torch.randn(2, 8, 13, 11), torch.randn(2, 16, 7, 6))).logits.shape
    torch.Size([2, 5, 13, 11])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        *,
        num_classes: int,
        channels: int = 256,
        dropout: float = 0.1,
        name: str = "upernet",
    ) -> None:
        super().__init__(num_classes)
        if name not in ROWS:
            raise ValueError(f"the library's decoder is {name!r}: choose one of {', '.join(ROWS)}")
        if not 2 <= len(in_channels) == len(strides) <= 4:
            raise ValueError(
                f"smp/{name} got {len(in_channels)} maps and {len(strides)} strides: it needs an encoder of 2 to 4 maps"
            )
        self.name = name
        self.skips_maps = ROWS[name].skips_maps
        self.decoder, width = ROWS[name].make([0, 0, *in_channels], channels)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        initialize_decoder(self.decoder)
        initialize_head(self.classifier)

    def forward(self, maps: Sequence[Tensor]) -> PixelOutput:
        """Decode the maps to class scores.

        Args:
            maps: Features [B, C_i, h_i, w_i], from fine to coarse.

        Returns:
            Class scores [B, K, h, w]: h x w is h_0 x w_0 for most, rounded up to whole locations of the coarsest map
            (of 4 x 4 locations for deeplabv3plus) where the decoder doubles; twice that for unetplusplus and dpt; the
            size of the coarsest map for pspnet.

        Raises:
            ValueError: If a BatchNorm has a single value to normalize over, in training.
        """
        try:
            features = self.decoder(*ROWS[self.name].feed(maps))
        except ValueError as error:  # torch's, which does not say whose fault it is
            raise ValueError(
                f"smp/{self.name} can't train on {len(maps[0])} image(s) with a coarsest map of "
                f"{tuple(maps[-1].shape[-2:])} ({error}): give batches of at least 2 images"
            ) from error
        return PixelOutput(self.classifier(self.dropout(features)))


def pyramid(maps: Sequence[Tensor]) -> tuple[list[Tensor]]:
    """The list of features that the library's decoders want: what they don't read has no channels."""
    B, _, h, w = maps[0].shape
    return ([maps[0].new_empty(B, 0, 4 * h, 4 * w), maps[0].new_empty(B, 0, 2 * h, 2 * w), *maps],)


def scaled(maps: Sequence[Tensor], factors: Sequence[int]) -> list[Tensor]:
    """Resize each map to `factors` times the same size: the least with which the first map loses nothing."""
    smallest = [(side + factors[0] - 1) // factors[0] for side in maps[0].shape[-2:]]
    return [resize(x, [side * factor for side in smallest]) for x, factor in zip(maps, factors, strict=True)]


def doubling(maps: Sequence[Tensor]) -> list[Tensor]:
    """Resize the maps so that each is exactly twice the next; where nothing had to be padded they are so already."""
    return scaled(maps, [2**i for i in reversed(range(len(maps)))])


def pan_features(maps: Sequence[Tensor]) -> tuple[list[Tensor]]:
    """Feature pyramid attention halves the coarsest map three times, so that has at least 8 x 8 locations."""
    h, w = maps[-1].shape[-2:]
    return pyramid([*maps[:-1], resize(maps[-1], (at_least_8(h), at_least_8(w)))])


def at_least_8(side: int) -> int:
    """Give max(side, 8) in arithmetic, which is exported for every size of image; a comparison is not.

    >>> at_least_8(3), at_least_8(8), at_least_8(21)
    (8, 8, 21)
    """
    return (side + 8 + abs(side - 8)) // 2


class Row(NamedTuple):
    """What a decoder of the library is built and called with."""

    make: Callable[[list[int], int], tuple[nn.Module, int]]
    """(channels of the list of features, width) -> decoder, channels of what it gives."""
    feed: Callable[[Sequence[Tensor]], tuple[Any, ...]] = pyramid
    """Maps -> arguments of the decoder's forward."""
    skips_maps: bool = False
    """Whether it leaves some maps out."""


def upernet(features: list[int], width: int) -> tuple[nn.Module, int]:
    """Build with pyramid pooling over the coarsest map and a pyramid of features over all."""
    return UPerNetDecoder(features, len(features) - 1, width), width


def segformer(features: list[int], width: int) -> tuple[nn.Module, int]:
    """Build with a linear layer for each map and one over all of them."""
    return SegformerDecoder(features, len(features) - 1, width), width


def pspnet(features: list[int], width: int) -> tuple[nn.Module, int]:
    """Build over the coarsest map, the only one that it reads."""
    if features[-1] % 4:
        raise ValueError(
            f"smp/pspnet got a coarsest map of {features[-1]} channels, which it needs a quarter of for each of its 4 "
            "pyramid levels: choose an encoder with a multiple of 4"
        )
    return PSPDecoder(features, out_channels=width, dropout=0.0), width


def pan(features: list[int], width: int) -> tuple[nn.Module, int]:
    """Build with attention over the coarsest map, which guides all maps up to the finest."""
    return PANDecoder(features, len(features) - 1, width), width


def deeplabv3plus(features: list[int], width: int) -> tuple[nn.Module, int]:
    """Build with the paper's rates for maps of stride 16; its decoder goes from there to stride 4."""
    decoder = DeepLabV3PlusDecoder(
        features,
        encoder_depth=5,
        out_channels=width,
        atrous_rates=(6, 12, 18),
        output_stride=16,
        aspp_separable=True,
        aspp_dropout=0.0,
    )
    return decoder, width


def dpt(features: list[int], width: int) -> tuple[nn.Module, int]:
    """Build with maps that have their scales already, which leaves nothing to reassemble, and no class token."""
    channels = features[2:]
    strides = [4 * 2**i for i in range(len(channels))]
    return DPTDecoder(channels, strides, False, "ignore", channels, width), width


def linknet(features: list[int], width: int) -> tuple[nn.Module, int]:
    """Build with blocks up to the finest map, whose channels it gives."""
    return LinknetDecoder(features, n_blocks=len(features) - 3), features[2]


def manet(features: list[int], width: int) -> tuple[nn.Module, int]:
    """Build with blocks up to the finest map."""
    widths = halves(width, len(features) - 3)
    return MAnetDecoder(features, widths, len(widths)), widths[-1]


def unet(features: list[int], width: int) -> tuple[nn.Module, int]:
    """Build with blocks up to the finest map."""
    widths = halves(width, len(features) - 3)
    return UnetDecoder(features, widths, len(widths)), widths[-1]


def unetplusplus(features: list[int], width: int) -> tuple[nn.Module, int]:
    """Build with a block more than the others: its last one doubles without a map of that size."""
    widths = halves(width, len(features) - 2)
    return UnetPlusPlusDecoder(features, widths, len(widths)), widths[-1]


def halves(width: int, blocks: int) -> list[int]:
    """Widths of the blocks of a U-Net from coarse to fine.

    >>> halves(256, 4)
    [256, 128, 64, 32]
    """
    return [max(width >> i, 1) for i in range(blocks)]


ROWS = {
    "upernet": Row(upernet),
    "segformer": Row(segformer),
    "pspnet": Row(pspnet, skips_maps=True),
    "deeplabv3plus": Row(deeplabv3plus, lambda maps: pyramid(scaled((maps[0], maps[-1]), (4, 1))), skips_maps=True),
    "pan": Row(pan, pan_features),
    "dpt": Row(dpt, lambda maps: (doubling(maps), [None] * len(maps))),
    "linknet": Row(linknet, lambda maps: pyramid(doubling(maps))),
    "manet": Row(manet, lambda maps: pyramid(doubling(maps))),
    "unet": Row(unet),
    "unetplusplus": Row(unetplusplus, lambda maps: pyramid(doubling(maps))),
}

DECODERS = {f"smp/{name}": partial(LibraryDecoder, name=name) for name in ROWS}
