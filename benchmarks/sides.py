"""The sides that can be compared, by name: a function each that builds a step for a case.

reference, reference-bf16    the published computation, written plainly (reference.py)
plain, compiled, ...-bf16    ours in PyTorch, one form of each layer
eager, eager-bf16            ours with the faster layers of `semask.acceleration`, as `Predictor` and `train` run it
timm, timm-bf16              the same on timm's modules, for --encoder timm/tf_efficientnet_lite0, which we have as well
onnx, openvino, ...          ours exported; the file is written once, by a process of its own
transformers/..., smp/...    models of other libraries with random weights, each to the same kind of result

In prediction the reference gives class scores at the image's size, which is what the published code was timed with; all
others go on to the label map. A training step is forward, loss, backward and AdamW, with dropout and stochastic depth.
bf16 is `use_bfloat16` in prediction, `torch.autocast` in training and for the reference.
"""

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import harness
import reference as published
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as TF

from semask import Inference, PixelLoss, SeMask
from semask.acceleration.accelerate import FASTER, accelerate
from semask.acceleration.bfloat16 import use_bfloat16
from semask.acceleration.cross_entropy import accelerate_loss
from semask.builder import build
from semask.data.normalization import Normalization
from semask.outputs import resize
from semask.prediction.predictor import look
from semask.prediction.score_maps import label_map
from semask.synthetic.scene import draw_scene

OPTIMIZATIONS = (*FASTER, "cross_entropy")
"""Every faster form by name: layers, and the loss."""


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        kind: predict, or train for a training step.
        batch: Images of one step.
        size: Height and width of the images.
        encoder: Swin of our model and of the reference.
        classes: Classes K.
        device: cpu or cuda.
        exports: Folder that exported models are kept in.
        threads: Threads of a runtime that is not torch's.
    """

    kind: Literal["predict", "train"]
    batch: int
    size: tuple[int, int]
    encoder: str = "swin_tiny"
    classes: int = 150
    device: str = "cpu"
    exports: str = ""
    threads: int = 1

    @property
    def name(self) -> str:
        """Batch, height and width."""
        return f"{self.batch} x {self.size[0]} x {self.size[1]}"

    def images(self) -> Tensor:
        """Normalized synthetic scenes [B, 3, H, W]: in noise every pixel would border on another class."""
        scenes = [draw_scene(0, i, size=self.size)[0].convert("RGB") for i in range(self.batch)]
        pixels = torch.stack([TF.pil_to_tensor(scene) for scene in scenes])
        return Normalization()(pixels).to(self.device)

    def labels(self) -> Tensor:
        """Random class indices [B, H, W]."""
        return torch.randint(self.classes, (self.batch, *self.size), device=self.device)


def predicting(case: Case, predict: Callable[[Tensor], object], *, bf16: bool = False) -> harness.Step:
    """A step that gives what a model says of images."""
    images = case.images()

    def step() -> object:
        with torch.inference_mode(), precision(case, bf16):
            return predict(images)

    return step


def training(
    case: Case,
    model: nn.Module,
    loss: Callable[[Any, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    bf16: bool = False,
) -> harness.Step:
    """A training step; the loss compares what the model gives with labels [B, H, W]."""
    images, labels = case.images(), case.labels()

    def step() -> None:
        with precision(case, bf16):
            total = loss(model(images), labels)
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def precision(case: Case, bf16: bool) -> contextlib.AbstractContextManager[Any]:
    return torch.autocast(torch.device(case.device).type, torch.bfloat16, enabled=bf16)


def semask(case: Case, *, timm: bool = False) -> SeMask:
    drop_path = 0.0 if timm else None  # with an option of timm, its own modules are built
    model = build(case.encoder, num_classes=case.classes, drop_path=drop_path)
    return model.to(case.device).train(case.kind == "train")


def reference(case: Case, *, bf16: bool = False) -> harness.Step:
    """The published computation; AdamW has one group of parameters, as it was timed."""
    model = published.Reference.from_ours(semask(case)).to(case.device)
    if case.kind == "train":
        return training(case, model, published.loss, torch.optim.AdamW(model.parameters(), lr=1e-4), bf16=bf16)
    return predicting(case, lambda images: published.resize(model(images).logits, case.size), bf16=bf16)


def ours(
    case: Case,
    *,
    faster: Collection[str] = OPTIMIZATIONS,
    compiled: bool = False,
    bf16: bool = False,
    timm: bool = False,
) -> harness.Step:
    """SeMask in PyTorch, with some of the faster forms or all, as `Predictor` and `semask train` run it."""
    model = accelerate(semask(case, timm=timm), only=[name for name in faster if name in FASTER])
    if bf16 and case.kind == "predict":
        use_bfloat16(model)
    if compiled:
        model.compile()
    if case.kind == "predict":
        return predicting(case, partial(labels, model, case=case))
    from semask.settings.training import Training  # needs the extra `train`
    from semask.training.parameters import parameter_groups  # needs the extra `train`

    loss = PixelLoss(average="all")
    if "cross_entropy" in faster:
        loss = accelerate_loss(loss)
    optimizer = torch.optim.AdamW(parameter_groups(model, Training()), lr=1e-4)
    return training(case, model, lambda output, label: loss(output, label).total, optimizer, bf16=bf16)


def labels(model: Any, images: Tensor, *, case: Case) -> Tensor:
    """Class indices [B, H, W] of a model that is called like SeMask."""
    return label_map(look(model, images, Inference()), case.size)


def exported(case: Case, *, format: str, precision: str = "fp32") -> harness.Step:
    """SeMask in another runtime.

    Raises:
        ValueError: If the case is not prediction on the CPU.
    """
    if case.kind == "train" or case.device != "cpu":
        raise ValueError(f"{format} is measured in prediction on the CPU: leave it out of --sides")
    from semask.engines.catalog import find
    from semask.engines.runtime import load_exported

    path = Path(case.exports) / f"{case.encoder}-{case.classes}-{precision}{find(format).ending}"
    if not path.exists():
        harness.apart(write_export, path, format, precision, case)
    return predicting(case, partial(labels, load_exported(path, threads=case.threads), case=case))


def write_export(path: Path, format: str, precision: str, case: Case) -> None:
    """Export a model with random weights; int8 is calibrated on synthetic scenes, and its labels are not looked at."""
    from semask.checkpoints.saving import save
    from semask.engines.export import export
    from semask.synthetic.dataset import write_synthetic

    weights = save(path.with_suffix(".safetensors"), semask(case), {})
    scenes = write_synthetic(path.parent / "scenes", train=8, val=1) / "images" / "train"
    settings: Any = {"format": format, "precision": precision}
    export(str(weights), **settings, out=str(path), images=[str(scenes)], checks=1, limit=100)


def other(case: Case, *, make: Callable[[Case], nn.Module], trains: bool = True) -> harness.Step:
    """A model of another library: images -> class scores [B, K, h, w].

    Raises:
        ValueError: If it can't be trained with labels of pixels.
    """
    model = make(case).to(case.device).train(case.kind == "train")
    if case.kind == "predict":
        return predicting(case, lambda images: resize(model(images), case.size).argmax(1))
    if not trains:
        raise ValueError("mask2former needs a loss for masks, which is not measured here: leave it out of --sides")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    return training(case, model, lambda scores, label: F.cross_entropy(resize(scores, case.size), label), optimizer)


class Scores(nn.Module):
    """Class scores [B, K, h, w] of a model of `transformers`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        output = self.model(pixel_values=images)
        if hasattr(output, "logits"):
            return output.logits
        classes = output.class_queries_logits.softmax(-1)[..., :-1]
        return torch.einsum("bqk,bqhw->bkhw", classes, output.masks_queries_logits.sigmoid())


def swin_tiny() -> Any:
    from transformers import SwinConfig

    return SwinConfig(
        embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7, drop_path_rate=0.3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip


def upernet_swin_tiny(case: Case) -> nn.Module:
    from transformers import UperNetConfig, UperNetForSemanticSegmentation

    config = UperNetConfig(
        backbone_config=swin_tiny(), num_labels=case.classes, use_auxiliary_head=case.kind == "train"
    )
    return Scores(UperNetForSemanticSegmentation(config))


def segformer_b2(case: Case) -> nn.Module:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        depths=[3, 4, 6, 3], hidden_sizes=[64, 128, 320, 512], decoder_hidden_size=768, num_labels=case.classes
    )
    return Scores(SegformerForSemanticSegmentation(config))


def mask2former_swin_tiny(case: Case) -> nn.Module:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    config = Mask2FormerConfig(backbone_config=swin_tiny(), num_labels=case.classes, num_queries=100)
    return Scores(Mask2FormerForUniversalSegmentation(config))


def smp_model(case: Case, *, decoder: str, encoder: str) -> nn.Module:
    import segmentation_models_pytorch as smp

    fixed = {"img_size": case.size} if encoder.startswith("tu-swin") else {}  # timm's Swin is built for one size
    return smp.create_model(decoder, encoder, encoder_weights=None, classes=case.classes, **fixed)


SIDES: dict[str, harness.Builder] = {
    "reference": reference,
    "reference-bf16": partial(reference, bf16=True),
    "plain": partial(ours, faster=()),
    "plain-bf16": partial(ours, faster=(), bf16=True),
    "eager": ours,
    "eager-bf16": partial(ours, bf16=True),
    "timm": partial(ours, timm=True),
    "timm-bf16": partial(ours, timm=True, bf16=True),
    "compiled": partial(ours, faster=(), compiled=True),
    "compiled-bf16": partial(ours, faster=(), compiled=True, bf16=True),
    "onnx": partial(exported, format="onnx"),
    "onnx-int8": partial(exported, format="onnx", precision="int8"),
    "openvino": partial(exported, format="openvino"),
    "openvino-bf16": partial(exported, format="openvino", precision="bf16"),
    "openvino-int8": partial(exported, format="openvino", precision="int8"),
    "transformers/upernet-swin-tiny": partial(other, make=upernet_swin_tiny),
    "transformers/segformer-b2": partial(other, make=segformer_b2),
    "transformers/mask2former-swin-tiny": partial(other, make=mask2former_swin_tiny, trains=False),
    "smp/upernet-swin-tiny": partial(
        other, make=partial(smp_model, decoder="upernet", encoder="tu-swin_tiny_patch4_window7_224")
    ),
    "smp/upernet-mit-b2": partial(other, make=partial(smp_model, decoder="upernet", encoder="mit_b2")),
    "smp/segformer-b2": partial(other, make=partial(smp_model, decoder="segformer", encoder="mit_b2")),
}


def optimizations(names: Sequence[str], *, alone: bool, bf16: bool) -> dict[str, harness.Builder]:
    """Sides with and without each of some optimizations.

    Args:
        names: Of `OPTIMIZATIONS`.
        alone: Compare the plain model with each optimization by itself; otherwise all of them with all but one.
        bf16: Whether to compute in bfloat16.

    Raises:
        ValueError: If there is no optimization of a name.
    """
    if unknown := [name for name in names if name not in OPTIMIZATIONS]:
        raise ValueError(f"no optimization {', '.join(unknown)}: choose from {', '.join(OPTIMIZATIONS)}")
    if alone:
        sets = {"plain": (), **{f"only {name}": (name,) for name in names}}
    else:
        others = {f"without {name}": tuple(x for x in OPTIMIZATIONS if x != name) for name in names}
        sets = {"all": OPTIMIZATIONS, **others}
    return {side: partial(ours, faster=faster, bf16=bf16) for side, faster in sets.items()}


def choose(names: list[str]) -> dict[str, harness.Builder]:
    """The sides of these names, in their order.

    Raises:
        ValueError: If there is none of a name.
    """
    if unknown := [name for name in names if name not in SIDES]:
        raise ValueError(f"no side {', '.join(unknown)}: choose of {', '.join(SIDES)}")
    return {name: SIDES[name] for name in names}
