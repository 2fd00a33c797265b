"""MaskFormer: a transformer decoder over the coarsest map gives masks on the finest one."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import MaskFormerDetrConfig
from transformers.models.maskformer.modeling_maskformer import (
    MaskFormerDetrDecoderLayer,
    MaskformerMLPPredictionHead,
    MaskFormerPixelDecoder,
)

from semask.decoders.blocks import check_widths, init_convolution
from semask.decoders.decoder import MaskDecoder
from semask.decoders.deformable import SinePositions
from semask.files.schema import Range
from semask.outputs import MaskOutput


class MaskFormer(MaskDecoder):
    """The decoder of SeMask MaskFormer.

    MaskFormer (Cheng et al., arXiv 2107.06278), section 3. Pixel decoder, layers and heads are those of `transformers`;
    the loop is ours, since theirs normalizes what goes on to the next layer when all layers are supervised.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps: 4, 8, 16, 32.
        num_classes: Classes K, without "no object".
        channels: Width of the transformer.
        dropout: Share of the transformer's activations that is dropped in training.
        queries: Number of masks Q.
        layers: Transformer layers.
        feedforward: Width of the transformer's MLP.
        pixel_channels: Width of the pixel decoder, a multiple of 32; None for `channels`.
        mask_channels: Channels of the mask features; None for `channels`.
        heads: Attention heads of the transformer; a divisor of its width.
        input_projection: Project the coarsest map for the transformer. The published code does not if the map has the
            transformer's width already.

    Raises:
        ValueError: If the heads do not divide the width, or the coarsest map needs a projection.
    """

    loss_settings: ClassVar[Mapping[str, Any]] = {
        "class_weight": 1.0,
        "mask_weight": 20.0,
        "dice_weight": 1.0,
        "points": None,
    }
    """What the published models are trained with, for `MaskLoss`."""

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        *,
        num_classes: int,
        channels: int = 256,
        dropout: float = 0.1,
        queries: int = 100,
        layers: int = 6,
        feedforward: Annotated[int, Range(1, 2**15)] = 2048,
        pixel_channels: Annotated[int, Range(1, 8192)] | None = None,
        mask_channels: Annotated[int, Range(1, 8192)] | None = None,
        heads: Annotated[int, Range(1, 256)] = 8,
        input_projection: bool = True,
    ) -> None:
        super().__init__(num_classes)
        mask_channels, pixel_channels = mask_channels or channels, pixel_channels or channels
        check_widths(channels=channels, pixel_channels=pixel_channels, heads=heads)
        config = MaskFormerDetrConfig(
            d_model=channels,
            decoder_ffn_dim=feedforward,
            decoder_attention_heads=heads,
            dropout=dropout,
            attention_dropout=dropout,
            activation_dropout=dropout,
            attn_implementation="eager",  # type: ignore[call-arg]  # of every configuration of transformers
        )
        *laterals, last = in_channels
        if not input_projection and last != channels:
            raise ValueError(f"the coarsest map has {last} channels, the transformer {channels}: project it")
        self.pixel_decoder = MaskFormerPixelDecoder(
            last, laterals, feature_size=pixel_channels, mask_feature_size=mask_channels
        )
        self.input_projection = nn.Conv2d(last, channels, 1) if input_projection else nn.Identity()
        self.positions = SinePositions(channels)
        self.queries = nn.Embedding(queries, channels)
        self.layers = nn.ModuleList(MaskFormerDetrDecoderLayer(config) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)
        self.class_predictor = nn.Linear(channels, num_classes + 1)
        self.mask_embedding = MaskformerMLPPredictionHead(channels, channels, mask_channels)
        for module in (*self.pixel_decoder.modules(), self.input_projection):
            if isinstance(module, nn.Conv2d):
                init_convolution(module)
        for parameter in self.layers.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, maps: Sequence[Tensor], *, auxiliary: bool = True) -> MaskOutput:
        """Decode the maps [B, C_i, h_i, w_i] to Q masks and their classes, after each layer or only after the last."""
        mask_features = self.pixel_decoder(list(maps)).last_hidden_state  # [B, M, h_0, w_0]
        memory = self.input_projection(maps[-1])
        positions = self.positions(memory.shape, memory.device, memory.dtype).flatten(2).transpose(1, 2)
        memory = memory.flatten(2).transpose(1, 2)  # [B, h_3 * w_3, C]
        query = self.queries.weight.expand(memory.shape[0], -1, -1)  # [B, Q, C]
        hidden, layers = torch.zeros_like(query), []
        for number, layer in enumerate(self.layers, start=1):
            hidden = layer(hidden, None, positions, query, memory)
            if auxiliary or number == len(self.layers):
                normed = self.norm(hidden)
                masks = torch.einsum("bqc,bchw->bqhw", self.mask_embedding(normed), mask_features)
                layers.append((self.class_predictor(normed), masks))
        return MaskOutput(*layers[-1], auxiliary=tuple(layers[:-1]))


DECODERS = {"maskformer": MaskFormer}
