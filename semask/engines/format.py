"""What an export format is: a row that says all of it, and what its two functions get and give. Without torch."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from semask.engines.description import Precision
from semask.files.text import one_line

if TYPE_CHECKING:
    from torch import Tensor

    from semask.model import SeMask


@dataclass(frozen=True)
class Request:
    """What saving gets: a model, and how and where to write it.

    Attributes:
        model: In evaluation mode.
        path: File to write, with the ending of the format.
        sample: A normalized image [1, C, H, W], on the device that the file is for.
        precision: fp32, fp16, bf16 or int8.
        metadata: What the file carries, see `description.metadata`.
        calibration: Normalized images [1, C, H, W], for int8.
        labels: Whether the graph gives the label map [B, H, W] uint8 at the size of the image, and no scores.
    """

    model: "SeMask"
    path: Path
    sample: "Tensor"
    precision: Precision = "fp32"
    metadata: dict[str, Any] | None = None
    calibration: "Iterable[Tensor]" = ()
    labels: bool = False

    @property
    def described(self) -> str:
        """The metadata as JSON."""
        return json.dumps(self.metadata or {}, ensure_ascii=False)


class Options(NamedTuple):
    """What opening gets: how a file is run; see `exported.open_exported`."""

    device: str | None
    threads: int
    precision: Precision | None


@dataclass(frozen=True)
class Engine:
    """What opening gives: an opened file.

    Attributes:
        metadata: The JSON that the file carries, not yet checked; None if it has none.
        outputs: Names of what `run` gives.
        run: Takes normalized images [B, C, H, W] in float32 and gives the outputs in float32: NumPy arrays where the
            format says so (`Format.arrays`), else tensors on any device.
        details: Versions, device and threads, for reports; "remark" where the numbers need one.
    """

    metadata: str | None
    outputs: tuple[str, ...]
    run: Callable[[Any], Sequence[Any]]
    details: dict[str, Any]


@dataclass(frozen=True)
class Format:
    """A format of exported files: `FORMAT` of a file in formats/.

    Attributes:
        name: What `--format` calls it.
        ending: Ending of its files, in lower case.
        save: Writes a model and gives the files, the one with the ending first. Raises a ValueError if the format can't
            hold the model, or something that it needs is not installed.
        open: Opens a file. Raises a ValueError if it is damaged or can't run there.
        precisions: What it can be exported in.
        holds_code: What its files hold that could do anything on the machine of whoever opens them; None for nothing.
        arrays: Whether its engine takes and gives NumPy arrays, so that it predicts without torch.
        one_size: Whether a file takes images of one size only.
        on_device: Whether a file runs on the kind of device that it was exported for, and on no other.
        companion: Gives the path of the other file that belongs to a file, whether there is one or not; None where no
            file has one.
    """

    name: str
    ending: str
    save: Callable[[Request], list[Path]]
    open: Callable[[Path, Options], Engine]
    precisions: tuple[Precision, ...]
    holds_code: str | None = None
    arrays: bool = False
    one_size: bool = False
    on_device: bool = False
    companion: Callable[[Path], Path] | None = None

    def files(self, path: Path) -> list[Path]:
        """A file and the one that belongs to it, whether they exist or not."""
        return [path] if self.companion is None else [path, self.companion(path)]

    def export(self, request: Request) -> list[Path]:
        """Write a model; gives the files.

        Raises:
            ValueError: If it can't hold the model, or needs what is not installed.
        """
        try:
            return self.save(request)
        except (ValueError, OSError):
            raise
        except Exception as error:  # each library has errors of its own
            said = one_line(next(iter(str(error).strip().splitlines()), type(error).__name__))  # the rest: a traceback
            raise ValueError(f"this model can't be exported as {self.name} ({said}): use another format") from error
