"""Small films for the tests, made with PyAV."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from semask.data.bands import Reading
from semask.data.classes import Classes
from semask.prediction.films.predict import predict_film
from semask.prediction.prediction import Prediction
from semask.settings.film import FilmSettings
from semask.settings.inference import Inference

av = pytest.importorskip("av", reason="films need the extra video")
KINDS = ("mask", "overlay", "confidence", "json")


def drawing(index: int, width: int = 64, height: int = 48) -> NDArray[np.uint8]:
    """A frame that no other is like: a bar that moves over a slope."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([x * 3, y * 4, np.full_like(x, 40)], -1).astype(np.uint8)
    image[:, 2 * index % width : 2 * index % width + 9] = (250, 40, 40)
    return image


def write_film(
    path: Path,
    frames: int | Sequence[NDArray[np.uint8]] = 12,
    *,
    codec: str = "libx264",
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 10),
    sound: str | None = None,
) -> Path:
    """Write a film, by default of 10 frames in a second, with a tone of the same length if asked for."""
    images = [drawing(i) for i in range(frames)] if isinstance(frames, int) else list(frames)
    times = range(len(images)) if times is None else times
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=round(1 / time_base))
        stream.height, stream.width, stream.pix_fmt = *images[0].shape[:2], "yuv420p"
        stream.codec_context.time_base = time_base
        if codec == "libx264":
            stream.options = {"crf": "8", "preset": "ultrafast", "bf": "2", "g": "4"}
        tone = container.add_stream(sound, rate=48_000) if sound else None
        for time, image in zip(times, images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = time, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if tone is not None:
            write_tone(container, tone, float((times[-1] + 1) * time_base))
    return path


def write_tone(container, stream, seconds: float) -> None:
    """Encode a tone."""
    context = stream.codec_context
    samples = np.sin(np.arange(int(48_000 * seconds)) / 20).astype(np.float32)[None]
    frame = av.AudioFrame.from_ndarray(samples, format="flt", layout="mono")
    frame.rate, frame.pts = 48_000, 0
    resampler = av.AudioResampler(format=context.format, layout=context.layout, rate=48_000)
    fifo = av.AudioFifo()
    for part in resampler.resample(frame):
        fifo.write(part)
    context.open(strict=False)
    size = context.frame_size or 1024
    while (part := fifo.read(size, partial=True)) is not None:
        container.mux(stream.encode(part))
    container.mux(stream.encode(None))


def turned(source: Path, path: Path) -> Path:
    """Copy an MP4 that players turn by 90 degrees clockwise, as phones write it."""
    content = bytearray(source.read_bytes())
    at = content.index(b"tkhd") + 44
    content[at : at + 36] = b"".join(
        x.to_bytes(4, "big", signed=True) for x in (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)
    )
    path.write_bytes(content)
    return path


def times_of(path: Path) -> list[float]:
    """Seconds of the frames of a film, as PyAV alone reads them."""
    with av.open(str(path)) as container:
        return [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]


def images_of(path: Path) -> list[NDArray[np.uint8]]:
    """Frames of a film, as PyAV alone reads them."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


class Striped:
    """Stands for a predictor, without torch: the classes follow the colors, with a little noise of their own.

    Args:
        file: What stands for the file of its model.
        batch: Frames that are given together; what comes of a frame depends on its place among them.
        stop: Frames after which it is stopped, as Control-C would.
    """

    def __init__(self, file: Path, *, batch: int = 3, stop: int | None = None) -> None:
        self.model = SimpleNamespace(path=file)
        self.inference = Inference(window_batch=batch)
        self.reading = Reading()
        self.classes = Classes(("a", "b", "c"))
        self.stop, self.seen = stop, 0

    def __call__(self, images, *, confidence=False, probabilities=False):
        found = []
        for place, image in enumerate(images):
            if self.seen == self.stop:
                raise KeyboardInterrupt
            self.seen += 1
            pixels = np.asarray(image).astype(np.float32).transpose(2, 0, 1) + 20 * place
            shares = (pixels / pixels.sum(0)).astype(np.float16)
            sure = shares.max(0).astype(np.float32) if confidence else None
            label = shares.argmax(0).astype(np.uint8)
            found.append(Prediction(label, sure, (), self.classes, None, shares if probabilities else None))
        return found


def run_film(path: Path, stem: Path, settings: FilmSettings, stop: int | None = None) -> Striped:
    """Segment a film with `Striped`, and write all that films have."""
    predictor = Striped(path, stop=stop)
    predict_film(predictor, path, stem, kinds=KINDS, settings=settings)
    return predictor


def content_of(folder: Path) -> dict[str, bytes]:
    """All files in a folder and below it."""
    return {str(x.relative_to(folder)): x.read_bytes() for x in sorted(folder.rglob("*")) if x.is_file()}
