"""Runtime: an exported file with the interface of a SeMask, for `Predictor` and all that is built on it."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Never

import torch
from torch import Tensor, nn

from semask.engines.catalog import companions
from semask.engines.description import Precision
from semask.engines.exported import Exported, open_exported, require_format
from semask.engines.format import Engine
from semask.outputs import MaskOutput, PixelOutput, SeMaskOutput


class Runtime(nn.Module):
    """An exported model, called like the SeMask that it was made of.

    Args:
        exported: The opened file; its engine takes tensors.

    Attributes:
        config: Constructor arguments of the model.
        metadata: As a checkpoint's: "classes", "recipe", "licence", "published", "step".
        size_divisor: The graph pads images with zeros, at the right and the bottom, to a multiple of this.
        makes_masks: Whether it gives masks with their classes, or scores of each pixel.
        makes_labels: Whether the file gives the label map alone; its scores are 1 for the class of a pixel, else 0.
        size: Height and width of the only images that it takes; None for any.
        details: Versions, device and threads of the engine.
    """

    def __init__(self, exported: Exported) -> None:
        super().__init__()
        self.exported = exported
        self.description, self.path, self.details = exported.description, exported.path, exported.details
        self.config, self.metadata = exported.config, exported.metadata
        self.size_divisor, self.makes_masks, self.size = exported.size_divisor, exported.makes_masks, exported.size
        self.makes_labels = exported.makes_labels
        # The only parameter: who asks a module for its device finds one, who asks for its state finds this file's.
        digest = torch.tensor(list(_digest(self.path)), dtype=torch.uint8)
        self.digest = nn.Parameter(digest, requires_grad=False)
        self.eval()

    def forward(self, image: Tensor, *, masks_only: bool = True) -> SeMaskOutput:
        """Segment images.

        Args:
            image: Normalized images [B, C, H, W] of any size, or of `size`.
            masks_only: Without meaning: nothing but masks is exported.

        Returns:
            Class scores [B, K, h, w], or masks [B, Q, h, w] with their classes [B, Q, K + 1], in float32 and where the
            image is. Without features and priors, which are not exported.

        Raises:
            ValueError: See `Exported.run`.
        """
        outputs = [x.to(image.device) for x in self.exported.run(image.detach().float())]
        prediction = MaskOutput(outputs[0], outputs[1], ()) if self.makes_masks else PixelOutput(outputs[0])
        return SeMaskOutput((), (), prediction, None, self.exported.padded(*image.shape[-2:]))

    def to(self, *_: Any, **__: Any) -> Never:
        """Refuse: an engine stays on the device that it was opened on."""
        raise ValueError(f"{self.path}: an exported model can't be moved: give the device to semask.load_exported")


def load_exported(
    path: str | Path,
    *,
    device: str | None = None,
    threads: int | None = None,
    precision: Precision | None = None,
    trust: bool = False,
) -> Runtime:
    """Open a file that `semask export` wrote.

    Args:
        path: File ending in .onnx, .xml (OpenVINO, with its .bin next to it), .pt2, .aoti.pt2 or .engine.
        device: Where to run: cpu, cuda, for OpenVINO also gpu or npu; None for the CPU, for TensorRT cuda.
        threads: Threads on a CPU; None for as many as torch has. (.pt2 and .aoti.pt2 have torch's.)
        precision: What OpenVINO computes in, where the machine can; None as the file was exported.
        trust: Open formats too that run code of their own: .pt2, .aoti.pt2, .engine. Only for files of your own making.

    Raises:
        ValueError: If there is no such file, it is damaged or not one of ours, it would run code and is not trusted, or
            its engine is not installed or can't run there.
    """
    if threads is None:
        threads = torch.get_num_threads()
    exported = open_exported(path, device=device, threads=threads, precision=precision, trust=trust)
    if require_format(exported.path).arrays:
        exported.engine = on_tensors(exported.engine)
    return Runtime(exported)


def on_tensors(engine: Engine) -> Engine:
    """Let an engine of NumPy arrays take tensors on any device, and give tensors on the CPU."""

    def run(image: Tensor) -> Sequence[Tensor]:
        return [torch.from_numpy(x) for x in engine.run(image.cpu().numpy())]

    return replace(engine, run=run)


def _digest(path: Path) -> bytes:
    """Hash of a file and of what lies next to it."""
    hashes = []
    for file in filter(Path.is_file, (path, *companions(path))):
        with open(file, "rb") as content:
            hashes.append(hashlib.file_digest(content, "sha256").digest())
    return hashlib.sha256(b"".join(hashes)).digest()
