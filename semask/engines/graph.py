"""The part of a model that is exported: what predicting takes, with plain tensors in and out."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from semask.acceleration.accelerate import plain
from semask.decoders.deformable import sampled_convolution
from semask.encoders.backbone import LibraryBackbone
from semask.engines.description import LABELS, OUTPUTS
from semask.model import SeMask
from semask.outputs import MaskOutput, PixelOutput, resize
from semask.semantic.windows import padding

EXAMPLE_SIZE = (96, 160)


class Graph(nn.Module):
    """A model as a function of one tensor to tensors, without what only training needs.

    Args:
        model: In evaluation mode; it is not changed.
        labels: Whether to give the label map, and no scores.

    >>> from semask.builder import build
    >>> graph = Graph(build("swin_nano", num_classes=5, channels=32).eval())
    >>> [output.shape for output in graph(torch.randn(2, 3, 64, 96))]
    [torch.Size([2, 5, 16, 24])]
    """

    def __init__(self, model: SeMask, *, labels: bool = False) -> None:
        super().__init__()
        self.model, self.labels = model, labels
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Segment normalized images [B, C, H, W]; gives what `outputs` names, scores in float32."""
        prediction = self.model(image, masks_only=True).prediction
        if self.labels:
            return (self._label_map(prediction, image),)
        if isinstance(prediction, MaskOutput):
            return prediction.classes.float(), prediction.masks.float()
        return (prediction.logits.float(),)

    def _label_map(self, prediction: PixelOutput | MaskOutput, image: Tensor) -> Tensor:
        """Choose the class of each pixel, [B, H, W] uint8, as `score_maps.label_map` does at the size of the image."""
        H, W = image.shape[-2:]
        divisor = self.model.size_divisor
        size = (H + padding(H, divisor), W + padding(W, divisor))
        maps = prediction.masks if isinstance(prediction, MaskOutput) else prediction.logits
        scores = resize(maps.float(), size)[..., :H, :W]
        if isinstance(prediction, MaskOutput):
            classes = prediction.classes.float().softmax(-1)[..., :-1]  # [B, Q, K]
            scores = torch.einsum("bqk,bqhw->bkhw", classes, scores.sigmoid())
        return scores.argmax(dim=1).to(torch.uint8)


@contextlib.contextmanager
def recording(model: nn.Module) -> Iterator[None]:
    """Let a model be recorded for another engine: plain layers, and deformable convolutions of torch's own operations.

    Other engines do not know torchvision's.
    """
    places: list[Any] = [module for module in model.modules() if hasattr(type(module), "convolve")]
    for module in places:
        module.convolve = sampled_convolution
    try:
        with torch.no_grad(), plain(model):
            yield
    finally:
        for module in places:
            del module.convolve


def outputs(model: SeMask, *, labels: bool = False) -> tuple[str, ...]:
    """Names of what the graph of a model gives.

    "logits" [B, K, h, w] of per-pixel decoders; "classes" [B, Q, K + 1] and "masks" [B, Q, h, w] of mask decoders;
    "labels" [B, H, W] of either, if asked for.
    """
    return LABELS if labels else OUTPUTS[bool(model.decoder.makes_masks)]


def example(model: SeMask, sample: Tensor) -> Tensor:
    """Make the images that a graph is recorded with: any will do, small ones are the fastest.

    Args:
        model: Model that is exported.
        sample: A normalized image [1, C, H, W], as it will see them: all that some backbones of libraries can take.

    Returns:
        Two images [2, C, h, w], since a single one would be taken for what always holds.
    """
    image = sample.detach().float()
    if not isinstance(model.encoder.backbone, LibraryBackbone):
        image = torch.zeros_like(image[..., :1, :1]).expand(-1, -1, *EXAMPLE_SIZE)
    return image[:1].repeat(2, 1, 1, 1)


def image_axes(names: Sequence[str]) -> dict[str, dict[int, str]]:
    """Names of the dimensions that may have any size, of the image and of the outputs."""
    maps = {name: {0: "batch", 2: f"{name}_height", 3: f"{name}_width"} for name in ("image", *names)}
    maps |= {"labels": {0: "batch", 1: "image_height", 2: "image_width"}} if "labels" in names else {}
    return {name: {0: "batch"} if name == "classes" else dims for name, dims in maps.items()}
