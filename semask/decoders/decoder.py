"""What every decoder is, and says of itself."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from semask.outputs import MaskOutput, PixelOutput


class Decoder(nn.Module):
    """Maps [B, C_i, h_i, w_i] of the stages to class scores.

    A subclass has `__init__(self, in_channels, strides, *, num_classes, ...)` and the `forward` below; its own settings
    are keyword arguments with a range (`Annotated[int, Range(1, 8)]`), since files of anybody may give them.

    Args:
        num_classes: Classes K.

    Attributes:
        makes_masks: Whether it gives a `MaskOutput`, and is trained with `MaskLoss`.
        size_divisor: Images are padded to a multiple of this.
        prior_align_corners: Whether corners are aligned where priors are resized for the loss.
        skips_maps: Whether it leaves some maps out, which several processes have to know when they train together.
        config: What it was built with, by the names of `ModelSettings`.
    """

    makes_masks: bool = False
    size_divisor: int = 1
    prior_align_corners: bool = False
    skips_maps: bool = False

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.config: dict[str, Any] = {"decoder": type(self).__name__, "num_classes": num_classes}

    def forward(self, maps: Sequence[Tensor]) -> PixelOutput | MaskOutput:
        """Decode the normalized maps [B, C_i, h_i, w_i] of the stages, fine to coarse.

        Returns:
            Class scores [B, K, h, w], or of a `MaskDecoder` masks [B, Q, h_0, w_0] with classes [B, Q, K + 1].
        """
        raise NotImplementedError


class MaskDecoder(Decoder):
    """Maps of the stages to Q masks, each with scores of its class.

    Attributes:
        loss_settings: What `MaskLoss` has to be for it, as published; here those of Mask2Former.
    """

    makes_masks = True
    size_divisor = 32
    prior_align_corners = True
    loss_settings: ClassVar[Mapping[str, Any]] = {
        "class_weight": 2.0,
        "mask_weight": 5.0,
        "dice_weight": 5.0,
        "points": 12544,
    }

    def forward(self, maps: Sequence[Tensor], *, auxiliary: bool = True) -> MaskOutput:
        """Decode the maps; with `auxiliary` also the masks after each earlier layer are given, for the loss."""
        raise NotImplementedError
