"""SeMask: the spine. Every step of the model by name; nothing else knows all of them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semask.decoders import PriorDecoder, build_decoder
from semask.encoders import SIZES, Backbone, SemanticEncoder, Swin
from semask.outputs import SeMaskOutput
from semask.semantic.layer import Residual
from semask.semantic.windows import pad_image
from semask.weights.pretrained import LoadReport, load_pretrained

PROGRAMS = 64
"""Compiled programs that modules of one kind may have: for each width and shift, with and without gradients."""
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class SeMask(nn.Module):
    """Semantic segmentation with semantic attention inside a hierarchical transformer (arXiv 2112.12782).

    Args:
        encoder: Backbone under the semantic layers: swin_nano, swin_tiny, swin_small, swin_base, swin_large as
            published; timm/MODEL, transformers/mit_b0 or transformers/OWNER/NAME (docs/backbones.md); in Python also a
            `SemanticEncoder`, e.g. of `semask.attach`.
        decoder: What makes masks of the features: fpn (Semantic FPN), maskformer, mask2former, mask2former_fapn,
            mask2former_msfapn as published; segmenter, upernet and others of docs/decoders.md.
        num_classes: Classes K of the masks.
        prior_classes: Classes of the semantic priors; null for num_classes. The published COCO-Stuff models have 171
            classes, but priors of 150.
        in_channels: Bands of the image.
        encoder_options: Further arguments of a library's backbone, e.g. {img_size: 512}.
        window: Side of the backbone's own attention windows in cells; null for the published one (12 for Base and
            Large, 7 for the others).
        drop_path: Stochastic depth of the backbone's last block, rising linearly from 0; null for the published 0.3
            (0.1 for nano).
        semantic_window: Scope of the semantic attention of each stage: side of its windows in cells, null for global.
        semantic_depths: Semantic attention blocks of each stage, one number for all or one a stage; 0 is the plain
            backbone, the baseline of the paper.
        residual: What a semantic layer adds its refinement to: normed (its normalised input, as published) or input
            (its input as it came: a fresh layer leaves a pretrained backbone untouched).
        channels: Width of the decoder.
        decoder_options: Settings that only this decoder has, e.g. {level: 2} for segmenter (docs/decoders.md).
        dropout: Share of the decoder's channels that is dropped in training (fpn and maskformer).
        queries: Masks that a mask decoder makes.
        decoder_layers: Transformer layers of a mask decoder; null for the published 6 (maskformer) or 9.
        mean: Mean of each band that images are normalised with, for values in [0, 1]; the default is ImageNet's.
        std: Standard deviation of each band, likewise.

    Raises:
        ValueError: If a name is unknown or the numbers contradict each other.

    >>> import torch
    >>> model = SeMask(encoder="swin_nano", num_classes=5, channels=32).eval()
    >>> output = model(torch.randn(1, 3, 64, 96))
    >>> output.logits.shape, [tuple(prior.shape) for prior in output.priors]
    (torch.Size([1, 5, 16, 24]), [(1, 5, 16, 24), (1, 5, 8, 12), (1, 5, 4, 6), (1, 5, 2, 3)])
    """

    def __init__(
        self,
        encoder: str | SemanticEncoder = "swin_tiny",
        decoder: str | nn.Module = "fpn",
        *,
        num_classes: int = 150,
        prior_classes: int | None = None,
        in_channels: int = 3,
        encoder_options: dict[str, Any] | None = None,
        window: int | None = None,
        drop_path: float | None = None,
        semantic_window: Sequence[int | None] = (7, 7, None, None),
        semantic_depths: int | Sequence[int] = 1,
        residual: Residual = "normed",
        channels: int = 256,
        decoder_options: dict[str, Any] | None = None,
        dropout: float = 0.1,
        queries: int = 100,
        decoder_layers: int | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        counts = {"num_classes": num_classes, "prior_classes": prior_classes, "in_channels": in_channels}
        for name, count in {**counts, "window": window, "channels": channels, "queries": queries}.items():
            if count is not None and count < 1:
                raise ValueError(f"{name} is {count}: give at least 1")
        if not 0 <= (drop_path or 0) <= 1:
            raise ValueError(f"drop_path is {drop_path}: give a share from 0 to 1, or null for the published one")
        if not len(mean) == len(std) == in_channels:
            raise ValueError(
                f"mean has {len(mean)} and std {len(std)} values for in_channels={in_channels}: give one a band"
            )
        self.config: dict[str, Any] = {
            "encoder": encoder if isinstance(encoder, str) else type(encoder).__name__,
            "decoder": decoder if isinstance(decoder, str) else type(decoder).__name__,
            "num_classes": num_classes,
            "prior_classes": prior_classes,
            "in_channels": in_channels,
            "encoder_options": encoder_options,
            "window": window,
            "drop_path": drop_path,
            "semantic_window": list(semantic_window),
            "semantic_depths": semantic_depths if isinstance(semantic_depths, int) else list(semantic_depths),
            "residual": residual,
            "channels": channels,
            "decoder_options": decoder_options,
            "dropout": dropout,
            "queries": queries,
            "decoder_layers": decoder_layers,
            "mean": list(mean),
            "std": list(std),
        }
        self.metadata: dict[str, Any] = {}
        """What the checkpoint says beside the weights: classes, recipe, metrics, versions; empty for a fresh model."""
        if isinstance(encoder, str):
            encoder = SemanticEncoder(
                build_backbone(
                    encoder, in_channels=in_channels, window=window, drop_path=drop_path, options=encoder_options
                ),
                num_classes=prior_classes or num_classes,
                semantic_window=semantic_window,
                semantic_depths=semantic_depths,
                residual=residual,
            )
        self.encoder = encoder
        self.decoder: Any = decoder  # see `decoders` for what it has to offer
        if isinstance(decoder, str):
            self.decoder = build_decoder(
                decoder,
                encoder.channels,
                encoder.strides,
                num_classes=num_classes,
                channels=channels,
                dropout=dropout,
                queries=queries,
                layers=decoder_layers,
                options=decoder_options,
            )
        self.size_divisor: int = math.lcm(self.decoder.size_divisor, self.encoder.backbone.size_divisor)
        """Images are padded with zeros, at the right and the bottom, to a multiple of this."""
        self.prior_decoder = PriorDecoder(
            encoder.semantic_strides,
            first_stride=encoder.strides[0],
            align_corners=self.decoder.prior_align_corners,
        )

    def forward(self, image: Tensor, *, with_prior: bool | None = None, masks_only: bool = False) -> SeMaskOutput:
        """Segment images.

        Args:
            image: Normalised images [B, C, H, W] of any size.
            with_prior: Whether to decode the priors as well; None does so in training only.
            masks_only: Keep neither features nor priors, which a large image needs much memory for, nor make masks of
                a mask decoder's earlier layers, which only the loss looks at.

        Returns:
            Features, priors, class scores [B, K, H/4, W/4] or masks with their classes, and, with the prior,
            `prior_logits` [B, K, H/4, W/4].
        """
        if self.size_divisor > 1:
            image = pad_image(image, self.size_divisor)
        # maps [B, C_i, h_i, w_i], priors [B, K, h_i, w_i]
        features = self.encoder(image, with_priors=not masks_only or bool(with_prior))
        # logits [B, K, h_0, w_0], or masks [B, Q, h_0, w_0] with classes [B, Q, K + 1]
        options = {"auxiliary": not masks_only} if self.decoder.makes_masks else {}
        prediction = self.decoder(features.maps, **options)
        prior_logits = None
        if features.priors and (self.training if with_prior is None else with_prior):
            prior_logits = self.prior_decoder(features.priors, features.maps[0].shape[-2:])  # [B, K, h_0, w_0]
        padded = (image.shape[-2], image.shape[-1])
        maps, priors = ((), ()) if masks_only else features
        return SeMaskOutput(maps, priors, prediction, prior_logits, padded)

    def load_pretrained(self, source: str) -> LoadReport:
        """Load what fits of the weights of others; see `weights.pretrained.load_pretrained`."""
        return load_pretrained(self, source)

    def set_gradient_checkpointing(self, enabled: bool) -> None:
        """Trade time for memory in training: keep no activations inside the backbone's blocks, compute them again."""
        self.encoder.backbone.set_gradient_checkpointing(enabled)

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile in place: the arguments are those of `torch.compile`, where `dynamic` is True unless given.

        Blocks, semantic layers and decoder are compiled by themselves, those of one kind to one program for all sizes
        of images. `torch.compile(model)` makes one of the whole, which takes it many minutes: sizes of windows depend
        on those of the image through a chain of divisions that grows with every stage.
        """
        import torch._dynamo

        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, PROGRAMS)
        for part in (*self.encoder.parts(), self.decoder):
            part.compile(*args, **{"dynamic": True, **kwargs})

    def use_bfloat16(self) -> "SeMask":
        """Predict in bfloat16 from now on, in place: less time and memory, and labels that differ where two are close.

        The encoder and a per-pixel decoder get bfloat16 weights; a mask decoder stays in float32, since positions and
        the logits of many masks need its digits. Images still come as float32.
        """
        self.encoder.bfloat16().register_forward_pre_hook(lambda _, inputs: (inputs[0].bfloat16(), *inputs[1:]))
        if self.decoder.makes_masks:
            self.decoder.register_forward_pre_hook(lambda _, inputs: (tuple(x.float() for x in inputs[0]),))
        else:
            self.decoder.bfloat16()
        return self

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights and a model card into a folder for the Hugging Face Hub; see `hub.save_pretrained`."""
        from semask import hub  # builds on this module

        return hub.save_pretrained(self, folder)

    @staticmethod
    def from_pretrained(
        source: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        device: torch.device | str = "cpu",
        **others: object,
    ) -> "SeMask":
        """Load a model from a folder or the Hugging Face Hub; see `hub.from_pretrained`."""
        if others:
            raise ValueError(
                f"from_pretrained got {', '.join(others)}: a model is what its file says; drop it, or for other "
                "classes or settings train with `semask train --training.pretrained`"
            )
        from semask import hub  # builds on this module

        return hub.from_pretrained(
            source,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
            device=device,
        )

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        token: str | None = None,
        commit_message: str = "Upload a semask model",
        create_pr: bool = False,
    ) -> str:
        """Upload weights and a model card to the Hugging Face Hub; see `hub.push_to_hub`."""
        from semask import hub  # builds on this module

        return hub.push_to_hub(
            self, name, private=private, token=token, commit_message=commit_message, create_pr=create_pr
        )


def build_backbone(
    name: str, *, in_channels: int, window: int | None, drop_path: float | None, options: dict[str, Any] | None
) -> Backbone:
    """Build a backbone by name: a Swin as published, with another window or stochastic depth if given, or a library's.

    Raises:
        ValueError: If there is none of that name, or a setting is not for it.
    """
    if "/" in name:
        if window is not None:
            raise ValueError(f"window is {window}: not for {name}; give model.encoder_options what its library knows")
        from semask.encoders.library import library_backbone

        return library_backbone(name, in_channels=in_channels, drop_path=drop_path, options=options)
    if name not in SIZES:
        raise ValueError(
            f"encoder is {name!r}: choose one of {', '.join(SIZES)}, or timm/MODEL, transformers/mit_b0, "
            "transformers/OWNER/NAME (docs/backbones.md)"
        )
    if options:
        raise ValueError(f"encoder_options are for backbones of libraries, not for {name}: leave them out")
    size = SIZES[name]
    if window is not None:
        size = size._replace(window=window)
    if drop_path is not None:
        size = size._replace(drop_path=drop_path)
    return Swin(size, in_channels=in_channels)
