"""Films to frames: one after another, upright, with their times; untrusted, so nothing else is opened.

PyAV (FFmpeg) decodes. It gets the open file, not its name, the format that the first bytes call for, no protocol, and
no way to open another file: a playlist, or a film that refers to other files or addresses, can't be followed.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from semask.data.film_files import FILM_SUFFIXES, film_format
from semask.data.images import max_pixels
from semask.files.reading import require_file
from semask.files.text import one_line, reason

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MOST_STREAMS = 64
"""Streams of a film: pictures, sound, subtitles."""
CODECS = (
    "h264", "hevc", "av1", "libdav1d", "vp8", "libvpx", "vp9", "libvpx-vp9", "mpeg4", "mpeg2video", "mpeg1video",
    "mjpeg", "prores", "dnxhd", "dvvideo", "ffv1", "rawvideo", "h263", "flv", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2",
    "wmv3", "vc1", "png", "qtrle", "huffyuv", "utvideo",
)  # fmt: skip
"""Decoders of pictures that may be used, as FFmpeg names them; it knows hundreds, of formats that nobody films in."""
_RATES = (Fraction(1, 10_000), Fraction(1000))
_USUAL = Fraction(25)
_PATIENCE = 100
"""Places at which a container may be damaged before the rest of it is given up."""


class Unplayable(ValueError):
    """The film is at fault, not a setting."""


@dataclass(frozen=True)
class Frame:
    """A frame of a film.

    Attributes:
        index: Its number, from 0, in the order in which frames are shown.
        time: Its time stamp from the start of the film, in units of `Film.time_base`.
        image: Its pixels, upright, RGB [H, W, 3].
    """

    index: int
    time: int
    image: NDArray[np.uint8]


@dataclass
class Faults:
    """What could not be decoded.

    Attributes:
        errors: Places where the decoder gave up; frames are missing there.
        damaged: Frames that the decoder filled up.
        frames: Frames that could be decoded.
    """

    errors: int = 0
    damaged: int = 0
    frames: int = 0


class _Nameless:
    """A file without a name, so that FFmpeg can't look next to it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.read, self.tell = file, file.read, file.tell

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place; FFmpeg asks for places that no file has if a film is damaged."""
        try:
            return self.file.seek(offset, whence)
        except (OSError, ValueError):
            return -1


class Film:
    """A film that is open to be read once, from its start; a context.

    Args:
        path: The file.

    Attributes:
        time_base: Seconds of a unit of time.
        rate: Frames in a second, on average.
        promised: How many frames the file says that it has; 0 if it does not say.
        expected: How many frames it should have, as the file says or by its length; 0 if that is not known.
        faults: What could not be decoded so far.

    Raises:
        Unplayable: If it is no film, is damaged at its start, or is larger than what is read.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path = require_file(path, otherwise="give the path of a film")
        self.faults = Faults()
        self._open = contextlib.ExitStack()
        name = film_format(path)
        if name is None:
            endings = ", ".join(FILM_SUFFIXES)
            raise Unplayable(f"{one_line(path)}: is no film, or of a format that is not read: give one of {endings}")
        try:
            self.container: InputContainer = self._opened(name)
            self.stream = self._stream()
        except BaseException:
            self.close()
            raise
        self.time_base: Fraction = self.stream.time_base or Fraction(1, 1000)
        rate = self.stream.average_rate or self.stream.guessed_rate or _USUAL
        self.rate = rate if _RATES[0] <= rate <= _RATES[1] else _USUAL
        start = self.container.start_time or 0  # microseconds
        self.start = Fraction(start, 1_000_000)
        seconds = (self.container.duration or 0) / 1_000_000
        self.promised = int(self.stream.frames)
        self.expected = int(self.stream.frames or max(seconds, 0) * self.rate)

    def __enter__(self) -> "Film":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    @property
    def sounds(self) -> "tuple[AudioStream, ...]":
        """Its sound."""
        return tuple(self.container.streams.audio)

    def frames(self, others: "tuple[AudioStream, ...]" = ()) -> "Iterator[Frame | Packet[Any]]":
        """Give all frames in the order in which they are shown.

        Args:
            others: Streams whose packets are given too, as they come.

        Raises:
            Unplayable: If no frame can be decoded, a frame is larger than what is read, or the size changes.
        """
        from av import FFmpegError

        step = max(round(1 / self.rate / self.time_base), 1)
        index, last, size = 0, -step, None
        for packet in self._packets(others):
            if packet.stream_index != self.stream.index:
                yield packet
                continue
            try:
                decoded = packet.decode()
            except (FFmpegError, ValueError):  # ValueError: the decoder's own bounds
                self.faults.errors += 1
                continue
            for frame in decoded:
                image = self._image(frame)
                size = size or image.shape
                if image.shape != size:
                    raise Unplayable(
                        f"{one_line(self.path)}: frame {index} is {image.shape[1]} x {image.shape[0]}, those before "
                        f"{size[1]} x {size[0]}: cut the film where its size changes"
                    )
                time = self._time(frame)
                last = last + step if time is None or time <= max(last, -1) else time  # later than the one before
                yield Frame(index, last, image)
                index += 1
                self.faults.frames = index
        if index == 0:
            raise Unplayable(f"{one_line(self.path)}: no frame can be decoded: is the file complete?")

    def seconds(self, time: int) -> float:
        """Seconds from the start of the film, of a time stamp of a frame."""
        return float(time * self.time_base)

    def _time(self, frame: "VideoFrame") -> int | None:
        """Time stamp of a frame from the start of the film; None if it has none."""
        return None if frame.pts is None else int(frame.pts) - round(self.start / self.time_base)

    def _packets(self, others: "tuple[AudioStream, ...]") -> "Iterator[Packet[Any]]":
        """Packets of the film, and the empty ones at its end that ask a decoder for the frames that it still has."""
        from av import FFmpegError

        for _ in range(_PATIENCE):
            try:
                yield from self.container.demux(self.stream, *others)
                return
            except (FFmpegError, ValueError, OSError):  # the container is damaged here
                self.faults.errors += 1

    def _image(self, frame: "VideoFrame") -> NDArray[np.uint8]:
        """Pixels of a frame, upright, [H, W, 3]."""
        require_size(self.path, frame.width, frame.height)
        self.faults.damaged += bool(frame.is_corrupt)
        image = frame.to_ndarray(format="rgb24")
        turns = round(frame.rotation / 90) % 4  # counterclockwise
        return np.ascontiguousarray(np.rot90(image, turns))

    def _opened(self, name: str) -> "InputContainer":
        """Open the file as what its first bytes say."""
        import av

        file = self._open.enter_context(self.path.open("rb"))
        options = {"format_whitelist": name, "protocol_whitelist": "", "max_streams": str(MOST_STREAMS)}
        source: Any = _Nameless(file)
        # Titles that are no UTF-8 don't matter; PyAV 19 can't be told any more.
        lenient: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.partition(".")[0]) < 19 else {}
        try:
            container = av.open(source, "r", format=name, options=options, io_open=_refused, **lenient)
        except (av.FFmpegError, ValueError, OSError) as error:
            raise Unplayable(
                f"{one_line(self.path)}: the film can't be opened ({_said(error)}): is the file complete?"
            ) from error
        opened: InputContainer = self._open.enter_context(container)
        return opened

    def _stream(self) -> "VideoStream":
        """The stream of pictures: the first that is no picture of a cover.

        Raises:
            Unplayable: If there is none, or it is not to be decoded.
        """
        from av.stream import Disposition

        streams = self.container.streams
        if len(streams) > MOST_STREAMS:
            raise Unplayable(f"{one_line(self.path)}: has {len(streams):,} streams, more than {MOST_STREAMS}")
        films = [stream for stream in streams.video if not stream.disposition & Disposition.attached_pic]
        if not films:
            raise Unplayable(f"{one_line(self.path)}: has no pictures: is it a film, and complete?")
        stream = films[0]
        context = stream.codec_context
        codec = "nothing known" if context is None else context.name
        if codec not in CODECS:
            raise Unplayable(
                f"{one_line(self.path)}: its pictures are stored as {one_line(codec, longest=40)}, which is not read: "
                "convert it to H.264"
            )
        require_size(self.path, context.width, context.height)
        if context.width * context.height == 0:
            raise Unplayable(f"{one_line(self.path)}: does not say how large its frames are: is the file complete?")
        context.options = {"max_pixels": str(max_pixels())}
        return stream


def require_size(path: Path, width: int, height: int) -> None:
    """Refuse frames of more pixels than images may have.

    Raises:
        Unplayable: If they are larger.
    """
    if width * height > (most := max_pixels()):
        raise Unplayable(
            f"{one_line(path)}: its frames are {width:,} x {height:,}, more than {most:,} pixels: make them smaller, "
            "or set SEMASK_MAX_PIXELS higher"
        )


def aspect(film: Film) -> Fraction | None:
    """Width of a pixel by its height, as the film is shown; None for square pixels."""
    found = film.stream.codec_context.sample_aspect_ratio
    if not found or found == 1 or not math.isfinite(found):
        return None
    return Fraction(found)


def _refused(url: str, flags: int, options: dict[str, str]) -> Any:
    """What a film gets that wants another file."""
    raise ValueError("a film is one file: what it refers to is not opened")


def _said(error: BaseException) -> str:
    """What PyAV says, without its numbers and names."""
    text = getattr(error, "strerror", None) or reason(error)
    return one_line(text, longest=100)
