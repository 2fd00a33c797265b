"""The cross-entropy of scores at an image's size, against the number of classes: the sides of `run.py loss`.

"pixels" computes the softmax over maps of a class, so that pixels lie side by side; "classes" over pixels whose classes
do. `semask.acceleration.cross_entropy` takes the first below FEW_CLASSES.
"""

from dataclasses import dataclass
from functools import partial

import harness
import torch

from semask.acceleration import cross_entropy


@dataclass(frozen=True)
class LossCase:
    """What is measured: the loss and its gradient.

    Attributes:
        classes: Classes K.
        batch: Images.
        size: Height and width of the label; the scores are a quarter of it.
        device: cpu or cuda.
    """

    classes: int
    batch: int = 8
    size: tuple[int, int] = (224, 288)
    device: str = "cpu"

    @property
    def name(self) -> str:
        """Batch, size and classes."""
        return f"{self.batch} x {self.size[0]} x {self.size[1]}, {self.classes} classes"


def build(case: LossCase, *, few: int) -> harness.Step:
    height, width = case.size
    logits = torch.randn(case.batch, case.classes, height // 4, width // 4, device=case.device, requires_grad=True)
    label = torch.randint(case.classes, (case.batch, height, width), device=case.device)

    def step() -> None:
        cross_entropy.FEW_CLASSES = few
        torch.autograd.grad(cross_entropy.CrossEntropySum.apply(logits, label, case.size, None), logits)

    return step


LAYOUTS: dict[str, harness.Builder] = {"classes": partial(build, few=0), "pixels": partial(build, few=2**30)}
