"""The loss of mask decoders: set losses at every layer, plus the weighted cross-entropy of the prior."""

import re
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semask.data.classes import IGNORE_INDEX
from semask.decoders.decoder import Decoder, MaskDecoder
from semask.files.schema import Range, Weight, require_fields
from semask.losses.label import LabelCounts, check_label, count_label
from semask.losses.pixel import Losses
from semask.outputs import MaskOutput, SeMaskOutput

AsPublished = Literal["published"]


@dataclass(frozen=True)
class MaskLoss:
    """Set losses of MaskFormer or Mask2Former at every decoder layer plus `prior_weight` times that of the prior.

    Each image's classes are matched to queries; matched queries learn class and mask, the others "no object". Matcher
    and losses are those of `transformers`, in float32 even where the model runs in less. The classes' term is divided
    by the weight of all queries, the masks' terms by the number of masks (at least 1), the prior's by the valid pixels;
    in training by those of all passes and processes of the step.

    Settings that are "published" are those of the decoder: `for_decoder` fills them in, as training does. A loss that
    is called with such settings takes Mask2Former's.

    Attributes:
        class_weight: Weight of the classes' cross-entropy, and of the class in matching. Published: 2, MaskFormer 1.
        mask_weight: Weight of the masks' loss. Published: 5, MaskFormer 20.
        dice_weight: Weight of the masks' dice loss. Published: 5, MaskFormer 1.
        no_object_weight: Weight of "no object" within the cross-entropy.
        points: Points at which masks are compared (Mask2Former); null compares all pixels, with the focal loss
            (MaskFormer). Published: 12544, MaskFormer null.
        prior_weight: Weight of the prior's loss, the paper's alpha.

    Raises:
        ValueError: If a setting is out of its range.
    """

    class_weight: Weight | AsPublished = "published"
    mask_weight: Weight | AsPublished = "published"
    dice_weight: Weight | AsPublished = "published"
    no_object_weight: Weight = 0.1
    points: Annotated[int, Range(1, 2**22)] | AsPublished | None = "published"
    prior_weight: Weight = 0.4

    def __post_init__(self) -> None:
        require_fields(self, "mask_loss")

    def for_decoder(self, decoder: Decoder | None) -> "MaskLoss":
        """Fill in what is left to the decoder: its published settings, Mask2Former's if it says none of itself.

        >>> loss = MaskLoss(dice_weight=3.0).for_decoder(None)
        >>> loss.mask_weight, loss.dice_weight, loss.points
        (5.0, 3.0, 12544)
        """
        published = (decoder if isinstance(decoder, MaskDecoder) else MaskDecoder).loss_settings
        return replace(self, **{name: x for name, x in published.items() if getattr(self, name) == "published"})

    def __call__(self, output: SeMaskOutput, label: Tensor, *, counts: LabelCounts | None = None) -> Losses:
        """Compare what a model gave with the label.

        Args:
            output: Result of `SeMask.forward` of a mask decoder, with its prior logits.
            label: Class indices [B, H, W], int64; 255 is ignored.
            counts: What to divide by, if not by what there is in this label.

        Raises:
            ValueError: If the output is of a per-pixel decoder, or the label does not fit it.
        """
        prediction = output.prediction
        if not isinstance(prediction, MaskOutput):
            raise ValueError("MaskLoss needs the output of a mask decoder: use PixelLoss for fpn")
        B, _, classes = prediction.classes.shape
        check_label(label, classes - 1, batch=B, size=output.padded)
        settings = self.for_decoder(None)
        height, width = output.padded or label.shape[-2:]
        label = F.pad(label, (0, width - label.shape[2], 0, height - label.shape[1]), value=IGNORE_INDEX)
        weights: dict[str, Any] = {
            "loss_cross_entropy": settings.class_weight,
            "loss_mask": settings.mask_weight,
            "loss_dice": settings.dice_weight,
        }
        terms = self.set_losses(prediction, label, counts=counts)
        main = torch.stack([weights[re.sub(r"_\d+$", "", name)] * x for name, x in terms.items()]).sum()
        if output.prior_logits is None:
            return Losses(main, main, torch.zeros_like(main))
        prior = prior_loss(output.prior_logits, label, counts=counts)
        return Losses(main + self.prior_weight * prior, main, prior)

    def set_losses(
        self, prediction: MaskOutput, label: Tensor, *, counts: LabelCounts | None = None
    ) -> dict[str, Tensor]:
        """Compute the unweighted set losses of every layer, under the names of `transformers`.

        Args:
            prediction: What the decoder gave.
            label: Class indices [B, H, W] of the (padded) images.
            counts: What to divide by, if not by what there is in this label.
        """
        dtype = torch.promote_types(prediction.masks.dtype, torch.float32)
        present = [torch.unique(x[x != IGNORE_INDEX]) for x in label]
        targets = [(x == classes[:, None, None]).to(dtype) for x, classes in zip(label, present, strict=True)]
        layers = [
            {"class_queries_logits": classes.to(dtype), "masks_queries_logits": masks.to(dtype)}
            for classes, masks in [(prediction.classes, prediction.masks), *prediction.auxiliary]
        ]
        queries = prediction.classes.shape[1]
        own = count_label(label, prediction.classes.shape[-1] - 1)
        masks = (own if counts is None else counts).masks().clamp(min=torch.finfo(dtype).tiny)
        criterion = self.criterion(prediction.classes.shape[-1] - 1).to(label.device, dtype)
        # The criterion's own number of masks is divided twice by the number of processes, and knows of no passes.
        setattr(criterion, "get_num_masks", lambda *_, **__: masks)  # noqa: B010 - a method of a module
        with torch.autocast(label.device.type, enabled=False):
            losses: dict[str, Tensor] = criterion(
                **layers[0], mask_labels=targets, class_labels=present, auxiliary_predictions=layers[1:]
            )
        if counts is None:
            return losses
        share = self._weight_of_queries(own, queries) / self._weight_of_queries(counts, queries)
        return {name: x * share if name.startswith("loss_cross_entropy") else x for name, x in losses.items()}

    def _weight_of_queries(self, counts: LabelCounts, queries: int) -> Tensor:
        """Weight of all queries in the classes' term: 1 for each that is matched to a mask."""
        matched = counts.masks(most=queries)
        return matched + self.no_object_weight * (counts.images.sum() * queries - matched)

    def criterion(self, num_classes: int) -> nn.Module:
        """Build the set loss of `transformers`."""
        # Imported here so that the settings of the loss can be named without the mask extra.
        from transformers import Mask2FormerConfig
        from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss
        from transformers.models.maskformer.modeling_maskformer import MaskFormerHungarianMatcher, MaskFormerLoss

        settings: Any = self.for_decoder(None)
        if settings.points is None:
            matcher = MaskFormerHungarianMatcher(settings.class_weight, settings.mask_weight, settings.dice_weight)
            loss: nn.Module = MaskFormerLoss(num_classes, matcher, {}, settings.no_object_weight)
            return loss
        config = Mask2FormerConfig(
            class_weight=settings.class_weight,
            mask_weight=settings.mask_weight,
            dice_weight=settings.dice_weight,
            no_object_weight=settings.no_object_weight,
            train_num_points=settings.points,
        )
        config.num_labels = num_classes
        loss = Mask2FormerLoss(config, {})
        return loss


def prior_loss(prior_logits: Tensor, label: Tensor, *, counts: LabelCounts | None = None) -> Tensor:
    """Cross-entropy of the prior, averaged over valid pixels; 0 if there is none.

    Args:
        prior_logits: [B, K, H/4, W/4]; resized with aligned corners, as the published mask models do.
        label: Class indices [B, H, W]; 255 and classes that the prior does not know are ignored.
        counts: What to divide by, if not by the valid pixels of this label.
    """
    label = label.masked_fill(label >= prior_logits.shape[1], IGNORE_INDEX)
    logits = prior_logits.contiguous().to(torch.promote_types(prior_logits.dtype, torch.float32))  # see losses/pixel.py
    logits = F.interpolate(logits, size=label.shape[-2:], mode="bilinear", align_corners=True)
    total = F.cross_entropy(logits, label, ignore_index=IGNORE_INDEX, reduction="sum")
    valid = (label != IGNORE_INDEX).sum() if counts is None else counts.weight(prior_logits.shape[1])
    return total / valid.clamp(min=torch.finfo(total.dtype).tiny)
