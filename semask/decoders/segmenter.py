"""Segmenter: one token a class goes through a transformer with the locations of a map; their products are the masks."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semask.decoders.decoder import Decoder
from semask.encoders.encoder import init_linear
from semask.files.schema import Range
from semask.outputs import PixelOutput


class Segmenter(Decoder):
    """The mask transformer of Segmenter.

    The locations of one map and a learned token for each class pass through transformer layers together; the score of a
    class in a location is the scalar product of the two, see `ClassMasks`.

    Segmenter (Strudel et al., arXiv 2105.05633), section 3.2 and figure 2. The paper's encoder is a ViT, whose only map
    has a stride of 16. No published figure was compared: those in the paper are for the encoder.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps.
        num_classes: Classes K.
        channels: Width of the decoder; above 64 a multiple of its number of attention heads, one for every 64 channels.
        dropout: Share of attention weights and of activations that is dropped in training.
        layers: Transformer layers.
        level: Which of the maps to decode, 0 is the finest; None for the last one with a stride of 16, or if there is
            none the coarsest.

    Raises:
        ValueError: If there is no such map or the width can't be shared by the heads.

    >>> decoder = Segmenter((8, 16), (16, 32), num_classes=5, channels=64).eval()
    >>> decoder((torch.randn(2, 8, 6, 5), torch.randn(2, 16, 3, 3))).logits.shape
    torch.Size([2, 5, 6, 5])
    """

    skips_maps = True

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        *,
        num_classes: int,
        channels: int = 256,
        dropout: float = 0.1,
        layers: int = 2,
        level: Annotated[int, Range(0, 15)] | None = None,
    ) -> None:
        super().__init__(num_classes)
        if level is None:
            level = max((i for i, stride in enumerate(strides) if stride == 16), default=len(strides) - 1)
        if not 0 <= level < len(in_channels):
            raise ValueError(
                f"level is {level}, but there are {len(in_channels)} maps: give 0 to {len(in_channels) - 1}"
            )
        heads = max(channels // 64, 1)
        if channels % heads:
            raise ValueError(
                f"channels is {channels}, which {heads} attention heads of segmenter can't share: give a multiple of 64"
            )
        self.level = level
        self.projection = nn.Linear(in_channels[level], channels)
        self.layers = nn.ModuleList(TransformerLayer(channels, heads=heads, dropout=dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)
        self.classifier = ClassMasks(channels, num_classes)
        self.apply(init_linear)

    def forward(self, maps: Sequence[Tensor]) -> PixelOutput:
        """Decode one of the maps [B, C_i, h_i, w_i] to class scores [B, K, h, w] of its size."""
        x = maps[self.level]
        B, _, h, w = x.shape
        cells = self.projection(x.flatten(2).mT)  # [B, N, C], N = h * w
        classes = self.classifier.tokens.expand(B, -1, -1)  # [B, K, C]
        tokens = torch.cat([cells, classes], dim=1)  # [B, N + K, C]
        for layer in self.layers:
            tokens = layer(tokens)
        cells, classes = self.norm(tokens).split([h * w, classes.shape[1]], dim=1)
        return PixelOutput(self.classifier(cells, classes).mT.unflatten(2, (h, w)))


class ClassMasks(nn.Module):
    """The class tokens, and how their products with the locations become class scores.

    Cells and classes are projected without bias and brought to length 1; their products, cosines, are normalized over
    the classes of each location (a LayerNorm; of 2 classes it leaves hardly more than the sign of their difference).
    Where the text of the paper puts the softmax before that norm, its code takes it after, in the loss, as here.

    Args:
        channels: Channels C of a token.
        num_classes: Classes K.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(num_classes, channels))
        self.cells = nn.Linear(channels, channels, bias=False)
        self.classes = nn.Linear(channels, channels, bias=False)
        self.norm = nn.LayerNorm(num_classes)
        nn.init.trunc_normal_(self.tokens, std=0.02)

    def forward(self, cells: Tensor, classes: Tensor) -> Tensor:
        """Score the classes.

        Args:
            cells: Locations [B, N, C] after the transformer.
            classes: Class tokens [B, K, C] after the transformer.

        Returns:
            Class scores [B, N, K].
        """
        cosines = F.normalize(self.cells(cells), dim=-1) @ F.normalize(self.classes(classes), dim=-1).mT
        scores: Tensor = self.norm(cosines)
        return scores


class TransformerLayer(nn.Module):
    """Attention of all tokens to all and an MLP, each after a norm and on a residual: [B, N, C] -> [B, N, C].

    ViT (Dosovitskiy et al., arXiv 2010.11929), equations 2 and 3.

    Args:
        channels: Channels C of a token.
        heads: Attention heads; they share the channels.
        dropout: Share of attention weights and of activations that is dropped in training.
    """

    def __init__(self, channels: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.projection = nn.Sequential(nn.Linear(channels, channels), nn.Dropout(dropout))
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(4 * channels, channels),
            nn.Dropout(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.projection(self._attend(self.norm1(x)))
        refined: Tensor = x + self.mlp(self.norm2(x))
        return refined

    def _attend(self, x: Tensor) -> Tensor:
        """Mix the values of all tokens, [B, N, C] -> [B, N, C]."""
        qkv = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)  # each [B, heads, N, C / heads]
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        return mixed.transpose(1, 2).flatten(2)


DECODERS = {"segmenter": Segmenter}
