"""What is noted of a pair of files: small records that go from one process to another."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Header:
    """What the header of a file says.

    Args:
        format: Pillow's name of the format, e.g. "PNG"; "" for what is no image file.
        mode: Pillow's name of the kind of pixels, e.g. "RGB".
        height: Stored rows.
        width: Stored columns.
        orientation: EXIF orientation, 1 to 8; 1 is upright.
        frames: Frames or pages.
        problem: What is wrong with the file, in the words of training; "" if nothing is.
        kind: Name of the finding for the problem.
    """

    format: str = ""
    mode: str = ""
    height: int = 0
    width: int = 0
    orientation: int = 1
    frames: int = 1
    problem: str = ""
    kind: str = ""

    @property
    def stored(self) -> tuple[int, int]:
        """Height and width as stored."""
        return self.height, self.width

    @property
    def upright(self) -> tuple[int, int]:
        """Height and width after the turn."""
        turned = self.orientation >= 5 and self.format != "TIFF"
        return (self.width, self.height) if turned else (self.height, self.width)


@dataclass(frozen=True)
class ImageFacts:
    """What the pixels of an image say.

    Args:
        digest: Hash of the pixels and the turn.
        thumbnail: 256 gray values in hexadecimal digits.
        colors: Different colors among up to 4096 pixels.
        blank: Whether all pixels are the same.
        transparent: Share of pixels that are more than half transparent.
        highest: Greatest sample of more than 8 bits; 0 for 8 bits.
        dark: Whether these samples use less than a quarter of their range.
    """

    digest: str = ""
    thumbnail: str = ""
    colors: int = 0
    blank: bool = False
    transparent: float = 0.0
    highest: int = 0
    dark: bool = False


@dataclass(frozen=True)
class MaskFacts:
    """What the pixels of a mask say.

    Args:
        colored: Whether they are colors.
        values: Value, or color as 0xRRGGBB -> pixels; the most frequent ones.
        distinct: Different values or colors.
        thin: Values or colors whose objects are nowhere as wide as 4 pixels.
        digest: Hash of the pixels.
        palette: For values of a mask with a palette: value -> its color 0xRRGGBB.
    """

    colored: bool = False
    values: dict[int, int] = field(default_factory=dict)
    distinct: int = 0
    thin: tuple[int, ...] = ()
    digest: str = ""
    palette: dict[int, int] = field(default_factory=dict)

    @property
    def pixels(self) -> int:
        """Pixels whose values are kept."""
        return sum(self.values.values())


@dataclass(frozen=True)
class Facts:
    """What a pair says: headers, and pixels where they were read."""

    image: Header
    mask: Header
    image_pixels: ImageFacts | None = None
    mask_pixels: MaskFacts | None = None
