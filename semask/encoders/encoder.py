"""A hierarchical backbone with a semantic layer after each stage: the figure of the paper as a loop."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from semask.encoders.backbone import Backbone
from semask.encoders.pyramid import SimpleFeaturePyramid
from semask.outputs import Features
from semask.semantic.layer import SemanticLayer
from semask.semantic.residual import Residual


class SemanticEncoder(nn.Module):
    """Runs a backbone stage by stage and puts a semantic layer after each one.

    SeMask (arXiv 2112.12782), figure 2.

    Args:
        backbone: Stem, stages, channels and strides; see `Backbone`.
        num_classes: Classes K of the semantic priors.
        semantic_window: Scope of the semantic attention of each stage: side of its windows in tokens, None for global.
        semantic_depths: Semantic attention blocks of each stage, one number for all or one a stage; 0 leaves the stage
            without a semantic layer, 0 everywhere is the plain backbone.
        residual: What semantic layers add to, see `SemanticLayer`.

    Attributes:
        config: What it is made of, by the names of `ModelSettings`.

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
        self.config: dict[str, Any] = {
            "encoder": type(backbone).__name__,
            "prior_classes": num_classes,
            "semantic_window": list(semantic_window),
            "semantic_depths": list(depths),
            "residual": residual,
        }
        self.backbone = backbone
        self.channels = backbone.channels
        self.pyramid = SimpleFeaturePyramid(self.channels[-1]) if backbone.plain else None
        self.strides = backbone.strides if self.pyramid is None else self.pyramid.strides
        self.semantic_strides = tuple(s for s, depth in zip(backbone.strides, depths, strict=True) if depth)
        self.semantic_layers = nn.ModuleList(
            SemanticLayer(channels, num_classes, window=semantic_window[i], depth=depth, residual=residual)
            if depth
            else nn.Identity()
            for i, (channels, depth) in enumerate(zip(self.channels, depths, strict=True))
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(channels) if backbone.output_norms else nn.Identity() for channels in self.channels
        )
        self.semantic_layers.apply(init_linear)

    def parts(self) -> list[nn.Module]:
        """What is compiled by itself: blocks and semantic layers, or all in one if the backbone names no blocks."""
        blocks = self.backbone.blocks()
        layers = [layer for layer in self.semantic_layers if isinstance(layer, SemanticLayer)]
        return [*blocks, *layers] if blocks else [self]

    def forward(self, image: Tensor, *, with_priors: bool = True) -> Features:
        """Encode an image.

        Args:
            image: Normalized image [B, C, H, W] of any size.
            with_priors: Whether to keep the priors; without, there are none in what is returned.

        Returns:
            A map [B, C_i, h_i, w_i] of every stage, and a prior [B, K, h_i, w_i] of every semantic layer.
        """
        maps, priors = [], []
        with self.backbone.size_errors(image):
            state = self.backbone.stem(image)
            for i, stage in enumerate(self.backbone.stages):
                state = stage(state)
                x = self.backbone.read(state, i)  # [B, h, w, C]
                semantic_layer = self.semantic_layers[i]
                if isinstance(semantic_layer, SemanticLayer):
                    x, prior = semantic_layer(x, with_prior=with_priors)
                    state = self.backbone.write(state, x, i)  # the next stage gets the refined features
                    if prior is not None:
                        priors.append(prior)
                maps.append(self.norms[i](x).permute(0, 3, 1, 2))
        return Features(tuple(maps) if self.pyramid is None else self.pyramid(maps), tuple(priors))


def init_linear(module: nn.Module) -> None:
    """Initialize a Linear as the encoder's are: truncated normal, std 0.02, bias 0.

    This holds for the projection of the semantic attention too: with scale and projection both at zero, neither would
    ever get a gradient.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
