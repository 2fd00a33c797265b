"""The loss of mask decoders: set losses at every layer, plus the weighted cross-entropy of the prior."""

import re
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semask.data.dataset import IGNORE_INDEX
from semask.losses.pixel import Losses
from semask.outputs import MaskOutput, SeMaskOutput
from semask.schema import Range, Weight, require_fields


@dataclass(frozen=True)
class MaskLoss:
    """Set losses of MaskFormer or Mask2Former at every decoder layer plus `prior_weight` times that of the prior.

    Each image's classes are matched to queries; matched queries learn class and mask, the others "no object". Matcher
    and losses are those of `transformers`, in float32 even where the model runs in less.

    Attributes:
        class_weight: Weight of the classes' cross-entropy, and of the class in matching.
        mask_weight: Weight of the masks' loss.
        dice_weight: Weight of the masks' dice loss.
        no_object_weight: Weight of "no object" within the cross-entropy.
        points: Points at which masks are compared (Mask2Former); null compares all pixels, with the focal loss
            (MaskFormer).
        prior_weight: Weight of the prior's loss, the paper's alpha.
    """

    class_weight: Weight = 2.0
    mask_weight: Weight = 5.0
    dice_weight: Weight = 5.0
    no_object_weight: Weight = 0.1
    points: Annotated[int, Range(1, 2**22)] | None = 12544
    prior_weight: Weight = 0.4

    def __post_init__(self) -> None:
        require_fields(self, "mask_loss")

    def __call__(self, output: SeMaskOutput, label: Tensor) -> Losses:
        """Compare what a model gave with the label.

        Args:
            output: Result of `SeMask.forward` of a mask decoder, with its prior logits.
            label: Class indices [B, H, W], int64; 255 is ignored.

        Raises:
            ValueError: If the output is of a per-pixel decoder.
        """
        prediction = output.prediction
        if not isinstance(prediction, MaskOutput):
            raise ValueError("MaskLoss needs the output of a mask decoder: use PixelLoss for fpn")
        height, width = output.padded or label.shape[-2:]
        label = F.pad(label, (0, width - label.shape[2], 0, height - label.shape[1]), value=IGNORE_INDEX)
        weights = {
            "loss_cross_entropy": self.class_weight,
            "loss_mask": self.mask_weight,
            "loss_dice": self.dice_weight,
        }
        terms = self.set_losses(prediction, label)
        main = torch.stack([weights[re.sub(r"_\d+$", "", name)] * x for name, x in terms.items()]).sum()
        if output.prior_logits is None:
            return Losses(main, main, torch.zeros_like(main))
        prior = prior_loss(output.prior_logits, label)
        return Losses(main + self.prior_weight * prior, main, prior)

    def set_losses(self, prediction: MaskOutput, label: Tensor) -> dict[str, Tensor]:
        """Compute the unweighted set losses of every layer, under the names of `transformers`."""
        dtype = torch.promote_types(prediction.masks.dtype, torch.float32)
        present = [torch.unique(x[x != IGNORE_INDEX]) for x in label]
        targets = [(x == classes[:, None, None]).to(dtype) for x, classes in zip(label, present, strict=True)]
        layers = [
            {"class_queries_logits": classes.to(dtype), "masks_queries_logits": masks.to(dtype)}
            for classes, masks in [(prediction.classes, prediction.masks), *prediction.auxiliary]
        ]
        criterion = self.criterion(prediction.classes.shape[-1] - 1).to(label.device, dtype)
        with torch.autocast(label.device.type, enabled=False):
            losses: dict[str, Tensor] = criterion(
                **layers[0], mask_labels=targets, class_labels=present, auxiliary_predictions=layers[1:]
            )
        return losses

    def criterion(self, num_classes: int) -> nn.Module:
        """Build the set loss of `transformers`."""
        # Imported here so that the settings of the loss can be named without the mask extra.
        from transformers import Mask2FormerConfig
        from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss
        from transformers.models.maskformer.modeling_maskformer import MaskFormerHungarianMatcher, MaskFormerLoss

        if self.points is None:
            matcher = MaskFormerHungarianMatcher(self.class_weight, self.mask_weight, self.dice_weight)
            loss: nn.Module = MaskFormerLoss(num_classes, matcher, {}, self.no_object_weight)
            return loss
        config = Mask2FormerConfig(
            class_weight=self.class_weight,
            mask_weight=self.mask_weight,
            dice_weight=self.dice_weight,
            no_object_weight=self.no_object_weight,
            train_num_points=self.points,
        )
        config.num_labels = num_classes
        loss = Mask2FormerLoss(config, {})
        return loss


def prior_loss(prior_logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of the prior, averaged over valid pixels; 0 if there is none.

    Args:
        prior_logits: [B, K, H/4, W/4]; resized with aligned corners, as the published mask models do.
        label: Class indices [B, H, W]; 255 and classes that the prior does not know are ignored.
    """
    label = label.masked_fill(label >= prior_logits.shape[1], IGNORE_INDEX)
    logits = F.interpolate(prior_logits.float(), size=label.shape[-2:], mode="bilinear", align_corners=True)
    total = F.cross_entropy(logits, label, ignore_index=IGNORE_INDEX, reduction="sum")
    return total / (label != IGNORE_INDEX).sum().clamp(min=1)
