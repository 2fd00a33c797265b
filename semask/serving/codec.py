"""What runs in the processes that see what anybody sends: decoding of images, encoding of answers, tasks of tools.

The process has a limit of memory; the server ends it when it takes too long. It works in a folder of its own and reads
no file but the one that it wrote there. Torch is not loaded.
"""

import contextlib
import errno
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from semask.files.atomic import temporary_folder
from semask.files.text import one_line, out_of_memory, reason
from semask.serving.formats import make_of
from semask.serving.helper import ignore_signals, serve_messages
from semask.serving.messages import Block

if TYPE_CHECKING:
    from semask.data.bands import Reading

FILE = "image"
"""Name of the file of the image, whatever the client calls it."""


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
"""Errors of a place where nothing can be written."""


class Limits(NamedTuple):
    """What a process may use."""

    pixels: int
    """Pixels of an image."""
    memory: int
    """Bytes, in addition to what it has when it begins."""
    file: int
    """Bytes of a file."""


class Wrong(Exception):
    """The image is at fault: status, code and line of the answer."""


def codec_main(connection: Connection, limits: Limits) -> None:
    """Decode and encode until the server is gone; runs in a process of its own."""
    ignore_signals()
    os.environ |= {"OMP_NUM_THREADS": "1", "SEMASK_MAX_PIXELS": str(limits.pixels)}
    preload()
    limit_memory(limits)
    with temporary_folder() as folder:  # which removes those of processes that were killed
        os.chdir(folder)  # so that messages about the file say no path

        def work(head: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], Sequence[Block]]:
            try:
                if not folder.is_dir():  # a cleaner of old files was there
                    folder.mkdir(mode=0o700)
                    os.chdir(folder)
                if head["task"] == "decode":
                    return decode(head, parts, limits)
                return encode(head, parts) if head["task"] == "encode" else read_tasks(head, parts)
            except Exception as error:
                return fault_of(error), []
            finally:
                with contextlib.suppress(OSError):
                    os.unlink(FILE)

        serve_messages(connection, {}, work)
        os.chdir("/" if os.name == "posix" else tempfile.gettempdir())


def fault_of(error: Exception) -> dict[str, Any]:
    """Status, code and message of an answer, and what only the log says."""
    if isinstance(error, Wrong):
        status, code, message = error.args
        return {"status": status, "code": code, "message": message}
    said = f"{type(error).__name__}: {reason(error)}"
    if isinstance(error, OSError) and error.errno in FULL:
        message = "the server has no place for the image: try again later"
        return {"status": 503, "code": "unavailable", "message": message, "log": said}
    if out_of_memory(error) or isinstance(error, OSError):
        return {"status": 413, "code": "too_large", "message": "needs more memory than a request may take"}
    return {"status": 422, "code": "unreadable_image", "message": "the image is damaged", "log": said}


def preload() -> None:
    """Import what the work needs, before memory is limited."""
    import semask.prediction.raster
    import semask.prediction.whole  # noqa: F401

    with contextlib.suppress(ImportError):
        import rasterio.features  # noqa: F401


def limit_memory(limits: Limits) -> None:
    """Limit the memory of this process, and the files that it writes; not on Windows, and macOS does not keep to it."""
    try:
        import resource
    except ImportError:
        return
    limit = used() + limits.memory
    for kind, most in ((resource.RLIMIT_AS, limit), (resource.RLIMIT_FSIZE, limits.file), (resource.RLIMIT_CORE, 0)):
        with contextlib.suppress(ValueError, OSError):
            hard = resource.getrlimit(kind)[1]
            most = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.setrlimit(kind, (most, most))


def used() -> int:
    """Bytes of the address space of this process; 0 where it is not known."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def decode(head: dict[str, Any], parts: list[bytes], limits: Limits) -> tuple[dict[str, Any], Sequence[Block]]:
    """Decode an image as `semask predict` does.

    Returns:
        Its shape [H, W, C] and type, its pixels, and where it has no data, if it has such places.
    """
    import numpy as np

    from semask.data.reading import is_photo, read_picture_size
    from semask.prediction.whole import read_whole

    reading, path = reading_of(head["reading"]), Path(FILE)
    path.write_bytes(parts[0])
    parts.clear()
    with explained(limits.pixels):
        if not is_photo(path, reading):  # of a photo Pillow is told the limit: to find its size may decode it
            height, width = read_picture_size(path, reading)
            require_pixels(height * width, limits.pixels)
        whole = read_whole(path, reading)
    pixels = np.ascontiguousarray(np.asarray(whole.image))
    pixels = pixels.reshape(*pixels.shape[:2], reading.channels)
    holes = [] if whole.holes is None else [np.packbits(whole.holes).data]
    answer = {"shape": list(pixels.shape), "dtype": pixels.dtype.name}
    return answer, [pixels.data.cast("B"), *holes]


def encode(head: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], Sequence[Block]]:
    """Make an answer of a label map [H, W], of which the pixels without data are ignored."""
    import numpy as np

    from semask.data.classes import IGNORE_INDEX, Classes

    size = tuple(head["size"])
    label = np.frombuffer(parts[0], np.uint8).reshape(size)
    if len(parts) > 1:
        holes = np.unpackbits(np.frombuffer(parts[1], np.uint8), count=label.size).reshape(size).astype(bool)
        label = np.where(holes, np.uint8(IGNORE_INDEX), label)
    classes = Classes.from_dict(head["classes"])
    return {}, [make_of(head["format"])(label, classes, head["about"])]


def read_tasks(head: dict[str, Any], parts: list[bytes]) -> tuple[dict[str, Any], Sequence[Block]]:
    """Read what Label Studio asks for."""
    from semask.data.classes import Classes
    from semask.serving.label_studio_tasks import read_request

    try:
        found = read_request(parts[0], Classes.from_dict(head["classes"]).names)
    except ValueError as error:
        raise Wrong(422, "invalid", one_line(error)) from error
    return {}, [json.dumps(found).encode()]


@contextlib.contextmanager
def explained(most: int) -> Any:
    """Say of whatever reading raises that the image is at fault."""
    from PIL import Image

    try:
        yield
    except ValueError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, Image.DecompressionBombError):
                require_pixels(sys.maxsize, most)
            if isinstance(cause, MemoryError):
                raise MemoryError from error
            cause = cause.__cause__
        said = one_line(error).replace(f"{os.getcwd()}{os.sep}", "")
        raise Wrong(422, "unreadable_image", said) from error


def require_pixels(count: int, most: int) -> None:
    """Refuse an image before it is decoded.

    Raises:
        Wrong: If it is too large.
    """
    if count > most:
        raise Wrong(413, "too_many_pixels", f"the image has more than {most:,} pixels: make it smaller")


def reading_of(values: dict[str, Any]) -> "Reading":
    """How the samples of a file become channels, from what went through JSON."""
    from semask.data.bands import Reading

    def plain(value: Any) -> Any:
        return tuple(map(plain, value)) if isinstance(value, list) else value

    return Reading(**{name: plain(value) for name, value in values.items()})
