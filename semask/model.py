"""SeMask: the figure of the paper. Every step of the model by name; nothing else knows all of them."""

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from semask.config import ModelConfig
from semask.data.imagenet import IMAGENET_MEAN, IMAGENET_STD
from semask.decoders.decoder import Decoder
from semask.decoders.prior import PriorDecoder
from semask.encoders.encoder import SemanticEncoder
from semask.outputs import SeMaskOutput
from semask.semantic.windows import pad_image

PROGRAMS = 64
"""Compiled programs that modules of one kind may have: for each width and shift, with and without gradients."""


class SeMask(nn.Module):
    """Semantic segmentation with semantic attention inside a hierarchical transformer (arXiv 2112.12782, figure 2).

    `semask.build` makes one from names; this composes parts that exist.

    Args:
        encoder: Image to one map and one semantic prior a stage, e.g. of `semask.attach`.
        decoder: Maps to class scores or masks.
        mean: Mean of each channel that images are normalized with, for values in [0, 1]; None for the backbone's own.
        std: Standard deviation of each channel, likewise.

    Attributes:
        config: What it is made of, by the names of `ModelSettings`, as JSON holds it: a dictionary.
        metadata: What the checkpoint says besides the weights: classes, recipe, metrics, versions; empty for a fresh
            model.
        load_report: What `semask.load` with other classes took over and what is fresh: a `LoadReport`; else None.
        size_divisor: Images are padded with zeros, at the right and the bottom, to a multiple of this.

    Raises:
        ValueError: If a part is not built, or mean and std differ in length.

    >>> import torch
    >>> from semask.decoders.fpn import SemanticFPN
    >>> from semask.encoders.swin import SIZES, Swin
    >>> encoder = SemanticEncoder(Swin(SIZES["swin_nano"]), num_classes=5, semantic_window=(7, 7, None, None))
    >>> decoder = SemanticFPN(encoder.channels, encoder.strides, num_classes=5, channels=32)
    >>> output = SeMask(encoder, decoder).eval()(torch.randn(1, 3, 64, 96))
    >>> output.logits.shape, [tuple(prior.shape) for prior in output.priors]
    (torch.Size([1, 5, 16, 24]), [(1, 5, 16, 24), (1, 5, 8, 12), (1, 5, 4, 6), (1, 5, 2, 3)])
    """

    def __init__(
        self,
        encoder: SemanticEncoder,
        decoder: Decoder,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        for name, part, kind in (("encoder", encoder, SemanticEncoder), ("decoder", decoder, Decoder)):
            if not isinstance(part, kind):
                raise ValueError(
                    f"{name} is a {type(part).__name__}, not a {kind.__name__}: build a model from names with "
                    "semask.build(ENCODER, DECODER, ...)"
                )
        mean = getattr(encoder.backbone, "mean", None) or IMAGENET_MEAN if mean is None else mean
        std = getattr(encoder.backbone, "std", None) or IMAGENET_STD if std is None else std
        if len(mean) != len(std):
            raise ValueError(f"mean has {len(mean)} and std {len(std)} values: give one a channel")
        self.encoder, self.decoder = encoder, decoder
        self.prior_decoder = PriorDecoder(
            encoder.semantic_strides, first_stride=encoder.strides[0], align_corners=decoder.prior_align_corners
        )
        self.size_divisor = math.lcm(decoder.size_divisor, encoder.backbone.size_divisor)
        channels = {"in_channels": len(mean), "mean": list(mean), "std": list(std)}
        self.config = ModelConfig({**encoder.config, **decoder.config, **channels})
        self.metadata: dict[str, Any] = {}
        self.load_report: object | None = None

    def forward(self, image: Tensor, *, with_prior: bool | None = None, masks_only: bool = False) -> SeMaskOutput:
        """Segment images.

        Args:
            image: Normalized images [B, C, H, W] of any size.
            with_prior: Whether to decode the priors as well; None does so in training only.
            masks_only: Keep neither features nor priors, which a large image needs much memory for, nor make masks of
                a mask decoder's earlier layers, which only the loss uses.

        Returns:
            Features, priors, class scores [B, K, H/4, W/4] or masks with their classes, and, with the prior,
            `prior_logits` [B, K, H/4, W/4].
        """
        image = pad_image(image, self.size_divisor) if self.size_divisor > 1 else image
        # maps [B, C_i, h_i, w_i] and priors [B, K, h_i, w_i] of the stages
        features = self.encoder(image, with_priors=not masks_only or bool(with_prior))
        # logits [B, K, h_0, w_0], or masks [B, Q, h_0, w_0] with classes [B, Q, K + 1]
        options = {"auxiliary": False} if masks_only and self.decoder.makes_masks else {}
        prediction = self.decoder(features.maps, **options)
        prior_logits = None
        if features.priors and (self.training if with_prior is None else with_prior):
            prior_logits = self.prior_decoder(features.priors, features.maps[0].shape[-2:])  # [B, K, h_0, w_0]
        maps, priors = ((), ()) if masks_only else features
        return SeMaskOutput(maps, priors, prediction, prior_logits, (image.shape[-2], image.shape[-1]))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile in place: the arguments are those of `torch.compile`, where `dynamic` is True unless given.

        Blocks, semantic layers and decoder are compiled by themselves, those of one kind to one program for all sizes
        of images. `torch.compile(model)` makes one of the whole, which takes it many minutes: sizes of windows depend
        on those of the image through a chain of divisions that grows with every stage.
        """
        import torch._dynamo  # takes seconds

        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, PROGRAMS)
        for part in (*self.encoder.parts(), self.decoder):
            part.compile(*args, **{"dynamic": True, **kwargs})
