"""Runtime: an exported file with the face of a SeMask, for `Predictor` and all that is built on it."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import torch
from torch import Tensor, nn

from semask.engines import description as metadata
from semask.engines import openers as engines
from semask.engines.openers import Engine, Options
from semask.files.text import reason
from semask.outputs import MaskOutput, PixelOutput, SeMaskOutput

ENGINES: dict[str, Callable[[Path, Options], Engine]] = {
    ".onnx": engines.onnx,
    ".xml": engines.openvino,
    ".aoti.pt2": engines.aot_inductor,
    ".pt2": engines.torch_program,
    ".engine": engines.tensorrt,
}
"""What opens a file, by its ending; of two that fit, the first."""
RUN_CODE = {".aoti.pt2": "compiled code", ".pt2": "pickled Python objects", ".engine": "compiled GPU code"}
"""Formats that can do anything with the machine of whoever opens them, and what they hold."""


class Runtime(nn.Module):
    """An exported model, called like the SeMask that it was made of.

    Args:
        engine: What computes; see `load_exported`.
        description: What the file says of itself, checked by `exporters.metadata.read`.
        path: The file, for messages.

    Attributes:
        config: Constructor arguments of the model.
        metadata: As a checkpoint's: "classes", "recipe", "licence", "published", "step".
        size_divisor: The graph pads images with zeros, at the right and the bottom, to a multiple of this.
        makes_masks: Whether it gives masks with their classes, or scores of each pixel.
        size: Height and width of the only images that it takes; None for any.
        details: Versions, device and threads of the engine.
    """

    def __init__(self, engine: Engine, description: dict[str, Any], path: Path) -> None:
        super().__init__()
        self.engine = engine
        self.description = description
        self.path = path
        self.config: dict[str, Any] = description["config"]
        self.metadata: dict[str, Any] = {
            **{name: description.get(name) for name in ("classes", "licence", "published", "step")},
            "recipe": {**description["recipe"], "model": self.config},
        }
        self.size_divisor: int = description["size_divisor"]
        self.makes_masks: bool = description["makes_masks"]
        self.size: tuple[int, int] | None = tuple(description["size"]) if description.get("size") else None
        self.details = engine.details
        # The only parameter: who asks a module for its device finds one, who asks for its state finds this file's.
        self.digest = nn.Parameter(torch.tensor(list(_digest(path)), dtype=torch.uint8), requires_grad=False)
        self.eval()

    def forward(self, image: Tensor, *, masks_only: bool = True) -> SeMaskOutput:
        """Segment images.

        Args:
            image: Normalised images [B, C, H, W] of any size, or of `size`.
            masks_only: Without meaning: nothing but masks is exported.

        Returns:
            Class scores [B, K, h, w], or masks [B, Q, h, w] with their classes [B, Q, K + 1], in float32 and where the
            image is. Without features and priors, which are not exported.

        Raises:
            ValueError: If the engine fails, or gives something else than the file says, or images have another size.
        """
        B, (H, W) = image.shape[0], image.shape[-2:]
        if self.size is not None and self.size != (H, W):
            raise ValueError(
                f"{self.path}: takes images of {self.size[0]} x {self.size[1]} only, not {H} x {W}: larger ones go "
                "through in windows of that size, smaller ones have to be made larger (--scale)"
            )
        try:
            outputs = [x.to(image.device) for x in self.engine.run(image.detach().float())]
        except Exception as error:  # each engine has errors of its own
            raise ValueError(f"{self.path}: could not segment {list(image.shape)} ({reason(error)})") from error
        self._check(outputs, B)
        prediction = MaskOutput(outputs[0], outputs[1], ()) if self.makes_masks else PixelOutput(outputs[0])
        padded = (H + -H % self.size_divisor, W + -W % self.size_divisor)
        return SeMaskOutput((), (), prediction, None, padded)

    def _check(self, outputs: list[Tensor], batch: int) -> None:
        K, shapes = self.config["num_classes"], [tuple(x.shape) for x in outputs]
        if self.makes_masks:
            right = len(shapes) == 2 and len(shapes[1]) == 4 and shapes[0] == (*shapes[1][:2], K + 1)
        else:
            right = len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] == K
        if not right or shapes[0][0] != batch or 0 in shapes[-1]:
            raise ValueError(
                f"{self.path}: gave outputs {[list(x) for x in shapes]} for {batch} images, but says that it has {K} "
                f"classes and the outputs {', '.join(self.description['outputs'])}: export it again"
            )

    def to(self, *_: Any, **__: Any) -> Never:
        """Refuse: an engine stays on the device that it was opened on."""
        raise ValueError(f"{self.path}: an exported model can't be moved: give the device to semask.load_exported")


def is_exported(source: str | Path) -> bool:
    """Whether a name is that of an exported file, by its ending."""
    return _ending(source) is not None


def load_exported(
    path: str | Path,
    *,
    device: str | None = None,
    threads: int | None = None,
    precision: metadata.Precision | None = None,
    trust: bool = False,
) -> Runtime:
    """Open a file that `semask export` wrote.

    Args:
        path: File ending in .onnx, .xml (OpenVINO, its .bin beside it), .pt2, .aoti.pt2 or .engine.
        device: Where to run: cpu, cuda, for OpenVINO also gpu or npu; None for the CPU, for TensorRT cuda.
        threads: Threads on a CPU; None for as many as torch has. (.pt2 and .aoti.pt2 have torch's.)
        precision: What OpenVINO computes in, where the machine can; None as the file was exported.
        trust: Open formats too that run code of their own: .pt2, .aoti.pt2, .engine. Only for files of your own making.

    Raises:
        ValueError: If there is no such file, it is damaged or not one of ours, it would run code and is not trusted, or
            its engine is not installed or can't run there.
    """
    path, ending = Path(path), _ending(path)
    if ending is None:
        raise ValueError(f"{path}: not an exported model: give a file ending in {', '.join(ENGINES)}")
    if not path.is_file():
        raise ValueError(f"{path}: no such file: make it with `semask export`")
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}: give at least 1")
    if ending in RUN_CODE and not trust:
        raise ValueError(
            f"{path}: {ending} files hold {RUN_CODE[ending]}, which could do anything here: if you made it yourself "
            "give --trust true (trust=True), otherwise ask for an .onnx or OpenVINO file"
        )
    options = Options(device, threads or torch.get_num_threads(), precision)
    try:
        engine = ENGINES[ending](path, options)
    except ValueError:
        raise
    except Exception as error:  # each engine has errors of its own
        raise ValueError(f"{path}: can't be opened ({reason(error)}): export or copy it again") from error
    description = metadata.read(engine.metadata, path)
    if list(engine.outputs) != description["outputs"]:
        raise ValueError(
            f"{path}: has the outputs {', '.join(engine.outputs)}, but says {', '.join(description['outputs'])}: "
            "export it again"
        )
    return Runtime(engine, description, path)


def _ending(path: str | Path) -> str | None:
    return next((ending for ending in ENGINES if Path(path).name.lower().endswith(ending)), None)


def weights_beside(path: str | Path) -> list[Path]:
    """List the files with weights that belong to an exported file."""
    path = Path(path)
    beside = {".xml": path.with_suffix(".bin"), ".onnx": path.with_name(f"{path.name}.data")}
    return [file for ending, file in beside.items() if ending == _ending(path) and file.is_file()]


def _digest(path: Path) -> bytes:
    """Hash of a file and of the weights beside it."""
    hashes = []
    for file in filter(Path.is_file, (path, *weights_beside(path))):
        with open(file, "rb") as content:
            hashes.append(hashlib.file_digest(content, "sha256").digest())
    return hashlib.sha256(b"".join(hashes)).digest()
