"""Small films for the tests, made with PyAV."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray


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
