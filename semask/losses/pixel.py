"""The loss of per-pixel decoders: cross-entropy of the logits plus the weighted cross-entropy of the prior."""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from semask.data.classes import IGNORE_INDEX
from semask.files.schema import Range, Weight, require_fields
from semask.losses.class_weights import Weighting, weights_from_counts
from semask.losses.label import LabelCounts, check_label
from semask.losses.mining import hard_pixels
from semask.losses.presence import presence_loss
from semask.losses.region import dice_loss, focal_sum, lovasz_loss
from semask.outputs import PixelOutput, SeMaskOutput, resize

Average = Literal["valid", "all"]


class Losses(NamedTuple):
    """What a loss is made of; scalars."""

    total: Tensor
    """main + prior_weight * prior: what training minimizes."""
    main: Tensor
    """Loss of the decoder: cross-entropy of the logits, and its auxiliary terms with their weights."""
    prior: Tensor
    """Cross-entropy of the summed priors, before its weight; 0 for a model without semantic layers."""


@dataclass(frozen=True)
class PixelLoss:
    """Cross-entropy of the logits plus `prior_weight` times the cross-entropy of the prior.

    SeMask (arXiv 2112.12782), section 3.3, equation 4.

    Attributes:
        prior_weight: Weight of the prior's loss, the paper's alpha.
        class_weights: Weight of each class in both terms; None weighs all alike. Or how training computes them from the
            pixels of the training masks: inverse (1 / pixels), median (1 / frequency in the images that show the class)
            or effective (1 / effective number of samples). Their mean is 1; the run's recipe holds the numbers.
        ohem_min_kept: Hard example mining for the main term: only this many pixels per image with the largest loss
            count (over the whole batch, None: all pixels count). Each call mines and averages its own batch, whatever
            `counts` says: a pass in training, on each process.
        ohem_threshold: With mining, also keep every pixel whose label got less than this probability (0 to 1).
        auxiliary_weight: Weight of the cross-entropy of each auxiliary head, for decoders that have some.
        presence_weight: Weight of the loss of which classes are in the image, for decoders that score it.
        average: What the sum over pixels is divided by. valid: the weight of the pixels that count, in training of
            all passes and processes of the step; all: all pixels of the batch, ignored ones too, as the published
            recipes do.
        class_weights_beta: Of the class weights "effective": 0 weighs all classes alike, towards 1 they become inverse.
        cross_entropy_weight: Weight of the cross-entropy of the logits in the main term.
        focal_weight: Weight of the focal loss of the logits in the main term; like the cross-entropy it takes
            `class_weights` and `average`.
        focal_gamma: How strongly the focal loss leaves out pixels that are right already.
        dice_weight: Weight of the Dice loss of the logits in the main term: every class of the batch counts alike. It
            needs the extra "decoders". Each call averages its own batch, a pass in training, on each process.
        lovasz_weight: Weight of the Lovasz-softmax loss, which stands for IoU; otherwise as the Dice loss.

    Raises:
        ValueError: If a setting is out of its range, or all weights of the main term are 0.

    >>> from semask.outputs import PixelOutput
    >>> logits = torch.zeros(1, 2, 4, 4)
    >>> output = SeMaskOutput((), (), prediction=PixelOutput(logits), prior_logits=logits)
    >>> PixelLoss()(output, torch.zeros(1, 8, 8, dtype=torch.long)).total
    tensor(0.9704)
    """

    prior_weight: Weight = 0.4
    class_weights: tuple[Weight, ...] | Weighting | None = None
    ohem_min_kept: Annotated[int, Range(1, 2**31)] | None = None
    ohem_threshold: Annotated[float, Range(0, 1, above=True)] | None = None
    auxiliary_weight: Weight = 0.4
    presence_weight: Weight = 0.2
    average: Average = "valid"
    class_weights_beta: Annotated[float, Range(0, 1, below=True)] = 0.9
    cross_entropy_weight: Weight = 1.0
    focal_weight: Weight = 0.0
    focal_gamma: Annotated[float, Range(0, 10)] = 2.0
    dice_weight: Weight = 0.0
    lovasz_weight: Weight = 0.0

    def __post_init__(self) -> None:
        require_fields(self, "loss")
        if not any((self.cross_entropy_weight, self.focal_weight, self.dice_weight, self.lovasz_weight)):
            raise ValueError(
                "loss.cross_entropy_weight, focal_weight, dice_weight and lovasz_weight are all 0: the decoder would "
                "learn nothing; give one of them above 0"
            )
        if self.ohem_threshold is not None and self.ohem_min_kept is None:
            raise ValueError("loss.ohem_threshold is given without loss.ohem_min_kept: give both, or set it to null")

    def for_counts(self, pixels: NDArray[np.integer]) -> "PixelLoss":
        """Fill in class weights that are to be computed, as training does.

        Args:
            pixels: Pixels of each class in each training mask, [N, K].

        Raises:
            ValueError: If no pixel is labeled.

        >>> PixelLoss(class_weights="inverse").for_counts(np.array([[30, 10]])).class_weights
        (0.5, 1.5)
        """
        if not isinstance(self.class_weights, str):
            return self
        weights = weights_from_counts(self.class_weights, pixels, beta=self.class_weights_beta)
        return replace(self, class_weights=weights)

    def __call__(self, output: SeMaskOutput, label: Tensor, *, counts: LabelCounts | None = None) -> Losses:
        """Compare what a model gave with the label.

        Args:
            output: Result of `SeMask.forward` with its prior logits.
            label: Class indices [B, H, W], int64; 255 is ignored. Classes that the prior does not know are ignored by
                the prior's term.
            counts: What `average: valid` divides by, if not by what there is in this label.

        Raises:
            ValueError: If the label does not fit the output, or `class_weights` has not one value a class.
        """
        check_label(label, output.logits.shape[1], batch=len(output.logits), size=output.padded)
        size = output.padded or (label.shape[-2], label.shape[-1])
        main = self._main(output.logits, label, size, counts)
        prediction = output.prediction
        if isinstance(prediction, PixelOutput):
            for logits in prediction.auxiliary:
                main = main + self.auxiliary_weight * self._term(logits, label, size, counts)
            if prediction.presence is not None:
                main = main + self.presence_weight * presence_loss(prediction.presence, label)
        if output.prior_logits is None:
            return Losses(main, main, torch.zeros_like(main))
        prior_label = label.masked_fill(label >= output.prior_logits.shape[1], IGNORE_INDEX)
        prior = self._term(output.prior_logits, prior_label, size, counts)
        return Losses(main + self.prior_weight * prior, main, prior)

    def _main(self, logits: Tensor, label: Tensor, size: tuple[int, int], counts: LabelCounts | None) -> Tensor:
        """Cross-entropy of the decoder's logits [B, K, h, w], and what is added to it; see `_term`."""
        total = self.cross_entropy_weight * self._term(logits, label, size, counts, mine=self.ohem_min_kept is not None)
        if not (self.focal_weight or self.dice_weight or self.lovasz_weight):
            return total
        scores = full_scores(logits.to(torch.promote_types(logits.dtype, torch.float32)), label, size)
        if self.focal_weight:
            weights = self._weights(scores)
            focal = focal_sum(scores, label, weights, gamma=self.focal_gamma)
            total = total + self.focal_weight * self._mean(focal, label, weights, counts, classes=scores.shape[1])
        if self.dice_weight:
            total = total + self.dice_weight * dice_loss(scores, label)
        if self.lovasz_weight:
            total = total + self.lovasz_weight * lovasz_loss(scores, label)
        return total

    def _term(
        self, logits: Tensor, label: Tensor, size: tuple[int, int], counts: LabelCounts | None, *, mine: bool = False
    ) -> Tensor:
        """Cross-entropy of logits [B, K, h, w], resized to the (padded) image's size, with the label [B, H, W]."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weights = self._weights(logits)
        if not mine:
            total = self.cross_entropy_sum(logits, label, size, weights)
            return self._mean(total, label, weights, counts, classes=logits.shape[1])
        scores, losses = cross_entropy(logits, label, size, weights)
        kept, threshold = self.ohem_min_kept or 0, self.ohem_threshold
        valid = label != IGNORE_INDEX
        valid = hard_pixels(losses.detach(), scores.detach(), label, valid, kept=kept, threshold=threshold)
        counted = label.masked_fill(~valid, IGNORE_INDEX)
        return self._mean((losses * valid).sum(), counted, weights, None, classes=logits.shape[1])

    def _mean(
        self, total: Tensor, label: Tensor, weights: Tensor | None, counts: LabelCounts | None, *, classes: int
    ) -> Tensor:
        """Divide a sum over the pixels of a label [B, H, W] as `average` says."""
        if self.average == "all":
            return total / label.numel()
        if counts is not None:
            divisor = counts.weight(classes, weights)
        else:
            valid = label != IGNORE_INDEX
            divisor = (valid if weights is None else valid * weights[label.where(valid, 0)]).sum()
        return total / divisor.clamp(min=torch.finfo(total.dtype).tiny)  # 0, not NaN, without a valid pixel

    def cross_entropy_sum(self, logits: Tensor, label: Tensor, size: tuple[int, int], weights: Tensor | None) -> Tensor:
        """Sum of `cross_entropy` over all pixels: a scalar."""
        return cross_entropy(logits, label, size, weights)[1].sum()

    def _weights(self, logits: Tensor) -> Tensor | None:
        """Weight of each class [K] for logits [B, K, h, w]."""
        if self.class_weights is None:
            return None
        if isinstance(self.class_weights, str):
            raise ValueError(
                f"loss.class_weights is {self.class_weights}, which training computes from its masks: give numbers, or "
                "call for_counts with the pixels of each class in each mask"
            )
        if len(self.class_weights) < logits.shape[1]:
            raise ValueError(
                f"loss.class_weights has {len(self.class_weights)} values for {logits.shape[1]} classes: give one each"
            )
        return logits.new_tensor(self.class_weights[: logits.shape[1]])


def cross_entropy(
    logits: Tensor, label: Tensor, size: tuple[int, int], weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compare logits [B, K, h, w], resized to the (padded) image's size, with the label [B, H, W].

    Returns:
        The scores [B, K, H, W] and the loss of each pixel [B, H, W], 0 where it is ignored.
    """
    scores = full_scores(logits, label, size)
    return scores, F.cross_entropy(scores, label, weights, ignore_index=IGNORE_INDEX, reduction="none")


def full_scores(logits: Tensor, label: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize logits [B, K, h, w] to the (padded) image's size, and leave out what the padding got: [B, K, H, W]."""
    scores = resize(logits.contiguous(), size)  # the layout of F.cross_entropy, which would copy the large scores
    return scores[..., : label.shape[-2], : label.shape[-1]]
