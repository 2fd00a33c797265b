"""ISNet: each location looks at the whole image, and at the locations of its own class."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semask.decoders.blocks import ConvNormReLU, GatheredMaps, PointNormReLU, classifier
from semask.decoders.decoder import Decoder
from semask.files.schema import Range
from semask.outputs import PixelOutput, resize


class ISNet(Decoder):
    """Image-level and semantic-level context, one after the other, then the finest map for detail.

    ISNet: Integrate Image-Level and Semantic-Level Context for Semantic Segmentation (Jin et al., arXiv 2108.12382).
    Coarse class scores group the locations by class; in training they are auxiliary scores. The paper weighs their loss
    0.4.

    Where we depart from it: the paper's backbone is dilated and its last map has stride 8, ours comes from
    `GatheredMaps`. No published parameters or FLOPs were compared.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps, rising.
        num_classes: Classes K.
        channels: Width of the decoder, of which attention uses half; the paper's is 512.
        dropout: Share of the channels that is dropped in training.
        shortcut: Channels that the finest map is reduced to before the last convolution.

    >>> import torch
    >>> decoder = ISNet((8, 16), (4, 8), num_classes=5, channels=4)
    >>> decoder((torch.randn(2, 8, 12, 10), torch.randn(2, 16, 6, 5))).logits.shape
    torch.Size([2, 5, 12, 10])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        *,
        num_classes: int,
        channels: int = 256,
        dropout: float = 0.1,
        shortcut: Annotated[int, Range(1, 4096)] = 48,
    ) -> None:
        super().__init__(num_classes)
        self.gather = GatheredMaps(in_channels, strides, channels=channels)
        self.image_level = ImageLevelContext(channels)
        self.coarse = CoarseScores(channels, num_classes=num_classes, dropout=dropout)
        self.semantic_level = SemanticLevelContext(channels)
        self.shortcut = PointNormReLU(in_channels[0], shortcut)
        self.fuse = ConvNormReLU(channels + shortcut, channels)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(channels, num_classes)

    def forward(self, maps: Sequence[Tensor]) -> PixelOutput:
        """Decode the maps [B, C_i, h_i, w_i] to class scores [B, K, h_0, w_0].

        Raises:
            ValueError: If the coarsest map is a single location of a single image, in training.
        """
        x = self.gather(maps)
        scores = self.coarse(x)
        x = self.semantic_level(x, scores, self.image_level(x))
        fine = self.shortcut(maps[0])
        x = self.fuse(torch.cat([resize(x, fine.shape[-2:]), fine], dim=1))
        return PixelOutput(self.classifier(self.dropout(x)), (scores,) if self.training else ())


class ImageLevelContext(nn.Module):
    """Image-Level Context Module: every location attends to all locations, each next to the average of the image.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = ContextAttention(channels, 2 * channels)
        self.fuse = ConvNormReLU(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Add the image-level context to a map [B, C, h, w]: -> [B, C, h, w]."""
        average = x.mean((2, 3), keepdim=True).expand_as(x)
        context = self.attention(x, torch.cat([average, x], dim=1))
        fused: Tensor = self.fuse(torch.cat([x, context], dim=1))
        return fused


class SemanticLevelContext(nn.Module):
    """Semantic-Level Context Module: every location attends to all, each stood for by its class in this image.

    Args:
        channels: Channels of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attention = ContextAttention(channels, channels)
        self.fuse = ConvNormReLU(2 * channels, channels)

    def forward(self, x: Tensor, scores: Tensor, context: Tensor) -> Tensor:
        """Add the semantic-level context.

        Args:
            x: Map [B, C, h, w].
            scores: Coarse class scores [B, K, h, w].
            context: The map with image-level context, [B, C, h, w].

        Returns:
            Map with both contexts, [B, C, h, w].
        """
        fused: Tensor = self.fuse(torch.cat([context, self.attention(x, class_averages(x, scores))], dim=1))
        return fused


class ContextAttention(nn.Module):
    """Dot-product attention of the locations of one map to those of another, at half the width.

    Args:
        channels: Channels of the map that asks, and of the result.
        context_channels: Channels of the map that is asked.
    """

    def __init__(self, channels: int, context_channels: int) -> None:
        super().__init__()
        width = max(channels // 2, 1)
        self.query = nn.Sequential(PointNormReLU(channels, width), PointNormReLU(width, width))
        self.key = nn.Sequential(PointNormReLU(context_channels, width), PointNormReLU(width, width))
        self.value = PointNormReLU(context_channels, width)
        self.output = PointNormReLU(width, channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Attend from [B, channels, h, w] to [B, context_channels, h', w']: -> [B, channels, h, w]."""
        query, key, value = self.query(x), self.key(context), self.value(context)
        tokens = F.scaled_dot_product_attention(
            query.flatten(2).mT[:, None], key.flatten(2).mT[:, None], value.flatten(2).mT[:, None]
        )  # [B, 1, N, width]: a single head
        output: Tensor = self.output(tokens.mT.reshape(x.shape[0], -1, *x.shape[-2:]))
        return output


class CoarseScores(nn.Module):
    """Class scores of one map: 1 x 1 convolution, BatchNorm, ReLU, dropout of channels, 1 x 1 convolution.

    Args:
        channels: Channels of the map.
        num_classes: Classes K.
        dropout: Share of the channels that is dropped in training.
    """

    def __init__(self, channels: int, *, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.features = PointNormReLU(channels, channels)
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = classifier(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Score a map: [B, C, h, w] -> [B, K, h, w]."""
        scores: Tensor = self.classifier(self.dropout(self.features(x)))
        return scores


def class_averages(x: Tensor, scores: Tensor) -> Tensor:
    """Put in the place of each location the average over the locations of its class, the class with the highest score.

    Args:
        x: Map [B, C, h, w].
        scores: Class scores [B, K, h, w]; in a class's average locations weigh as the softmax of its score over them.

    Returns:
        Map [B, C, h, w].
    """
    rows = scores.flatten(2)  # [B, K, N]
    label = rows.argmax(1, keepdim=True)  # [B, 1, N]
    own = label == torch.arange(rows.shape[1], device=rows.device)[:, None]  # [B, K, N]
    # A class without a location gets even weights and not NaN; nobody asks for its average.
    weights = rows.masked_fill(~own, torch.finfo(rows.dtype).min).softmax(-1)
    averages = weights.to(x.dtype) @ x.flatten(2).mT  # [B, K, C]
    return (averages.mT @ own.to(averages.dtype)).reshape(x.shape)


DECODERS = {"isnet": ISNet}
