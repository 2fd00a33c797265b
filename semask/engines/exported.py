"""Opening an exported file: what it says of itself, checked, and what computes. Without torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semask.engines import description as descriptions
from semask.engines.catalog import format_of, formats
from semask.engines.format import Engine, Format, Options
from semask.engines.processor import default_threads
from semask.files.text import reason


class Exported:
    """An opened exported file.

    Args:
        engine: What computes.
        description: What the file says of itself, checked by `description.read`.
        path: The file, for messages.

    Attributes:
        config: Constructor arguments of the model.
        metadata: As a checkpoint's: "classes", "recipe", "licence", "published", "step".
        size_divisor: The graph pads images with zeros, at the right and the bottom, to a multiple of this.
        makes_masks: Whether it gives masks with their classes, or scores of each pixel.
        makes_labels: Whether it gives the label map alone; `run` makes scores of 0 and 1 of it.
        size: Height and width of the only images that it takes; None for any.
        details: Versions, device and threads of the engine.
    """

    def __init__(self, engine: Engine, description: dict[str, Any], path: Path) -> None:
        self.engine = engine
        self.description = description
        self.path = path
        self.config: dict[str, Any] = description["config"]
        self.metadata: dict[str, Any] = {
            **{name: description.get(name) for name in ("classes", "licence", "published", "step", "calibration")},
            "recipe": {**description["recipe"], "model": self.config},
        }
        self.makes_labels: bool = description["outputs"] == list(descriptions.LABELS)
        # A label map has the size of the image: what is padded is cut off in the graph.
        self.size_divisor: int = 1 if self.makes_labels else description["size_divisor"]
        self.makes_masks: bool = description["makes_masks"] and not self.makes_labels
        self.size: tuple[int, int] | None = tuple(description["size"]) if description.get("size") else None
        self.details = engine.details

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of an image with the padding that the graph gives it."""
        return height + -height % self.size_divisor, width + -width % self.size_divisor

    def run(self, image: Any) -> list[Any]:
        """Compute the outputs of normalized images.

        Args:
            image: Images [B, C, H, W] of any size, or of `size`, in float32; of the kind that the engine takes.

        Returns:
            Class scores [B, K, h, w]; or classes [B, Q, K + 1] of masks and the masks [B, Q, h, w].

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
            outputs = list(self.engine.run(image))
        except Exception as error:  # each engine has errors of its own
            raise ValueError(f"{self.path}: could not segment {list(image.shape)} ({reason(error)})") from error
        self._check([tuple(x.shape) for x in outputs], B)
        if not self.makes_labels:
            return outputs
        if outputs[0].shape[-2:] != (H, W):
            raise ValueError(f"{self.path}: gave labels {list(outputs[0].shape)} for {H} x {W} pixels: export it again")
        return [votes(outputs[0], self.config["num_classes"])]

    def _check(self, shapes: Sequence[tuple[int, ...]], batch: int) -> None:
        K = self.config["num_classes"]
        if self.makes_labels:
            right = len(shapes) == 1 and len(shapes[0]) == 3
        elif self.makes_masks:
            right = len(shapes) == 2 and len(shapes[1]) == 4 and shapes[0] == (*shapes[1][:2], K + 1)
        else:
            right = len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] == K
        if not right or shapes[0][0] != batch or 0 in shapes[-1]:
            raise ValueError(
                f"{self.path}: gave outputs {[list(x) for x in shapes]} for {batch} images, but says that it has {K} "
                f"classes and the outputs {', '.join(self.description['outputs'])}: export it again"
            )


def votes(labels: Any, count: int) -> Any:
    """Make scores [B, K, H, W] of a label map [B, H, W], an array or a tensor: 1 for the class of a pixel, else 0."""
    if isinstance(labels, np.ndarray):
        return (labels[:, None] == np.arange(count)[:, None, None]).astype(np.float32)
    return (labels[:, None] == labels.new_tensor(list(range(count)))[:, None, None]).float()


def open_exported(
    path: str | Path,
    *,
    device: str | None = None,
    threads: int | None = None,
    precision: descriptions.Precision | None = None,
    trust: bool = False,
) -> Exported:
    """Open a file that `semask export` wrote; its engine takes what its format says, see `Format.arrays`.

    Args:
        path: File with the ending of a format.
        device: Where to run: cpu, cuda, for OpenVINO also gpu or npu; None for the CPU, for TensorRT cuda.
        threads: Threads on a CPU; None for one a core. Formats of torch's own have torch's.
        precision: What OpenVINO computes in, where the machine can; None as the file was exported.
        trust: Open formats too that run code of their own. Only for files of your own making.

    Raises:
        ValueError: If there is no such file, it is damaged or not one of ours, it would run code and is not trusted, or
            its engine is not installed or can't run there.
    """
    path = Path(path)
    row = require_format(path)
    if not path.is_file():
        raise ValueError(f"{path}: no such file: make it with `semask export`")
    if threads is not None and threads < 1:
        raise ValueError(f"threads is {threads}: give at least 1")
    if row.holds_code is not None and not trust:
        raise ValueError(
            f"{path}: {row.ending} files hold {row.holds_code}, which could do anything here: if you made it yourself "
            "give --trust true (trust=True), otherwise ask for an .onnx or OpenVINO file"
        )
    try:
        engine = row.open(path, Options(device, threads or default_threads(), precision))
    except ValueError:
        raise
    except Exception as error:  # each engine has errors of its own
        raise ValueError(f"{path}: can't be opened ({reason(error)}): export or copy it again") from error
    description = descriptions.read(engine.metadata, path)
    if list(engine.outputs) != description["outputs"]:
        raise ValueError(
            f"{path}: has the outputs {', '.join(engine.outputs)}, but says {', '.join(description['outputs'])}: "
            "export it again"
        )
    return Exported(engine, description, path)


def require_format(path: Path) -> Format:
    """The format of a file, by its ending.

    Raises:
        ValueError: If it is of none.
    """
    row = format_of(path)
    if row is None:
        endings = ", ".join(row.ending for row in formats().values())
        raise ValueError(f"{path}: not an exported model: give a file ending in {endings}")
    return row
