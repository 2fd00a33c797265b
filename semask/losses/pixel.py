"""The loss of per-pixel decoders: cross-entropy of the logits plus the weighted cross-entropy of the prior."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from semask.acceleration.kernels import recorded
from semask.data.classes import IGNORE_INDEX
from semask.files.schema import Range, Weight, require_fields
from semask.losses.label import LabelCounts, check_label
from semask.outputs import PixelOutput, SeMaskOutput, at_once, resize, resize_rows, source_rows

Average = Literal["valid", "all"]


class Losses(NamedTuple):
    """What a loss is made of; scalars."""

    total: Tensor
    """main + prior_weight * prior: what training minimises."""
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
        class_weights: Weight of each class in both terms; None weighs all alike.
        ohem_min_kept: Hard example mining for the main term: only this many pixels per image with the largest loss
            count (over the whole batch, None: all pixels count). Each call mines and averages its own batch, whatever
            `counts` says: a pass in training, on each process.
        ohem_threshold: With mining, also keep every pixel whose label got less than this probability (0 to 1).
        auxiliary_weight: Weight of the cross-entropy of each auxiliary head, for decoders that have some.
        presence_weight: Weight of the loss of which classes are in the image, for decoders that score it.
        average: What the sum over pixels is divided by. valid: the weight of the pixels that count, in training of
            all passes and processes of the step; all: all pixels of the batch, ignored ones too, as the published
            recipes do.

    Raises:
        ValueError: If a setting is out of its range.

    >>> from semask.outputs import PixelOutput
    >>> logits = torch.zeros(1, 2, 4, 4)
    >>> output = SeMaskOutput((), (), prediction=PixelOutput(logits), prior_logits=logits)
    >>> PixelLoss()(output, torch.zeros(1, 8, 8, dtype=torch.long)).total
    tensor(0.9704)
    """

    prior_weight: Weight = 0.4
    class_weights: tuple[Weight, ...] | None = None
    ohem_min_kept: Annotated[int, Range(1, 2**31)] | None = None
    ohem_threshold: Annotated[float, Range(0, 1, above=True)] | None = None
    auxiliary_weight: Weight = 0.4
    presence_weight: Weight = 0.2
    average: Average = "valid"

    def __post_init__(self) -> None:
        require_fields(self, "loss")
        if self.ohem_threshold is not None and self.ohem_min_kept is None:
            raise ValueError("loss.ohem_threshold is given without loss.ohem_min_kept: give both, or set it to null")

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
        main = self._term(output.logits, label, size, counts, mine=self.ohem_min_kept is not None)
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

    def _term(
        self,
        logits: Tensor,
        label: Tensor,
        size: tuple[int, int],
        counts: LabelCounts | None,
        *,
        mine: bool = False,
    ) -> Tensor:
        """Cross-entropy of logits [B, K, h, w], resized to the (padded) image's size, with the label [B, H, W]."""
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weights = None if self.class_weights is None else self._weights(logits)
        counted = label != IGNORE_INDEX
        divisor = None if mine or counts is None else counts.weight(logits.shape[1], weights)
        if not mine and not recorded():
            total = CrossEntropySum.apply(logits, label, size, weights)
            return self._mean(total, counted, label, weights, divisor)
        logits = resize(logits, size)[..., : label.shape[-2], : label.shape[-1]]
        # With the classes last, as the decoder leaves them in memory, the softmax needs no copy of all scores.
        rows = logits.permute(0, 2, 3, 1).flatten(0, 2)  # [B * H * W, K]
        losses = F.cross_entropy(rows, label.flatten(), weights, ignore_index=IGNORE_INDEX, reduction="none")
        losses = losses.view_as(label)  # [B, H, W]
        if mine:
            counted = self._hard(losses.detach(), logits.detach(), label, counted)
        return self._mean((losses * counted).sum(), counted, label, weights, divisor)

    def _mean(
        self, total: Tensor, counted: Tensor, label: Tensor, weights: Tensor | None, divisor: Tensor | None
    ) -> Tensor:
        """Divide the sum over the pixels that count, bool [B, H, W], as `average` says.

        That is by their weight, or by `divisor` if it is given.
        """
        if self.average == "all":
            return total / label.numel()
        if divisor is None:
            share = counted if weights is None else counted * weights[label.where(counted, 0)]
            divisor = share.sum()
        return total / divisor.clamp(min=torch.finfo(total.dtype).tiny)  # 0, not NaN, without a valid pixel

    def _hard(self, losses: Tensor, logits: Tensor, label: Tensor, valid: Tensor) -> Tensor:
        """Choose the pixels that count, bool [B, H, W]."""
        keep = min((self.ohem_min_kept or 0) * len(label), int(valid.sum()))
        hard = torch.zeros_like(valid)
        hardness = losses.masked_fill(~valid, -torch.inf).flatten()
        if self.ohem_threshold is not None:
            probability = logits.softmax(1).gather(1, label.where(valid, 0)[:, None]).squeeze(1)
            hardness = -probability.masked_fill(~valid, torch.inf).flatten()
            hard |= valid & (probability < self.ohem_threshold)
        hard.view(-1)[hardness.topk(keep).indices] = True
        return hard

    def _weights(self, logits: Tensor) -> Tensor:
        assert self.class_weights is not None
        if len(self.class_weights) < logits.shape[1]:
            raise ValueError(
                f"loss.class_weights has {len(self.class_weights)} values for {logits.shape[1]} classes: give one each"
            )
        return logits.new_tensor(self.class_weights[: logits.shape[1]])


class CrossEntropySum(torch.autograd.Function):
    """Cross-entropy of scores resized to an image's size, summed over its pixels, strip by strip.

    All scores at the image's size would be the largest tensors of a training step, several times over. Each strip's
    gradient is taken at once and kept at the size of the scores.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, label: Tensor, size: tuple[int, int], weights: Tensor | None) -> Tensor:
        """Compute the sum for logits [B, K, h, w], label [B, H, W] and the image's (padded) size."""
        B, K, h, _ = logits.shape
        valid = label != IGNORE_INDEX
        index = label.where(valid, 0)
        share = valid.to(logits.dtype) if weights is None else valid * weights[index]  # [B, H, W]
        learns = ctx.needs_input_grad[0]
        gradient = torch.zeros_like(logits) if learns else None
        total = logits.new_zeros(())
        step = at_once(logits, K * size[1])
        for image in range(B):
            for first in range(0, label.shape[1], step):
                rows = range(first, min(first + step, label.shape[1]))
                needed = source_rows(rows, h, size[0])
                source = slice(needed.start, needed.stop)
                pixels = (image, slice(rows.start, rows.stop))
                with torch.set_grad_enabled(learns):
                    part = logits[image : image + 1, :, source].detach()
                    part = part.requires_grad_() if learns else part
                    scores = resize_rows(part, size, rows, source=(needed.start, h))[..., : label.shape[2]]
                    scores = scores.permute(0, 2, 3, 1)[0]  # [rows, W, K]: the classes lie side by side
                log_p = scores.detach().log_softmax(dim=-1)
                total -= (log_p.gather(-1, index[pixels][..., None])[..., 0] * share[pixels]).sum()
                if gradient is not None:
                    slope = log_p.exp_()  # of the cross-entropy: probability, less 1 for the label's class
                    slope.scatter_add_(-1, index[pixels][..., None], -torch.ones_like(slope[..., :1]))
                    slope *= share[pixels][..., None]
                    gradient[image : image + 1, :, source] += torch.autograd.grad(scores, part, slope)[0]
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, None, None, None]:
        """Scale the gradient that the forward pass left."""
        (gradient,) = ctx.saved_tensors
        return gradient * scale, None, None, None


def presence_loss(scores: Tensor, label: Tensor) -> Tensor:
    """Binary cross-entropy of scores [B, K] of which classes are in the label [B, H, W] (255 = ignored): a scalar.

    The semantic encoding loss of Context Encoding (Zhang et al., arXiv 1803.08904), section 3.1.
    """
    K = scores.shape[1]
    counts = F.one_hot(label.masked_fill(label >= K, K).flatten(1), K + 1).sum(1)  # [B, K + 1]
    return F.binary_cross_entropy_with_logits(scores.float(), (counts[:, :K] > 0).float())
