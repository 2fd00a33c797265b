"""Mask2Former: masked attention over three scales of a pixel decoder, with or without feature alignment."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Literal

from torch import Tensor, nn
from transformers import Mask2FormerConfig
from transformers.models.mask2former.modeling_mask2former import Mask2FormerTransformerModule

from semask.decoders.blocks import check_widths, init_convolution
from semask.decoders.decoder import MaskDecoder
from semask.decoders.deformable import SinePositions
from semask.decoders.fapn import DeformablePixelDecoder, FaPN
from semask.files.schema import Range
from semask.outputs import MaskOutput


class Mask2Former(MaskDecoder):
    """The decoder of SeMask Mask2Former, and with another pixel decoder of SeMask Mask2Former FaPN and MSFaPN.

    Mask2Former (Cheng et al., arXiv 2112.01527); the transformer is that of `transformers`.

    Args:
        in_channels: Channels of the maps.
        strides: Image pixels per location of the maps: 4, 8, 16, 32.
        num_classes: Classes K, without "no object".
        channels: Width of the transformer.
        queries: Number of masks Q.
        layers: Transformer layers.
        encoder_layers: Layers of multi-scale deformable attention in the pixel decoder.
        feedforward: Width of the transformer's MLP.
        pixel_channels: Width of the pixel decoder, a multiple of 32; None for `channels`.
        mask_channels: Channels of the mask features; None for `channels`.
        heads: Attention heads of the transformer and of the deformable attention; a divisor of both widths.
        input_projection: Project the maps that the transformer looks at even if they have its width already.
        pixel_decoder: deformable (Mask2Former), fapn or msfapn.

    Raises:
        ValueError: If the heads do not divide a width.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        *,
        num_classes: int,
        channels: int = 256,
        queries: int = 100,
        layers: int = 9,
        encoder_layers: Annotated[int, Range(1, 64)] = 6,
        feedforward: Annotated[int, Range(1, 2**15)] = 2048,
        pixel_channels: Annotated[int, Range(1, 8192)] | None = None,
        mask_channels: Annotated[int, Range(1, 8192)] | None = None,
        heads: Annotated[int, Range(1, 256)] = 8,
        input_projection: bool = False,
        pixel_decoder: Literal["deformable", "fapn", "msfapn"] = "deformable",
    ) -> None:
        super().__init__(num_classes)
        mask_channels, pixel_channels = mask_channels or channels, pixel_channels or channels
        check_widths(channels=channels, pixel_channels=pixel_channels, heads=heads)
        self.pixel_decoder: FaPN | DeformablePixelDecoder
        if pixel_decoder == "fapn":
            self.pixel_decoder = FaPN(in_channels, channels=pixel_channels, mask_channels=mask_channels)
        else:
            self.pixel_decoder = DeformablePixelDecoder(
                in_channels,
                channels=pixel_channels,
                mask_channels=mask_channels,
                layers=encoder_layers,
                heads=heads,
                align=pixel_decoder == "msfapn",
            )
        config = Mask2FormerConfig(
            hidden_dim=channels,
            mask_feature_size=mask_channels,
            decoder_layers=layers + 1,
            dim_feedforward=feedforward,
            num_queries=queries,
            num_attention_heads=heads,
            enforce_input_projection=input_projection,
        )
        self.transformer = Mask2FormerTransformerModule(pixel_channels, config)
        # Older versions of transformers have a plain list, whose weights would be neither trained nor saved.
        self.transformer.input_projections = nn.ModuleList(self.transformer.input_projections)
        projections = [x for x in self.transformer.input_projections if isinstance(x, nn.Conv2d)]
        for projection in projections:
            init_convolution(projection)
        self.skips_maps = layers < len(projections)  # each layer looks at one map
        self.transformer.position_embedder = SinePositions(channels)  # type: ignore[assignment]
        self.class_predictor = nn.Linear(channels, num_classes + 1)
        for parameter in self.transformer.decoder.layers.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, maps: Sequence[Tensor], *, auxiliary: bool = True) -> MaskOutput:
        """Decode the maps [B, C_i, h_i, w_i] to Q masks and their classes, after each layer or only after the last."""
        mask_features, scales = self.pixel_decoder(maps)
        decoded = self.transformer(scales, mask_features)
        first = 0 if auxiliary else -1
        states, logits = decoded.intermediate_hidden_states[first:], decoded.masks_queries_logits[first:]
        layers = [
            (self.class_predictor(hidden.transpose(0, 1)), masks)  # [B, Q, K + 1], [B, Q, h_0, w_0]
            for hidden, masks in zip(states, logits, strict=True)
        ]
        return MaskOutput(*layers[-1], auxiliary=tuple(layers[:-1]))


DECODERS = {
    "mask2former": Mask2Former,
    "mask2former_fapn": partial(Mask2Former, pixel_decoder="fapn"),
    "mask2former_msfapn": partial(Mask2Former, pixel_decoder="msfapn"),
}
