"""What the facts of one pair mean."""

from pathlib import Path

import numpy as np

from semask.data.classes import IGNORE_INDEX
from semask.data.images import MASK_SUFFIXES
from semask.doctor.facts import LOSSY, Facts, Header, ImageFacts, MaskFacts
from semask.doctor.findings import Collector
from semask.doctor.meaning import Meaning, spelled
from semask.doctor.samples import Sample
from semask.doctor.tally import SplitTally, Tally, bounded
from semask.files.text import one_line

SMALLEST = 32
"""Side in pixels below which an image is small: the stride of the last stage."""
FEW_COLORS = 24
MANY_VALUES = 64
_TOP = 16
NEAR = 12
"""Difference of a channel up to which a color is nearly another."""


class Judge:
    """Goes through the pairs in their order.

    Args:
        root: Folder of the data set.
        meaning: What values and colors stand for.
        found: Takes findings in.
        unusable: Files, by their path below the root, of which it is known already that they can't be read.
        allow_ignored: Accept masks in which every pixel is ignored.
    """

    def __init__(
        self,
        root: Path,
        meaning: Meaning,
        found: Collector,
        *,
        unusable: frozenset[str] = frozenset(),
        allow_ignored: bool = False,
    ) -> None:
        self.root, self.meaning, self.found, self.unusable = root, meaning, found, unusable
        self.allow_ignored = allow_ignored
        self.tally = Tally()

    def pair(self, sample: Sample, facts: Facts) -> None:
        """Note what is wrong with a pair, and add it to the sums."""
        files = sample.below(self.root)
        split = self.tally.split(sample.split)
        split.pairs += 1
        for name, header in zip(files, (facts.image, facts.mask), strict=True):
            if header.problem and name not in self.unusable:
                self.found.add(header.kind or "corrupt-file", [name], header.problem)
            if header.frames > 1:
                self.found.add("animated", [name], f"{header.frames} frames")
        self._image(files[0], facts.image, facts.image_pixels)
        if not facts.image.problem and not facts.mask.problem and facts.mask.height:
            self._sizes(files, facts.image, facts.mask)
        if not facts.mask.problem:
            photo = self._mask(sample, files, facts.mask, facts.mask_pixels, split)
            if photo and facts.image_pixels is not None and facts.image_pixels.colors <= FEW_COLORS:
                self.tally.drawn += 1
        pixels = facts.image_pixels
        self.tally.thumbnails.append(bytes.fromhex(pixels.thumbnail) if pixels is not None else bytes(256))
        self.tally.image_digests.append(pixels.digest if pixels is not None else "")
        telling = facts.mask_pixels is not None and facts.mask_pixels.distinct > 1
        self.tally.mask_digests.append(facts.mask_pixels.digest if facts.mask_pixels is not None and telling else "")

    def _image(self, name: str, header: Header, pixels: ImageFacts | None) -> None:
        if header.problem:
            return
        bounded(self.tally.sizes, header.upright, 1)
        if header.mode == "CMYK":
            self.found.add("cmyk", [name])
        if min(header.stored) < SMALLEST:
            self.found.add("small-image", [name], f"{header.width} x {header.height}")
        if pixels is None:
            return
        if pixels.highest:
            self.tally.highest = max(self.tally.highest, pixels.highest)
            self.found.add("dark" if pixels.dark else "deep", [name], f"values reach {pixels.highest:,} of 65,535")
        if pixels.transparent > 0.01:
            self.found.add("transparent", [name], f"{100 * pixels.transparent:.0f} % of the pixels")
        if pixels.blank:
            self.found.add("blank-image", [name])

    def _sizes(self, files: tuple[str, str], image: Header, mask: Header) -> None:
        if mask.stored not in (image.upright, image.stored):
            said = f"image {image.width} x {image.height}, mask {mask.width} x {mask.height}"
            self.found.add("size-differs", files, said)
        elif mask.orientation != 1:
            self.found.add(
                "mask-turned", files, f"EXIF orientation {mask.orientation}, of the photo {image.orientation}"
            )
        elif image.orientation != 1 and image.upright == image.stored:
            self.found.add("turn-unclear", files, f"EXIF orientation {image.orientation}")
        elif image.orientation != 1 and mask.stored != image.upright:
            self.found.add("turned", files, f"EXIF orientation {image.orientation}")

    def _mask(
        self, sample: Sample, files: tuple[str, str], header: Header, facts: MaskFacts | None, split: SplitTally
    ) -> bool:
        """Note what is wrong with a mask; returns whether it looks like a photo."""
        name = files[1]
        if header.mode in ("RGBA", "LA", "PA"):
            self.found.add("mask-alpha", [name])
        if facts is None:
            if header.format in LOSSY:
                self.found.add("jpeg-mask", [name])
            return False
        if is_photo(facts):
            self.found.add("photo-mask", [name], f"{facts.distinct:,} different values or colors")
            return True
        refused = self._kind_of_file(sample, name, header)
        if facts.colored:
            self.tally.colored += 1
        else:
            self.tally.numbers += 1
        self._palette(name, facts)
        self._white(name, facts)
        for value, count in facts.values.items():
            bounded(self.tally.values, (facts.colored, value), count)
        self._values(name, facts, split, quiet=refused)
        return False

    def _kind_of_file(self, sample: Sample, name: str, header: Header) -> bool:
        """Note masks whose kind of file training refuses."""
        if header.format in LOSSY:
            self.found.add("jpeg-mask", [name], header.format)
            return True
        if header.mode == "F":
            self.found.add("float-mask", [name])
            return True
        if isinstance(sample.label, Path) and sample.label.suffix.lower() not in MASK_SUFFIXES:
            self.found.add("mask-ending", [name], f"it is a {header.format}")
        return False

    def _palette(self, name: str, facts: MaskFacts) -> None:
        colors = self.meaning.table.colors if self.meaning.table is not None else None
        for value, color in facts.palette.items():
            before = self.tally.palette.setdefault(value, color)
            rgb = (color >> 16, color >> 8 & 255, color & 255)
            listed = colors.get(rgb, value) if colors else value
            if before != color:
                said = f"{value} is #{color:06x} here, and #{before:06x} in others"
            elif listed not in (value, self.meaning.class_of(value, colored=False), IGNORE_INDEX):
                said = f"{value} is #{color:06x} here, which is the color of class {listed} in the list"
            else:
                continue
            self.found.add("palette-differs", [name], said)
            return

    def _white(self, name: str, facts: MaskFacts) -> None:
        """Note masks of 0 and 255; whether it is wrong is known in the end."""
        if facts.colored or not facts.values.keys() <= {0, IGNORE_INDEX}:
            self.tally.other_values += 1
            return
        if IGNORE_INDEX in facts.values:
            self.found.add("zero-255", [name])

    def _values(self, name: str, facts: MaskFacts, split: SplitTally, *, quiet: bool) -> None:
        if self.meaning.table is None:
            if not quiet and is_smoothed(facts):
                self.found.add("smoothed-mask", [name], f"{facts.distinct:,} different values")
            return
        known, unknown = self.meaning.counts(facts)
        split.masks += 1
        split.pixels.update(known)
        present = [index for index in known if index != IGNORE_INDEX]
        split.images.update(present)
        thin = {self.meaning.class_of(value, colored=facts.colored) for value in facts.thin}
        split.thin.update(index for index in present if index in thin)
        if facts.colored and not self.meaning.reads_colors:
            if not quiet:
                self.found.add("rgb-without-palette", [name], _few(facts.values, colored=True))
            return
        if unknown and not quiet:
            self._unknown(name, facts, known, unknown)
        elif not present and not quiet:
            if not self.allow_ignored:
                self.found.add("ignored-mask", [name])
        elif len(known) == 1 and present:
            split.constant.update(present)
            self.found.add("constant-mask", [name], self.class_name(present[0]))

    def _unknown(self, name: str, facts: MaskFacts, known: dict[int, int], unknown: dict[int, int]) -> None:
        assert self.meaning.classes is not None
        share = sum(unknown.values()) / max(1, facts.pixels)
        many = 4 if facts.colored or len(self.meaning.classes) <= 3 else 8
        rare = share < 0.5 and max(unknown.values()) < 0.1 * facts.pixels and bool(known)
        if len(unknown) >= many and (rare or (facts.colored and self._near(unknown))):
            said = f"{facts.distinct:,} different values, {100 * share:.2g} % of the pixels are no class"
            self.found.add("smoothed-mask", [name], said)
            return
        kind = "unknown-color" if facts.colored else "unknown-value"
        self.found.add(kind, [name], _few(unknown, colored=facts.colored))
        if not facts.colored:
            for value, count in unknown.items():
                bounded(self.tally.unknown, value, count)

    def _near(self, unknown: dict[int, int]) -> bool:
        """Whether most of the unknown colors are nearly those of classes, as after compression."""
        colors = self.meaning.table.colors if self.meaning.table is not None else None
        if not colors:
            return False
        listed = np.array(list(colors))  # [K, 3]
        given = np.array([[color >> 16, color >> 8 & 255, color & 255] for color in unknown])  # [N, 3]
        near = np.abs(given[:, None] - listed).max(-1).min(1) <= NEAR
        return bool(np.array(list(unknown.values()))[near].sum() > 0.6 * sum(unknown.values()))

    def class_name(self, index: int) -> str:
        """Number and name of a class."""
        classes = self.meaning.classes
        return f'{index} "{one_line(classes.names[index], longest=60)}"' if classes is not None else str(index)


def is_photo(facts: MaskFacts) -> bool:
    """Whether a mask has the many values of a photo, none of which is frequent."""
    pixels = facts.pixels if facts.distinct <= len(facts.values) else None
    if facts.distinct <= MANY_VALUES:
        return False
    top = sum(sorted(facts.values.values(), reverse=True)[:_TOP])
    return top < 0.5 * (pixels or facts.pixels * facts.distinct / max(1, len(facts.values)))


def is_smoothed(facts: MaskFacts) -> bool:
    """Whether a mask has a few frequent values and many rare ones, where it is not known which are classes."""
    top = sum(sorted(facts.values.values(), reverse=True)[:_TOP])
    rare = [count for count in facts.values.values() if count < 0.01 * facts.pixels]
    return facts.distinct > 24 and len(rare) > 16 and top > 0.6 * facts.pixels


def _few(values: dict[int, int], *, colored: bool) -> str:
    named = ", ".join(spelled(value, colored=colored) for value in sorted(values)[:6])
    return named + (f" and {len(values) - 6} more" if len(values) > 6 else "")
