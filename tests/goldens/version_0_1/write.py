"""Writes files of every kind that version 0.1 wrote; to be run with its code, not with this one.

    PYTHONPATH=CHECKOUT_OF_0.1 python tests/goldens/version_0_1/write.py tests/goldens/version_0_1/files.tar.xz

Weights repeat themselves, so that megabytes of them become kilobytes in the archive. `outputs.npz` and `predicted` are
what version 0.1 made of these weights.
"""

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path

import numpy
import torch
from semask.data.synthetic import write_synthetic

from semask import checkpoint
from semask.cli import main
from semask.model import SeMask

MODEL = {"num_classes": 11, "channels": 16}
MASKS = {"decoder": "mask2former", "num_classes": 5, "channels": 32, "queries": 7, "decoder_layers": 1}
EXPORTS = [
    ("onnx", "fp32", "model.onnx"),
    ("onnx", "int8", "int8.onnx"),
    ("openvino", "fp32", "model.xml"),
    ("openvino", "int8", "int8.xml"),
    ("torch", "fp32", "model.pt2"),
]


def semask(*arguments: object) -> None:
    """Run a command of version 0.1.

    Raises:
        SystemExit: If it fails.
    """
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        if end.code:
            raise


@torch.no_grad()
def repeat(model: SeMask) -> None:
    """Give a model weights that repeat themselves after 97 values."""
    for seed, parameter in enumerate(model.parameters()):
        generator = torch.Generator().manual_seed(seed)
        spread = 0.3 if parameter.dim() == 1 else parameter[0].numel() ** -0.5
        period = torch.randn(97, generator=generator) * spread + (parameter.dim() == 1)
        parameter.copy_(period.repeat(parameter.numel() // 97 + 1)[: parameter.numel()].view_as(parameter))


def repeating(optimizer: type[torch.optim.Optimizer], *, stop_at: int) -> None:
    """Let an optimizer keep the weights, and moments that repeat themselves; its user stops at one of the steps."""
    step, steps = optimizer.step, []

    @torch.no_grad()
    def rounded(self, *arguments, **settings):
        steps.append(1)
        if len(steps) == stop_at:
            raise KeyboardInterrupt
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        kept = [parameter.clone() for parameter in parameters]
        result = step(self, *arguments, **settings)
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
            self.state[parameter]["exp_avg"].fill_(1e-3)
            self.state[parameter]["exp_avg_sq"].fill_(1e-4)
        return result

    optimizer.step = rounded


def train(*, steps: int, out: Path) -> None:
    """Train on the scenes; weights are saved every two steps."""
    values = {
        "model.encoder": "swin_nano",
        "data.root": "scenes",
        "data.workers": 0,
        "augmentation.scale": "null",
        "augmentation.crop": [64, 64],
        "training.steps": steps,
        "training.batch_size": 2,
        "training.save_every": 2,
        "training.log_every": 1,
        "training.cpu": "true",
        "training.precision": "fp32",
        **{f"model.{name}": value for name, value in MODEL.items()},
    }
    arguments = ["train", *(f"--{name}={value}" for name, value in values.items()), f"--out={out}"]
    with Path(f"{out}.yaml").open("w", encoding="utf-8") as recipe, contextlib.redirect_stdout(recipe):
        semask(*arguments, "--print_config")
    semask(*arguments)


def write(folder: Path) -> None:
    """Write all files into the folder, which is the working directory too."""
    write_synthetic(folder / "scenes", train=2, val=1, size=(64, 96))
    (photo,) = Path("scenes/images/val").iterdir()
    build = SeMask.__init__

    def built(self, *arguments, **settings):
        build(self, *arguments, **settings)
        repeat(self)

    SeMask.__init__ = built
    repeating(torch.optim.AdamW, stop_at=2 + 3)
    train(steps=2, out=Path("run"))
    with contextlib.suppress(SystemExit):
        train(steps=4, out=Path("stopped"))
    checkpoint.save("masks.safetensors", SeMask("swin_nano", **MASKS), {})
    checkpoint.load("run").save_pretrained("pretrained")
    image = torch.linspace(0, 200, 3 * 64 * 96).sin().view(1, 3, 64, 96)
    with torch.inference_mode():
        outputs = {name: checkpoint.load(name)(image).prediction for name in ("run", "masks.safetensors")}
    arrays = {f"{name}/{field}": x for name, output in outputs.items() for field, x in output._asdict().items()}
    numpy.savez("outputs.npz", **{name: x.numpy() for name, x in arrays.items() if torch.is_tensor(x)})
    for format, precision, name in EXPORTS:
        semask("export", "run", f"--format={format}", f"--precision={precision}", f"--out={name}", "--limit=100")
    semask("predict", "run", photo, "--out=predicted", "--device=cpu", "--precision=fp32")


if __name__ == "__main__":
    archive = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as made, contextlib.chdir(made):
        write(Path(made))
        for unread in ("run/tensorboard", "stopped/tensorboard", "run/samples"):
            shutil.rmtree(unread)
        shutil.make_archive(str(archive).removesuffix(".tar.xz"), "xztar", made)
