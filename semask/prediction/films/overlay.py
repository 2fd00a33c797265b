"""NAME.mp4: a film with the colors of the classes over it, its own time stamps, and its sound."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.data.classes import Classes
from semask.data.films import Film, Frame, aspect
from semask.files.atomic import written_whole
from semask.files.reporter import Reporter
from semask.files.text import one_line
from semask.prediction.films.segmenting import selected
from semask.prediction.films.state import FilmState
from semask.prediction.pictures import legend, overlay
from semask.settings.film import FilmSettings

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream

MP4_SOUND = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
"""Sound that players expect in an MP4 file, as FFmpeg names it."""
QUALITY = {"crf": "20", "preset": "medium"}
_BT709 = 1
"""Number of the colors of HD video in H.264, for primaries, transfer and matrix."""


class Overlay:
    """Draws the colors of label maps over frames, at a size that H.264 takes.

    Args:
        classes: Names and colors of the classes.
        shares: Share of each class in all frames, [256], for the legend, which stays the same.
        settings: Opacity and legend.
    """

    def __init__(self, classes: Classes, shares: NDArray[np.float64], settings: FilmSettings) -> None:
        self.classes, self.shares, self.settings = classes, shares, settings
        self.legend: NDArray[np.uint8] | None = None

    def __call__(self, image: NDArray[np.uint8], label: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Draw a frame: [H, W, 3], with even H and W; a missing row or column repeats the last."""
        drawn = np.array(overlay(Image.fromarray(image), label, self.classes, opacity=self.settings.opacity))
        if self.settings.legend:
            if self.legend is None:
                self.legend = np.array(legend(len(drawn), self.shares, self.classes))
            low = len(self.legend) - len(drawn)
            drawn = np.pad(drawn, ((0, low), (0, 0), (0, 0)), constant_values=255)
            drawn = np.concatenate([drawn, self.legend], axis=1)
        return np.pad(drawn, ((0, drawn.shape[0] % 2), (0, drawn.shape[1] % 2), (0, 0)), mode="edge")


def write_overlay(
    target: Path, source: Path, state: FilmState, draw: Overlay, settings: FilmSettings, frames: int, reporter: Reporter
) -> list[str]:
    """Encode the overlay of a film whose label maps are all there.

    Args:
        target: File to write, whole or not at all.
        source: The film.
        state: Its label maps.
        draw: Draws a frame.
        settings: Which frames, and whether there is sound.
        frames: How many frames there are.
        reporter: Is told how far it is.

    Returns:
        What a person should know: that sound was left out.

    Raises:
        Unplayable: If the film can't be decoded.
        ValueError: If the file can't be written.
    """
    import av

    said: list[str] = []
    with (
        Film(source) as film,
        written_whole(target) as temporary,
        open(temporary, "wb") as file,
        av.open(file, "w", format="mp4") as container,
    ):
        fitting = [sound for sound in film.sounds if sound.codec_context.name.removesuffix("float") in MP4_SOUND]
        if not settings.sound:
            fitting = []
        elif len(fitting) < len(film.sounds):
            codecs = ", ".join(sorted({sound.codec_context.name for sound in film.sounds if sound not in fitting}))
            said.append(f"{one_line(source)}: its sound ({codecs}) is left out, players expect no such sound in MP4")
        writer = _Writer(container, film, draw, settings)
        for sound in fitting:
            writer.add_sound(sound)
        writing = writer.write(state, tuple(fitting))
        for _ in reporter.track(writing, f"overlay of {one_line(source.name)}", frames):
            pass
        if writer.dropped:
            said.append(f"{one_line(source)}: {writer.dropped:,} packets of its sound are damaged and left out")
    return said


class _Writer:
    """Encodes frames, and copies packets of sound."""

    def __init__(self, container: "OutputContainer", film: Film, draw: Overlay, settings: FilmSettings) -> None:
        self.container, self.film, self.draw, self.settings = container, film, draw, settings
        self.video = container.add_stream("libx264", rate=film.rate / settings.every, options=QUALITY)
        self.sounds: dict[int, Stream] = {}
        self.first: int | None = None
        self.dropped = 0

    def add_sound(self, sound: Any) -> None:
        """Add a stream of sound that is copied."""
        self.sounds[sound.index] = self.container.add_stream_from_template(sound)

    def write(self, state: FilmState, sounds: tuple[Any, ...]) -> Any:
        """Write everything, and yield after each frame."""
        waiting: list[Packet] = []  # sound before the first frame, whose time decides where the film begins
        for item in selected(self.film, self.settings, sounds):
            if isinstance(item, Frame):
                self._encode(item, state.label(item.index))
                for packet in waiting:
                    self._copy(packet)
                waiting = []
                yield
            elif self.first is not None:
                self._copy(item)
            elif self.settings.start == 0 or self._seconds(item) >= self.settings.start - 1:
                waiting.append(item)
        self.container.mux(self._timed(self.video.encode(None)))

    def _encode(self, frame: Frame, label: NDArray[np.uint8]) -> None:
        import av

        drawn = self.draw(frame.image, label)
        if self.first is None:
            self.first = frame.time if self.settings.start > 0 else 0
            self._begin(drawn.shape[1], drawn.shape[0])
        picture = av.VideoFrame.from_ndarray(drawn, format="rgb24")
        picture = picture.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
        picture.pts, picture.time_base = frame.time - self.first, self.film.time_base
        self.container.mux(self._timed(self.video.encode(picture)))

    def _begin(self, width: int, height: int) -> None:
        """Set what is known with the first frame."""
        context = self.video.codec_context
        context.width, context.height, context.pix_fmt = width, height, "yuv420p"
        context.time_base = self.film.time_base
        context.color_primaries = context.color_trc = context.colorspace = _BT709
        context.color_range = 1  # the one of video
        pixel = aspect(self.film)
        if pixel is not None:
            context.sample_aspect_ratio = pixel

    def _timed(self, packets: "list[Packet]") -> "list[Packet]":
        """Give packets the usual time of a frame; only that of the last is used."""
        for packet in packets:
            packet.duration = max(round(1 / (self.film.rate / self.settings.every) / packet.time_base), 1)
        return packets

    def _seconds(self, packet: "Packet") -> float:
        """Time of a packet from the start of the film."""
        return 0.0 if packet.pts is None else float(packet.pts * packet.time_base - self.film.start)

    def _copy(self, packet: "Packet") -> None:
        """Copy a packet of sound to its new time."""
        from av import FFmpegError

        if packet.dts is None or packet.pts is None or packet.size == 0:
            return  # the end of the stream
        assert self.first is not None
        if self.settings.end is not None and self._seconds(packet) >= self.settings.end:
            return
        begin = self.film.start + Fraction(self.first) * self.film.time_base
        shift = round(begin / packet.time_base)
        if self.settings.start > 0 and packet.pts < shift:
            return
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        packet.stream = self.sounds[packet.stream_index]
        try:
            self.container.mux_one(packet)
        except FFmpegError as error:
            if isinstance(error, OSError) and error.errno in (5, 28):  # the disk, not the packet
                raise
            self.dropped += 1
