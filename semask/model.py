"""SeMask: the spine. Every step of the model by name; nothing else knows all of them."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from semask.checkpoints.pretrained import LoadReport, load_pretrained
from semask.decoders.catalog import build_decoder
from semask.decoders.prior import PriorDecoder
from semask.encoders.backbone import Backbone, LibraryBackbone
from semask.encoders.encoder import SemanticEncoder
from semask.encoders.swin import SIZES, Swin
from semask.outputs import SeMaskOutput
from semask.semantic.windows import pad_image
from semask.settings.model import ModelSettings

PROGRAMS = 64
"""Compiled programs that modules of one kind may have: for each width and shift, with and without gradients."""


class SeMask(nn.Module):
    """Semantic segmentation with semantic attention inside a hierarchical transformer (arXiv 2112.12782).

    Args:
        encoder: Backbone under the semantic layers, by name; in Python also a `SemanticEncoder`, e.g. of
            `semask.attach`.
        decoder: What makes masks of the features, by name or as a module; see `decoders` for what it has to offer.
        settings: num_classes, semantic_window, channels and all others that `build.ModelSettings` explains.

    Attributes:
        config: All settings by name, as JSON holds them.
        metadata: What the checkpoint says beside the weights: classes, recipe, metrics, versions; empty for a fresh
            model.
        size_divisor: Images are padded with zeros, at the right and the bottom, to a multiple of this.

    Raises:
        ValueError: If a name is unknown, a number out of range, or numbers contradict each other.

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
        **settings: Any,
    ) -> None:
        super().__init__()
        names = [part if isinstance(part, str) else type(part).__name__ for part in (encoder, decoder)]
        s = ModelSettings(encoder=names[0], decoder=names[1], **settings)
        self.config: dict[str, Any] = s.as_dict()
        self.metadata: dict[str, Any] = {}
        if isinstance(encoder, str):
            backbone = build_backbone(
                encoder,
                in_channels=s.in_channels,
                window=s.window,
                drop_path=s.drop_path,
                options=s.encoder_options,
            )
            if isinstance(backbone, LibraryBackbone):  # what building it again takes, without a folder or the Hub
                self.config |= backbone.described()
            encoder = SemanticEncoder(
                backbone,
                num_classes=s.prior_classes or s.num_classes,
                semantic_window=s.semantic_window,
                semantic_depths=s.semantic_depths,
                residual=s.residual,
            )
        self.encoder = encoder
        self.decoder: Any = decoder
        if isinstance(decoder, str):
            self.decoder = build_decoder(
                decoder,
                encoder.channels,
                encoder.strides,
                num_classes=s.num_classes,
                channels=s.channels,
                dropout=s.dropout,
                queries=s.queries,
                layers=s.decoder_layers,
                options=s.decoder_options,
            )
        self.size_divisor: int = math.lcm(self.decoder.size_divisor, self.encoder.backbone.size_divisor)
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

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights and a model card into a folder for the Hugging Face Hub; see `hub.save_pretrained`."""
        from semask.checkpoints import hub  # builds on this module

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
        from semask.checkpoints import hub  # builds on this module

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
        from semask.checkpoints import hub  # builds on this module

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
