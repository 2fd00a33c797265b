"""A hierarchical backbone with a semantic layer after each stage: the figure of the paper as a loop."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from semask.outputs import Features
from semask.semantic.layer import Residual, SemanticLayer


class Backbone(Protocol):
    """What a hierarchical backbone has to offer; feature maps are [B, h, w, C]."""

    @property
    def stem(self) -> nn.Module:
        """Image [B, in_channels, H, W] -> [B, h, w, C]."""

    @property
    def stages(self) -> nn.ModuleList:
        """Each begins with its own downsampling: [B, h, w, C] -> [B, h', w', C']."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels after each stage."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Image pixels per feature cell after each stage."""


class SemanticEncoder(nn.Module):
    """Runs a backbone stage by stage and puts a semantic layer after each one.

    SeMask (arXiv 2112.12782), figure 2.

    Args:
        backbone: Stem, stages, channels and strides; see `Backbone`.
        num_classes: Classes K of the semantic priors.
        semantic_window: Scope of the semantic attention of each stage: side of its windows in cells, None for global.
        semantic_depths: Semantic attention blocks of each stage, one number for all or one a stage; 0 leaves the stage
            without a semantic layer, 0 everywhere is the plain backbone.
        residual: What semantic layers add to, see `SemanticLayer`.

    Raises:
        ValueError: If the number of windows or depths is not the number of stages.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        num_classes: int,
        semantic_window: Sequence[int | None],
        semantic_depths: int | Sequence[int] = 1,
        residual: Residual = "normed",
    ) -> None:
        super().__init__()
        stages = len(backbone.channels)
        depths = (semantic_depths,) * stages if isinstance(semantic_depths, int) else tuple(semantic_depths)
        if len(depths) != stages or min(depths) < 0:
            raise ValueError(
                f"semantic_depths is {depths}, but the encoder has {stages} stages: give one number for all "
                "or one a stage, 0 for a stage without a semantic layer"
            )
        if any(depths) and len(semantic_window) != stages:
            raise ValueError(
                f"semantic_window has {len(semantic_window)} values, but the encoder has {stages} stages: "
                "give one a stage, None (null in YAML) for global attention"
            )
        self.backbone = backbone
        self.channels = backbone.channels
        self.strides = backbone.strides
        self.semantic_strides = tuple(s for s, depth in zip(self.strides, depths, strict=True) if depth)
        self.semantic_layers = nn.ModuleList(
            SemanticLayer(channels, num_classes, window=semantic_window[i], depth=depth, residual=residual)
            if depth
            else nn.Identity()
            for i, (channels, depth) in enumerate(zip(self.channels, depths, strict=True))
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in self.channels)
        self.semantic_layers.apply(init_linear)

    def forward(self, image: Tensor) -> Features:
        """Encode an image.

        Args:
            image: Normalised image [B, C, H, W] of any size.

        Returns:
            A map [B, C_i, h_i, w_i] of every stage, and a prior [B, K, h_i, w_i] of every semantic layer.
        """
        maps, priors = [], []
        x = self.backbone.stem(image)
        for stage, semantic_layer, norm in zip(self.backbone.stages, self.semantic_layers, self.norms, strict=True):
            x = stage(x)
            if isinstance(semantic_layer, SemanticLayer):
                x, prior = semantic_layer(x)  # the next stage gets the refined features
                priors.append(prior)
            maps.append(norm(x).permute(0, 3, 1, 2))
        return Features(tuple(maps), tuple(priors))


def init_linear(module: nn.Module) -> None:
    """Initialise a Linear as the encoder's are: truncated normal, std 0.02, bias 0.

    This holds for the projection of the semantic attention too: with scale and projection both at zero, neither would
    ever get a gradient.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
