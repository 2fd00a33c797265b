"""120 broken data sets and more: name -> (finding, part of a file's name, program that breaks a right one)."""

import json
import os
import shutil
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from made import COLORS, SIZE, Made, colored, exif, label, photo
from PIL import Image

Case = tuple[str, str, Callable[[Made], Any]]
BROKEN: dict[str, Case] = {}


def broken(finding: str, file: str = "") -> Callable[[Callable[[Made], Any]], Callable[[Made], Any]]:
    def add(program: Callable[[Made], Any]) -> Callable[[Made], Any]:
        BROKEN[program.__name__] = (finding, file, program)
        return program

    return add


def each(name: str, finding: str, file: str, program: Callable[[Made], Any]) -> None:
    assert name not in BROKEN
    BROKEN[name] = (finding, file, program)


def cut(path: Path, share: float = 0.5) -> None:
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def huge_png(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b""))


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path, to: str) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(to)


def rename(path: Path, name: str) -> None:
    path.rename(path.with_name(name))


def stripes(x: np.ndarray) -> np.ndarray:
    """Three classes, each in a large part."""
    order = np.roll(np.arange(3), int(x[0, 0])).astype(np.uint8)
    return order.repeat(16)[None].repeat(SIZE[0], 0)


# files
each("image of 0 bytes", "empty-file", "images/train/p1.png", lambda s: s.image(1).write_bytes(b""))
each("mask of 0 bytes", "empty-file", "annotations/val/p4.png", lambda s: s.mask(4).write_bytes(b""))
each("all masks of 0 bytes", "empty-file", "p0.png", lambda s: [s.mask(i).write_bytes(b"") for i in range(6)])
each("truncated png", "corrupt-file", "images/train/p2.png", lambda s: cut(s.image(2)))
each("truncated header", "", "images/train/p2.png", lambda s: s.image(2).write_bytes(s.image(2).read_bytes()[:20]))
each("truncated mask", "corrupt-file", "annotations/train/p0.png", lambda s: cut(s.mask(0), 0.7))
each("text as image", "unknown-file", "images/val/p5.png", lambda s: s.image(5).write_text("no image"))
each("text as mask", "unknown-file", "annotations/val/p5.png", lambda s: s.mask(5).write_text("no mask"))
each("web page as image", "unknown-file", "p1.png", lambda s: s.image(1).write_text("<!doctype html><html>404"))
each("heic as png", "unknown-file", "p0.png", lambda s: s.image(0).write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 99))
each("zip as png", "unknown-file", "p0.png", lambda s: s.image(0).write_bytes(b"PK\x03\x04" + b"\0" * 99))
each("pipe as image", "special-file", "images/train/p1.png", lambda s: pipe(s.image(1)))
each("pipe as mask", "special-file", "annotations/train/p1.png", lambda s: pipe(s.mask(1)))
each("link to nothing", "dangling-link", "images/train/p3.png", lambda s: link(s.image(3), "/nowhere/p3.png"))
each("mask linked to nothing", "dangling-link", "annotations/train/p3.png", lambda s: link(s.mask(3), "gone.png"))
each("link to itself", "dangling-link", "images/train/p3.png", lambda s: link(s.image(3), "p3.png"))
each("folder in a circle", "link-loop", "images/train/again", lambda s: link(s.image(0).with_name("again"), ".."))
each("huge image", "too-large", "images/train/p0.png", lambda s: huge_png(s.image(0)))
each("huge mask", "too-large", "annotations/train/p0.png", lambda s: huge_png(s.mask(0)))
each("hidden image", "hidden-file", ".p9.png", lambda s: shutil.copy(s.image(0), s.image(0).with_name(".p9.png")))
for ending in (".heic", ".jp2", ".npy", ".dng"):
    each(
        f"unread {ending}",
        "unread-file",
        f"x{ending}",
        lambda s, ending=ending: s.image(0).with_name(f"x{ending}").write_bytes(b"some"),
    )


@broken("odd-name", "new")
def line_break_in_a_name(s: Made) -> None:
    rename(s.image(0), "new\nline.png")
    rename(s.mask(0), "new\nline.png")


@broken("odd-name", "\\xff")
def name_that_is_no_utf8(s: Made) -> None:
    for path in (s.image(0), s.mask(0)):
        os.rename(path, os.path.join(os.fsencode(path.parent), b"a\xff.png"))


@broken("corrupt-file", "p1.jpg")
def truncated_jpeg(s: Made) -> None:
    s.put_image(1, s.photos[1], ".jpg")
    cut(s.image(1, ".jpg"))


@broken("corrupt-file", "p1.tif")
def truncated_tiff(s: Made) -> None:
    s.put_image(1, s.photos[1], ".tif")
    cut(s.image(1, ".tif"), 0.6)


# pairs
each("image alone", "image-without-mask", "images/train/p1.png", lambda s: s.mask(1).unlink())
each("mask alone", "mask-without-image", "annotations/train/p1.png", lambda s: s.image(1).unlink())
each("no masks of val", "image-without-mask", "p4.png", lambda s: [s.mask(i).unlink() for i in (4, 5)])
each("masks as npy", "mask-ending", "p0.npy", lambda s: [rename(s.mask(i), f"p{i}.npy") for i in range(6)])
each("masks as gif", "mask-ending", "p0.gif", lambda s: s.all_masks(lambda x: x, ".gif"))
each("one mask as gif", "mask-ending", "p2.gif", lambda s: s.put_mask(2, s.labels[2], ".gif"))
each("masks as jpeg", "jpeg-mask", "p0.jpg", lambda s: s.all_masks(lambda x: x * 100, ".jpg"))
each("masks as colored jpeg", "jpeg-mask", "p0.jpg", lambda s: s.all_masks(lambda x: colored(stripes(x)), ".jpg"))
each("masks as webp", "jpeg-mask", "p0.webp", lambda s: s.all_masks(lambda x: x * 100, ".webp"))
each("one mask as jpeg", "jpeg-mask", "p3.jpg", lambda s: s.put_mask(3, s.labels[3], ".jpg"))
each("jpeg called png", "jpeg-mask", "p3.png", lambda s: s.put_mask(3, s.labels[3], format="JPEG"))
each("webp called png", "jpeg-mask", "p3.png", lambda s: s.put_mask(3, s.labels[3], format="WEBP"))
each("two images of one stem", "same-stem", "p1.jpg", lambda s: Image.fromarray(photo(9)).save(s.image(1, ".jpg")))
each("two masks of one stem", "same-stem", "p1.tif", lambda s: Image.fromarray(label(9)).save(s.mask(1, ".tif")))
each("case of a pair", "pair-case", "P1.png", lambda s: rename(s.mask(1), "P1.png"))
each("case of all pairs", "pair-case", "P0.png", lambda s: [rename(s.mask(i), f"P{i}.png") for i in range(6)])
each("masks with an ending", "refused", "", lambda s: [rename(s.mask(i), f"p{i}_mask.png") for i in range(6)])
each("no val", "split-missing", "val", lambda s: [shutil.rmtree(x.parent) for x in (s.image(4), s.mask(4))])
each("no train", "split-missing", "train", lambda s: [shutil.rmtree(x.parent) for x in (s.image(0), s.mask(0))])
each("no val masks", "image-without-mask", "images/val/p4.png", lambda s: shutil.rmtree(s.mask(4).parent))
each("no masks", "unknown-layout", "", lambda s: shutil.rmtree(s.root / "annotations"))
each("no images", "unknown-layout", "", lambda s: shutil.rmtree(s.root / "images"))
each("valid for val", "refused", "", lambda s: [rename(s.root / x / "val", "valid") for x in ("images", "annotations")])


@broken("pair-unicode", "o")
def unicode_of_a_pair(s: Made) -> None:
    rename(s.image(1), unicodedata.normalize("NFC", "straße ö.png"))
    rename(s.mask(1), unicodedata.normalize("NFD", "straße ö.png"))


@broken("case-clash", "P0.png")
def names_that_differ_in_case(s: Made) -> None:
    rename(s.image(1), "P0.png")
    rename(s.mask(1), "P0.png")


@broken("unicode-clash", "")
def names_that_differ_in_unicode(s: Made) -> None:
    for i, form in ((0, "NFC"), (1, "NFD")):
        rename(s.image(i), unicodedata.normalize(form, "ö.png"))
        rename(s.mask(i), unicodedata.normalize(form, "ö.png"))


@broken("swapped", "p0.png")
def swapped_folders(s: Made) -> None:
    (s.root / "images").rename(s.root / "x")
    (s.root / "annotations").rename(s.root / "images")
    (s.root / "x").rename(s.root / "annotations")


@broken("swapped", "p0")
def swapped_folders_with_jpeg(s: Made) -> None:
    s.all_images(lambda x: x, ".jpg")
    swapped_folders(s)


@broken("no-images")
def empty_folder(s: Made) -> None:
    shutil.rmtree(s.root)
    s.root.mkdir()


@broken("unknown-layout")
def only_texts(s: Made) -> None:
    empty_folder(s)
    (s.root / "notes.txt").write_text("images will follow")


@broken("unknown-layout", "give that folder")
def a_folder_in_a_folder(s: Made) -> None:
    s.root.rename(s.root.parent / "inner")
    s.root.mkdir()
    (s.root.parent / "inner").rename(s.root / "inner")


@broken("unknown-layout", "data.zip")
def still_packed(s: Made) -> None:
    empty_folder(s)
    (s.root / "data.zip").write_bytes(b"PK\x03\x04")


@broken("unknown-layout")
def only_images(s: Made) -> None:
    shutil.rmtree(s.root / "annotations")
    for path in [*(s.root / "images").rglob("*.png")]:
        path.rename(s.root / path.name)
    shutil.rmtree(s.root / "images")
    (s.root / "classes.json").unlink()


# sizes
each("mask of another size", "size-differs", "p1.png", lambda s: s.put_mask(1, s.labels[1][:-1]))
each("mask on its side", "size-differs", "p1.png", lambda s: s.put_mask(1, s.labels[1].T.copy()))
each("masks of half the size", "size-differs", "p0.png", lambda s: s.all_masks(lambda x: x[::2, ::2].copy()))
each("photo upside down", "turn-unclear", "p1.jpg", lambda s: s.put_image(1, s.photos[1], ".jpg", exif=exif(3)))
each("photo mirrored", "turn-unclear", "p1.jpg", lambda s: s.put_image(1, s.photos[1], ".jpg", exif=exif(2)))
each("photo flipped", "turn-unclear", "p5.jpg", lambda s: s.put_image(5, s.photos[5], ".jpg", exif=exif(4)))
each("png upside down", "turn-unclear", "p5.png", lambda s: s.put_image(5, s.photos[5], exif=exif(3)))
each("mask with a turn", "mask-turned", "p1.png", lambda s: s.put_mask(1, s.labels[1], exif=exif(6)))
each(
    "wide photo",
    "sizes-vary",
    "",
    lambda s: [f(1, g(1, (40, 600))) for f, g in ((s.put_image, photo), (s.put_mask, label))],
)
each(
    "tiny photo",
    "small-image",
    "p1.png",
    lambda s: [s.put_image(1, photo(1, (16, 20))), s.put_mask(1, label(1, (16, 20)))],
)


@broken("turn-unclear", "p1.jpg")
def square_on_its_side(s: Made) -> None:
    s.put_image(1, photo(1, (40, 40)), ".jpg", exif=exif(6))
    s.put_mask(1, label(1, (40, 40)))


@broken("mask-turned", "p1.png")
def both_upside_down(s: Made) -> None:
    s.put_image(1, s.photos[1], exif=exif(3))
    s.put_mask(1, s.labels[1], exif=exif(3))


# images
def frames(s: Made, i: int = 1) -> list[Image.Image]:
    return [Image.fromarray(photo(100 + i + k)) for k in range(2)]


def pages(s: Made) -> list[Image.Image]:
    return [Image.fromarray(s.labels[i]) for i in (1, 2)]


def alpha(s: Made, i: int) -> np.ndarray:
    part = np.full((*SIZE, 1), 255, dtype=np.uint8)
    part[:20] = 0
    return np.concatenate([s.photos[i], part], -1)


def dark(x: np.ndarray) -> Image.Image:
    return Image.fromarray(x[..., 0].astype(np.uint16) * 16)


each("cmyk", "cmyk", "p1.jpg", lambda s: s.put_image(1, Image.fromarray(s.photos[1]).convert("CMYK"), ".jpg"))
each("cmyk tiff", "cmyk", "p1.tif", lambda s: s.put_image(1, Image.fromarray(s.photos[1]).convert("CMYK"), ".tif"))
for ending in (".gif", ".png", ".webp", ".tif"):
    each(
        f"animated {ending}",
        "animated",
        f"p1{ending}",
        lambda s, ending=ending: s.put_image(1, frames(s)[0], ending, save_all=True, append_images=frames(s)[1:]),
    )
each(
    "mask of two pages", "animated", "annotations/train/p1.tif",
    lambda s: s.put_mask(1, pages(s)[0], ".tif", save_all=True, append_images=pages(s)[1:]),
)  # fmt: skip
each("dark", "dark", "p1.png", lambda s: s.put_image(1, dark(s.photos[1])))
each("dark tiff", "dark", "p1.tif", lambda s: s.put_image(1, dark(s.photos[1]), ".tif"))
each("all dark", "dark", "p0.png", lambda s: s.all_images(dark))
each("floats", "float-image", "p1.tif", lambda s: s.put_image(1, s.photos[1][..., 0].astype(np.float32), ".tif"))
each("32 bits", "float-image", "p1.tif", lambda s: s.put_image(1, s.photos[1][..., 0].astype(np.int32), ".tif"))
each("transparent", "transparent", "p1.png", lambda s: s.put_image(1, alpha(s, 1)))
each("transparent gray", "transparent", "p1.png", lambda s: s.put_image(1, Image.fromarray(alpha(s, 1)).convert("LA")))
each("black", "blank-image", "p1.png", lambda s: s.put_image(1, s.photos[1] * 0))
each("white", "blank-image", "p5.png", lambda s: s.put_image(5, s.photos[5] * 0 + 255))
each("twice in a split", "duplicate-image", "p1.png", lambda s: s.copy(0, 1))
each("twice with two masks", "labels-disagree", "p1.png", lambda s: s.copy(0, 1, mask=False))
each("in both splits", "shared-image", "p4.png", lambda s: s.copy(0, 4))
each("all in both splits", "shared-image", "p5.png", lambda s: [s.copy(0, 4), s.copy(1, 5)])
each("in both splits as another file", "shared-image", "p4.bmp", lambda s: s.put_image(4, s.photos[0], ".bmp"))
each("in both splits by a link", "shared-image", "p4.png", lambda s: link(s.image(4), "../train/p0.png"))
each("nearly in both splits", "near-image", "p4.png", lambda s: s.put_image(4, s.photos[0] // 2 * 2))
each("compressed in both splits", "near-image", "p4.jpg", lambda s: s.put_image(4, s.photos[0], ".jpg", quality=85))


@broken("near-image", "p4.png")
def another_size_in_both_splits(s: Made) -> None:
    s.put_image(4, Image.fromarray(s.photos[0]).resize((96, 80)))
    s.put_mask(4, label(4, (80, 96)))


# masks
def smooth(x: np.ndarray, factor: int) -> Image.Image:
    small = Image.fromarray((x * factor).astype(np.uint8)).resize((24, 20), Image.Resampling.NEAREST)
    return small.resize((SIZE[1], SIZE[0]), Image.Resampling.BICUBIC)


def two(s: Made, values: tuple[int, int] = (0, 255)) -> None:
    s.classes(2)
    s.all_masks(lambda x: np.array([*values, values[1]], dtype=np.uint8)[x])


def with_palette(s: Made) -> None:
    s.classes(3, palette=COLORS)
    s.all_masks(colored)


@broken("smoothed-mask", "p0.png")
def smoothed_0_and_255(s: Made) -> None:
    s.classes(2)
    s.all_masks(lambda x: smooth(x > 0, 255))


@broken("smoothed-mask", "p2.png")
def one_smoothed_mask(s: Made) -> None:
    two(s, (0, 1))
    s.put_mask(2, smooth(s.labels[2] > 0, 255))


@broken("smoothed-mask", "p0.png")
def smoothed_colors(s: Made) -> None:
    with_palette(s)
    s.all_masks(
        lambda x: (
            Image.fromarray(colored(stripes(x))).resize((24, 20)).resize((SIZE[1], SIZE[0]), Image.Resampling.BILINEAR)
        )
    )


@broken("smoothed-mask", "p0.png")
def jpeg_colors_saved_as_png(s: Made) -> None:
    with_palette(s)
    for i in range(6):
        s.put_mask(i, colored(stripes(s.labels[i])), ".jpg", quality=92)
        with Image.open(s.mask(i, ".jpg")) as picture:
            picture.save(s.mask(i))
        s.mask(i, ".jpg").unlink()


each("photo as mask", "photo-mask", "p1.png", lambda s: s.put_mask(1, photo(50)))
each("gray photo as mask", "photo-mask", "p1.png", lambda s: s.put_mask(1, photo(50)[..., 0]))
each("the image as its mask", "photo-mask", "p1.png", lambda s: shutil.copy(s.image(1), s.mask(1)))
each("floats in a mask", "float-mask", "p1.tif", lambda s: s.put_mask(1, s.labels[1].astype(np.float32), ".tif"))
each("0 and 255", "zero-255", "p0.png", two)
each("0 and 255 of three", "zero-255", "p0.png", lambda s: s.all_masks(lambda x: (x > 0) * np.uint8(255)))
each("from 1", "off-by-one", "p0.png", lambda s: s.all_masks(lambda x: x + 1))
each("from 1, in 16 bits", "off-by-one", "p0.png", lambda s: s.all_masks(lambda x: x.astype(np.uint16) + 1))
each("0 never", "zero-unused", "", lambda s: [s.classes(4), s.all_masks(lambda x: x + 1)])
each(
    "one unknown value",
    "unknown-value",
    "p1.png",
    lambda s: s.put_mask(1, np.where(s.labels[1] == 2, 7, s.labels[1]).astype(np.uint8)),
)
each("unknown values", "unknown-value", "p0.png", lambda s: s.all_masks(lambda x: x * 40))
each("large values", "unknown-value", "p1.png", lambda s: s.put_mask(1, s.labels[1].astype(np.uint16) * 500))
each("negative values", "unknown-value", "p1.tif", lambda s: s.put_mask(1, s.labels[1].astype(np.int32) - 1, ".tif"))
each("list too short", "unknown-value", "p0.png", lambda s: s.classes(2))
each("unknown color", "unknown-color", "p1.png", lambda s: [with_palette(s), s.put_mask(1, 255 - colored(s.labels[1]))])
each(
    "bgr for rgb",
    "unknown-color",
    "p1.png",
    lambda s: [with_palette(s), s.classes(3, palette=[[9, 8, 7], *COLORS[1:]])],
)
each("colors without palette", "rgb-without-palette", "p0.png", lambda s: s.all_masks(colored))
each("gray as rgb", "rgb-without-palette", "p0.png", lambda s: s.all_masks(lambda x: x[..., None].repeat(3, -1)))
each("colors and numbers", "mixed-masks", "", lambda s: [with_palette(s), s.put_mask(1, s.labels[1])])
each(
    "another palette",
    "palette-differs",
    "p3.png",
    lambda s: [s.all_masks(s.palette()), s.put_mask(3, s.palette(COLORS[::-1])(s.labels[3]))],
)
each("ignored mask", "ignored-mask", "p1.png", lambda s: s.put_mask(1, s.labels[1] * 0 + 255))
each("all ignored", "ignored-mask", "p0.png", lambda s: s.all_masks(lambda x: x * 0 + 255))


@broken("palette-differs", "p0.png")
def numbers_by_frequency(s: Made) -> None:
    s.classes(3, palette=COLORS)
    s.all_masks(s.palette([COLORS[2], COLORS[0], COLORS[1]], order=[1, 2, 0]))


@broken("mostly-ignored")
def nearly_all_ignored(s: Made) -> None:
    def change(x: np.ndarray) -> np.ndarray:
        y = np.full_like(x, 255)
        y[:4, :12] = np.arange(3).repeat(4)
        return y

    s.all_masks(change)


@broken("only-one-class")
def background_everywhere(s: Made) -> None:
    s.all_masks(lambda x: x * 0)


each("one mask for all", "repeated-mask", "p1.png", lambda s: shutil.copy(s.mask(0), s.mask(1)))


# classes
def listed(text: str | bytes) -> Callable[[Made], None]:
    return lambda s: s.text(text)


NAMES = ["a", "b", "c"]
JSON = json.dumps({"classes": NAMES})
each("no list", "classes-missing", "classes.json", lambda s: (s.root / "classes.json").unlink())
each("list in utf-16", "classes-encoding", "classes.json", listed(JSON.encode("utf-16")))
each(
    "list in latin-1", "classes-encoding", "classes.json", listed('{"classes": ["Straße", "b", "c"]}'.encode("latin-1"))
)
each("no json", "classes-unreadable", "classes.json", listed("a\nb\nc\n"))
each("half a list", "classes-unreadable", "classes.json", listed(JSON[:-4]))
each("empty list file", "classes-unreadable", "classes.json", listed(""))
each("bytes as a list", "classes-unreadable", "classes.json", listed(bytes(range(128, 256)) * 3))
each("deep list", "classes-unreadable", "classes.json", listed("[" * 10**5))
each("long list file", "classes-unreadable", "classes.json", listed(JSON + " " * 2**21))
each("only names", "classes-wrong", "classes.json", listed(json.dumps(NAMES)))
each("no key classes", "classes-wrong", "classes.json", listed('{"names": ["a", "b", "c"]}'))
each("classes by number", "classes-wrong", "classes.json", listed('{"classes": {"0": "a", "1": "b"}}'))
each("no classes", "classes-wrong", "classes.json", listed('{"classes": []}'))
each("one class", "single-class", "classes.json", lambda s: s.classes(1))
each("300 classes", "too-many-classes", "classes.json", lambda s: s.classes(300))
each("a name twice", "class-twice", "classes.json", lambda s: s.classes(["a", "b", "a"]))
each("names alike", "class-alike", "classes.json", lambda s: s.classes(["Road", "road", "c"]))
each("short palette", "classes-wrong", "classes.json", lambda s: s.classes(3, palette=COLORS[:2]))
each("wrong palette", "classes-wrong", "classes.json", lambda s: s.classes(3, palette=[*COLORS[:2], [0, 0, 999]]))
each("palette of texts", "classes-wrong", "classes.json", lambda s: s.classes(3, palette=["#f00", "#0f0", "#00f"]))
each(
    "a color twice",
    "color-twice",
    "classes.json",
    lambda s: [with_palette(s), s.classes(3, palette=[*COLORS[:2], COLORS[0]])],
)
each("a number as name", "classes-wrong", "classes.json", lambda s: s.classes(["a", "b", 3]))
each("an empty name", "classes-wrong", "classes.json", lambda s: s.classes(["a", "b", " "]))
each("a name of two lines", "classes-wrong", "classes.json", lambda s: s.classes(["a", "b", "c\nd"]))
each("ignore_index as text", "classes-wrong", "classes.json", lambda s: s.classes(3, ignore_index="255"))
each("a class is ignored", "ignored-class", "", lambda s: s.classes(3, ignore_index=2))
each("list too long", "class-never", "class 3", lambda s: s.classes(5))
each(
    "list is a folder",
    "classes-unreadable",
    "classes.json",
    lambda s: [(s.root / "classes.json").unlink(), (s.root / "classes.json").mkdir()],
)
each(
    "class only in training", "class-only-train", "class 2", lambda s: [s.put_mask(i, s.labels[i] % 2) for i in (4, 5)]
)
each(
    "class only in validation",
    "class-only-val",
    "class 2",
    lambda s: [s.put_mask(i, s.labels[i] % 2) for i in range(4)],
)


@broken("rare-class", "class 2")
def a_rare_class(s: Made) -> None:
    for i in range(6):
        values = s.labels[i] % 2
        values[0, 0] = 2
        s.put_mask(i, values)


@broken("tiny-objects", "class 2")
def a_thin_class(s: Made) -> None:
    def change(x: np.ndarray) -> np.ndarray:
        y = x % 2
        y[:, ::12] = 2
        return y

    s.all_masks(change)
