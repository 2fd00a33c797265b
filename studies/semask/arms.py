"""The arms of the study: what each changes in the recipe, and in the model that the recipe describes."""

from pathlib import Path

from arm import SYNTHETIC, Arm, layers
from torch import Tensor, nn

from semask import SeMask
from semask.semantic.attention import SemanticAttention
from semask.semantic.layer import SemanticLayer

RECIPE = str(Path(__file__).parent / "recipe.yaml")
SCRATCH = {"model.encoder": "swin_nano", "training.pretrained": None}
PLAIN = {"model.semantic_depths": 0}
MIT = {"model.encoder": "transformers/mit_b0", "training.pretrained": SYNTHETIC}
MASKS = {"model.decoder": "mask2former", "model.queries": 20, "model.decoder_layers": 3}
"""As small as in the recipe of the package for a CPU; the loss of masks has weights of its own, as published."""


class OnlyNorm(SemanticLayer):
    """The LayerNorm of a semantic layer without its attention and prior."""

    def forward(self, x: Tensor, *, with_prior: bool = True) -> tuple[Tensor, None]:
        """Normalize a map [B, h, w, C]."""
        return self.norm(x), None


class PlainAttention(SemanticAttention):
    """Scaled dot-product attention (Vaswani et al. 2017) with the parameters of a semantic attention block."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Compute softmax(query key^T / sqrt(K)) value: [B, N, K], [B, N, K], [B, N, C] -> [B, N, C]."""
        return super().attend(query * query.shape[-1] ** -0.5, key, value)


def without_attention(model: SeMask) -> None:
    """Keep the priors and their supervision; nothing is added to the features."""
    for layer in layers(model):
        for attention in layer.attentions:
            attention.scale.requires_grad_(False)  # it starts at zero
            attention.value.requires_grad_(False)
            attention.projection.requires_grad_(False)
            attention.semantic_key.requires_grad_(False)


def only_norms(model: SeMask) -> None:
    """Put a LayerNorm where each semantic layer is."""
    for layer in layers(model):
        layer.__class__ = OnlyNorm
        layer.attentions = nn.ModuleList()
    model.encoder.semantic_strides = ()


def plain_attention(model: SeMask) -> None:
    """Put plain self-attention of the same parameters where each semantic attention is."""
    for layer in layers(model):
        for attention in layer.attentions:
            attention.__class__ = PlainAttention


ARMS = {
    "plain": Arm("plain backbone and decoder", PLAIN),
    "semask": Arm("SeMask: attention and prior supervision"),
    "prior-only": Arm("prior supervision, no attention", change=without_attention),
    "attention-only": Arm("attention, no prior supervision", {"loss.prior_weight": 0.0}),
    "normed": Arm("SeMask, residual normed, as published", {"model.residual": "normed"}, base="semask"),
    "layer-norm": Arm("a LayerNorm in its place", {"model.residual": "normed"}, only_norms),
    "self-attention": Arm("self-attention of the same parameters", {"loss.prior_weight": 0.0}, plain_attention),
    "window": Arm("SeMask, windows everywhere", {"model.semantic_window": (7, 7, 7, 7)}, base="semask"),
    "global": Arm("SeMask, global everywhere", {"model.semantic_window": (None,) * 4}, base="semask"),
    "prior-0.1": Arm("SeMask, prior weight 0.1", {"loss.prior_weight": 0.1}, base="semask"),
    "prior-1": Arm("SeMask, prior weight 1", {"loss.prior_weight": 1.0}, base="semask"),
    "plain-nano": Arm("Swin-nano from scratch, plain", {**SCRATCH, **PLAIN}, base="plain-nano"),
    "semask-nano": Arm("Swin-nano from scratch, SeMask", {**SCRATCH, "model.residual": "normed"}, base="plain-nano"),
    "plain-upernet": Arm("UPerNet decoder, plain", {**PLAIN, "model.decoder": "upernet"}, base="plain-upernet"),
    "semask-upernet": Arm("UPerNet decoder, SeMask", {"model.decoder": "upernet"}, base="plain-upernet"),
    "plain-mit": Arm("MiT-B0 pretrained on synthetic scenes, plain", {**MIT, **PLAIN}, base="plain-mit"),
    "semask-mit": Arm("MiT-B0 pretrained on synthetic scenes, SeMask", MIT, base="plain-mit"),
    "plain-masks": Arm("Mask2Former decoder, plain", {**MASKS, **PLAIN}, base="plain-masks"),
    "semask-masks": Arm("Mask2Former decoder, SeMask", MASKS, base="plain-masks"),
    "plain-tenth": Arm("a tenth of the images, plain", PLAIN, base="plain-tenth", share=0.1),
    "semask-tenth": Arm("a tenth of the images, SeMask", base="plain-tenth", share=0.1),
}
"""Name -> arm."""
