"""Pixels of an object as tools pack them: run lengths of COCO and of Label Studio, small PNG files of labelme."""

import base64
import binascii
import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from semask.extras import require
from semask.files.text import reason

_HEAD_BITS = 32 + 5 + 4 * 4
"""Bits at the start of a brush: number of values, bits of a value, bits of the four kinds of lengths."""
_LENGTH_BITS = (4, 8, 12, 16)
"""Bits of the four kinds of lengths that we write."""
_LONGEST_RUN = 2 ** _LENGTH_BITS[-1] // 4
"""Pixels of the longest run."""


class CocoMask(NamedTuple):
    """Run lengths of COCO: background, object, background, ... down the columns.

    Args:
        counts: The lengths, or the text that pycocotools packs them into.
    """

    counts: NDArray[np.int64] | bytes

    @classmethod
    def of(cls, value: Any, size: tuple[int, int] | None) -> "CocoMask":
        """Check what a file has: {"size": [height, width], "counts": [...] or "..."}.

        Raises:
            ValueError: If it is something else, or of another size than its image.
        """
        counts = value.get("counts")
        if size is not None and value.get("size") != list(size):
            raise ValueError("the size of its run lengths (RLE) is not that of its image")
        if isinstance(counts, str) and counts.isascii():
            codes = np.frombuffer(counts.encode(), dtype=np.uint8).astype(np.int64) - 48
            # The last of the codes must not promise another one: the library would read on behind the text.
            if not codes.size or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
                raise ValueError("its run lengths (RLE) are damaged: they are not what pycocotools writes")
            return cls(counts.encode())
        if not isinstance(counts, list) or not all(type(count) is int and 0 <= count < 2**40 for count in counts):
            raise ValueError('its run lengths (RLE) are wrong: expected "counts", a list of whole numbers, or a text')
        return cls(np.array(counts, dtype=np.int64))

    def decode(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Unpack them: [H, W].

        Raises:
            ValueError: If they are not those of such an image.
        """
        if isinstance(self.counts, bytes):
            require("pycocotools")
            from pycocotools import mask

            try:
                unpacked: NDArray[np.bool_] = mask.decode({"size": list(size), "counts": self.counts}).astype(bool)
            except ValueError as error:
                raise ValueError(f"its run lengths (RLE) do not fit {size[1]} x {size[0]} pixels") from error
            return unpacked
        total = int(self.counts.sum())
        if total != size[0] * size[1]:
            raise ValueError(f"its run lengths (RLE) add up to {total:,}, expected {size[1]} x {size[0]} pixels")
        runs = np.repeat(np.arange(len(self.counts)) % 2 == 1, self.counts)
        return runs.reshape(size[::-1]).T


class BrushMask(NamedTuple):
    """Run lengths of Label Studio: bits that give the red, green, blue and alpha of all pixels.

    Args:
        packed: The bytes.
    """

    packed: bytes

    @classmethod
    def of(cls, values: Any) -> "BrushMask":
        """Check what a file has: a list of bytes, or bytes already.

        Raises:
            ValueError: If it is something else.
        """
        try:
            packed = bytes(values) if isinstance(values, list | bytes) else b""
        except (TypeError, ValueError):
            packed = b""
        if len(packed) * 8 < _HEAD_BITS:
            raise ValueError('its "rle" is wrong: expected a list of numbers of 0..255, as Label Studio writes it')
        return cls(packed)

    @classmethod
    def pack(cls, starts: NDArray[np.int64], ends: NDArray[np.int64], size: tuple[int, int]) -> "BrushMask":
        """Pack pixels that are painted; all four values of such a pixel are 255.

        Args:
            starts: First pixel of each run of painted ones, row by row: [N], in order.
            ends: Pixel behind each run: [N].
            size: Height and width of the image.

        Raises:
            ValueError: If the image has more pixels than the format can count.
        """
        total = size[0] * size[1]
        if total >= 2**30:
            raise ValueError(f"{size[1]} x {size[0]} pixels: brushes of Label Studio have fewer than 2^30 pixels")
        lengths = np.diff(np.stack([starts, ends], axis=1).ravel(), prepend=0, append=total)
        values = np.arange(len(lengths)) % 2 * 255
        pieces = -(-lengths // _LONGEST_RUN)  # none of a run of no length
        left = np.repeat(lengths - (pieces - 1) * _LONGEST_RUN, pieces)
        last = np.zeros(len(left), dtype=bool)
        last[np.cumsum(pieces)[pieces > 0] - 1] = True
        lengths, values = np.where(last, left, _LONGEST_RUN), np.repeat(values, pieces)
        widths = np.array(_LENGTH_BITS)
        kinds = np.searchsorted(2**widths, 4 * lengths)
        # A run: 1, two bits for the kind of its length, the length less one, the value.
        codes = (4 + kinds) << widths[kinds] | (4 * lengths - 1)
        codes = codes << 8 | values
        counts = 11 + widths[kinds]
        head = np.array([4 * total, 7, *(widths - 1)], dtype=np.int64)
        return cls(_packed(np.append(head, codes), np.append([32, 5, 4, 4, 4, 4], counts)))

    def decode(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Unpack the pixels whose alpha is not 0: [H, W].

        Raises:
            ValueError: If they are not those of such an image.
        """
        total = len(self.packed) * 8
        expected = 4 * size[0] * size[1]
        place = 0

        def take(count: int) -> int:
            nonlocal place
            place += count
            if place > total:
                raise ValueError('its "rle" ends too soon: export it again')
            first = place - count
            whole = int.from_bytes(self.packed[first // 8 : (place + 7) // 8], "big")
            return whole >> -place % 8 & (1 << count) - 1

        values = take(32)
        if values != expected:
            raise ValueError(f'its "rle" has {values:,} values, expected 4 x {size[1]} x {size[0]}')
        width = take(5) + 1
        lengths = [take(4) + 1 for _ in range(4)]
        unpacked = np.zeros(expected, dtype=bool)
        stream: NDArray[np.uint8] | None = None
        done = 0
        while done < expected:
            repeated = take(1)
            end = done + 1 + take(lengths[take(2)])
            if end > expected:
                raise ValueError('its "rle" has more values than pixels: export it again')
            if repeated:
                unpacked[done:end] = take(width) != 0
            else:
                if stream is None:
                    stream = np.unpackbits(np.frombuffer(self.packed, dtype=np.uint8))
                first = place
                place += (end - done) * width
                if place > total:
                    raise ValueError('its "rle" ends too soon: export it again')
                unpacked[done:end] = stream[first:place].reshape(-1, width).any(1)
            done = end
        return unpacked.reshape(*size, 4)[..., 3]


def _packed(values: NDArray[np.int64], counts: NDArray[np.int64]) -> bytes:
    """Write numbers one after another, each with so many bits, at most 32."""
    bits = np.unpackbits(values.astype(">u4").view(np.uint8).reshape(-1, 4), axis=1)  # [N, 32], the last ones count
    return np.packbits(bits[np.arange(32) >= 32 - counts[:, None]]).tobytes()


class PngMask(NamedTuple):
    """A PNG file of the box around an object.

    Args:
        png: The file.
        left: First column of the box.
        top: First row of the box.
        size: Height and width of the box.
    """

    png: bytes
    left: int
    top: int
    size: tuple[int, int]

    @classmethod
    def of(cls, text: Any, box: NDArray[np.float32]) -> "PngMask":
        """Check what labelme has: the file in base64, and the first and last pixel of the box.

        Raises:
            ValueError: If it is something else.
        """
        (left, top), (right, bottom) = box.astype(np.int64).tolist()
        try:
            png = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
        except (binascii.Error, ValueError):
            png = b""
        if not png or min(left, top) < 0 or right < left or bottom < top:
            raise ValueError('its "mask" is wrong: expected a PNG file in base64, and two points around it')
        return cls(png, left, top, (bottom - top + 1, right - left + 1))

    def decode(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """Unpack the pixels that are not 0: [H, W].

        Raises:
            ValueError: If it is no PNG file, or not of the size of the box, or the box reaches out of the image.
        """
        bottom, right = self.top + self.size[0], self.left + self.size[1]
        if bottom > size[0] or right > size[1]:
            raise ValueError('its "mask" reaches out of the image')
        try:
            with Image.open(io.BytesIO(self.png), formats=["PNG"]) as image:
                if image.size != self.size[::-1]:  # before anything is unpacked
                    raise ValueError(f"{image.width} x {image.height} pixels, its box has others")
                pixels = np.array(image.convert("L")) != 0
        except Exception as error:  # damaged files make Pillow raise nearly anything
            raise ValueError(f'its "mask" cannot be read ({reason(error)})') from error
        unpacked = np.zeros(size, dtype=bool)
        unpacked[self.top : bottom, self.left : right] = pixels
        return unpacked
