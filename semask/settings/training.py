"""Optimizer, schedule and logging: the section `training` of a recipe."""

import dataclasses
from typing import Annotated, Literal

from semask.files.schema import Probability, Range, quoted, require_fields
from semask.settings.precision import Asked

Beta = Annotated[float, Range(0, 1, below=True)]
Tracker = Literal[
    "tensorboard", "wandb", "mlflow", "comet_ml", "aim", "clearml", "dvclive", "swanlab", "trackio"
]  # fmt: skip
"""Trackers of experiments that Accelerate knows."""
METRICS = ("miou", "mean_accuracy", "overall_accuracy")
CLASS = "iou:"
"""What comes before the name of a class whose IoU decides."""


@dataclasses.dataclass(frozen=True)
class Training:
    """Optimizer, schedule and logging settings.

    Attributes:
        steps: Optimizer steps; with `epochs` or `minutes` it becomes what they amount to.
        epochs: How often every training image is seen; decides instead of `steps`. Null for `steps`.
        minutes: Time for the whole run with its evaluations; decides instead of `steps`, by the time that the first
            steps take. Null for no limit.
        batch_size: Images of one step, over all processes and accumulated passes together.
        accumulate: Passes whose gradients are summed into one step: memory against time.
        lr: Highest learning rate.
        encoder_lr: Factor on the learning rate of the encoder; the published Mask2Former models use 0.1.
        layer_decay: Factor on the learning rate for every layer below the decoder, e.g. 0.75: the stem learns slowest.
            Layers are the blocks of a Swin, the stages of other backbones. Null for none.
        freeze_encoder_steps: First steps in which the backbone stays as it is; semantic layers and decoder learn.
        weight_decay: AdamW's weight decay; LayerNorm, GroupNorm, embeddings and relative position tables have none, as
            published.
        betas: AdamW's moments.
        warmup_steps: Steps in which the learning rate rises linearly; with `epochs` or `minutes` a tenth of all at
            most.
        warmup_ratio: Share of the learning rate at the first step.
        power: Exponent of the polynomial decay; 1 is linear.
        min_lr: Learning rate at the end.
        precision: fp32, bf16, fp16 (needs a GPU), or auto: bf16 where the device computes in it, else fp32; a run keeps
            what it was started with.
        clip_norm: Largest norm of the gradient; null does not clip.
        gradient_checkpointing: Keep no activations inside the backbone's blocks and compute them again: less memory.
        compile: Let torch.compile make the kernels: minutes before the first step. Other rounding than without;
            what it saves on a GPU is not measured.
        ema: Decay of the moving average of the weights, e.g. 0.999; the average is evaluated and saved. Null for none.
        sync_batchnorm: Share BatchNorm's statistics between the GPUs.
        parallel: What several processes do. ddp: each has the whole model (DistributedDataParallel). fsdp: weights,
            gradients, moments and moving average are shared out (FSDP2), which takes less memory and more traffic.
        pretrained: Weights to start from: of a Swin a timm name, of a library's backbone "library" for its own;
            OWNER/NAME on the Hugging Face Hub, the name of a published model, "street" (the model in the package), a
            file, a folder, or "package:NAME"
            (docs/backbones.md, docs/checkpoints.md); null for none.
        seed: Decides on weights, order, augmentation and dropout.
        log_every: Steps between two lines of the log.
        save_every: Steps between two checkpoints.
        evaluate_every: Steps between two evaluations on the validation split; 0 evaluates at the end only.
        patience: Evaluations without a better score after which the run ends; null for none.
        best_by: Score that decides which checkpoint is the best: miou, mean_accuracy, overall_accuracy, or iou:NAME for
            the IoU of one class.
        samples: Validation images that every evaluation draws: always the same ones.
        report: Write report.html into the folder of the run at every evaluation: curves, scores, confusion matrix and
            samples; at the end with the worst and the best validation images. Needs the extra "report". If the
            page can't be written, the run warns and goes on.
        log_with: Trackers that get curves: tensorboard, wandb, mlflow, comet_ml, aim, clearml, dvclive, swanlab,
            trackio.
        cpu: Train on the CPU even if there is a GPU.

    Raises:
        ValueError: If a setting is out of its range.
    """

    steps: Annotated[int, Range(1, 10**8)] = 80_000
    epochs: Annotated[float, Range(0, 1e6, above=True)] | None = None
    minutes: Annotated[float, Range(0, 1e6, above=True)] | None = None
    batch_size: Annotated[int, Range(1, 2**16)] = 16
    accumulate: Annotated[int, Range(1, 2**12)] = 1
    lr: Annotated[float, Range(0, 100, above=True)] = 1e-4
    encoder_lr: Annotated[float, Range(0, 1e4, above=True)] = 1.0
    layer_decay: Annotated[float, Range(0, 1, above=True)] | None = None
    freeze_encoder_steps: Annotated[int, Range(0, 10**8)] = 0
    weight_decay: Annotated[float, Range(0, 100)] = 1e-4
    betas: tuple[Beta, Beta] = (0.9, 0.999)
    warmup_steps: Annotated[int, Range(0, 10**8)] = 1500
    warmup_ratio: Probability = 1e-6
    power: Annotated[float, Range(0, 10)] = 1.0
    min_lr: Annotated[float, Range(0, 100)] = 0.0
    precision: Asked = "auto"
    clip_norm: Annotated[float, Range(0, 1e9, above=True)] | None = None
    gradient_checkpointing: bool = False
    compile: bool = False
    ema: Annotated[float, Range(0, 1, above=True, below=True)] | None = None
    sync_batchnorm: bool = True
    parallel: Literal["ddp", "fsdp"] = "ddp"
    pretrained: str | None = None
    seed: Annotated[int, Range(0, 2**53)] = 0
    log_every: Annotated[int, Range(1, 10**8)] = 50
    save_every: Annotated[int, Range(1, 10**8)] = 8000
    evaluate_every: Annotated[int, Range(0, 10**8)] = 8000
    patience: Annotated[int, Range(1, 10**8)] | None = None
    best_by: str = "miou"
    samples: Annotated[int, Range(0, 1000)] = 4
    report: bool = False
    log_with: tuple[Tracker, ...] = ("tensorboard",)
    cpu: bool = False

    def __post_init__(self) -> None:
        require_fields(self, "training")
        if self.pretrained is not None and "://" in self.pretrained:
            raise ValueError("training.pretrained is an address: give a name, or download the file and give its path")
        if self.parallel == "fsdp" and self.precision == "fp16":
            raise ValueError("training.parallel is fsdp, which is not for training.precision fp16: use bf16 or fp32")
        if self.epochs is not None and self.minutes is not None:
            raise ValueError("training.epochs and training.minutes are given: both decide how long it trains, give one")
        if self.patience is not None and self.evaluate_every == 0:
            raise ValueError("training.patience counts evaluations, and training.evaluate_every is 0: give some steps")
        if self.best_by not in METRICS and not (self.best_by.startswith(CLASS) and self.best_by != CLASS):
            known = ", ".join(METRICS)
            raise ValueError(
                f"training.best_by is {quoted(self.best_by)}: give one of {known}, or {CLASS}NAME of a class"
            )

    @property
    def warmup(self) -> int:
        """Steps of the warm-up: at most a tenth of a run whose steps follow from its epochs or minutes.

        >>> Training(steps=600, warmup_steps=100, epochs=4).warmup
        60
        """
        follows = self.epochs is not None or self.minutes is not None
        return min(self.warmup_steps, self.steps // 10) if follows else self.warmup_steps

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (from 0): polynomial decay, times a linear warm-up.

        >>> f"{Training().lr_at(0):.1e}, {Training().lr_at(40_000):.1e}"
        '1.0e-10, 5.0e-05'
        """
        lr: float = (self.lr - self.min_lr) * (1 - step / self.steps) ** self.power + self.min_lr
        if step < self.warmup:
            lr *= 1 - (1 - step / self.warmup) * (1 - self.warmup_ratio)
        return lr
