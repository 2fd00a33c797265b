"""40 data sets and more that are unusual but right: name -> program that makes one of a plain one."""

import json
import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from made import COLORS, SIZE, Made, colored, exif, label, photo
from PIL import Image

RIGHT: dict[str, Callable[[Made], Any]] = {}


def each(name: str, program: Callable[[Made], Any]) -> None:
    assert name not in RIGHT
    RIGHT[name] = program


def gray(x: np.ndarray) -> np.ndarray:
    return x.mean(-1).astype(np.uint8)


def renamed(s: Made, name: Callable[[int], str]) -> None:
    for i in range(6):
        for path in (s.image(i), s.mask(i)):
            to = path.parent / name(i)
            to.parent.mkdir(parents=True, exist_ok=True)
            path.rename(to)


def with_palette(s: Made, change: Any, **options: Any) -> None:
    s.classes(3, palette=COLORS)
    s.all_masks(change, **options)


def opaque(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.full((*x.shape[:2], 1), 255, np.uint8)], -1)


def deep(x: np.ndarray) -> np.ndarray:
    return gray(x).astype(np.uint16) * 257


def put(path: Path, content: bytes = b"some") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


each("plain", lambda s: None)
for ending in (".jpg", ".JPG", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".gif"):
    each(f"images {ending}", lambda s, ending=ending: s.all_images(lambda x: x, ending))
for ending in (".PNG", ".tif", ".bmp"):
    each(f"masks {ending}", lambda s, ending=ending: s.all_masks(lambda x: x, ending))
each("mixed endings", lambda s: [s.put_image(1, s.photos[1], ".jpg"), s.put_image(2, s.photos[2], ".bmp")])
each("progressive jpeg", lambda s: s.all_images(lambda x: x, ".jpg", progressive=True, quality=95))
each("folders in splits", lambda s: renamed(s, lambda i: f"town {i % 2}/p{i}.png"))
each("same names in folders", lambda s: renamed(s, lambda i: f"town {i}/photo.png"))
each("same names in both splits", lambda s: renamed(s, lambda i: f"{i % 4}.png"))
each("dots and spaces", lambda s: renamed(s, lambda i: f"2024.05.01 12.30 ({i}).a.png"))
each("words in names", lambda s: renamed(s, lambda i: f"train_mask_label_{i}.png"))
each("composed names", lambda s: renamed(s, lambda i: unicodedata.normalize("NFC", f"größe{i}.png")))
each("decomposed names", lambda s: renamed(s, lambda i: unicodedata.normalize("NFD", f"größe{i}.png")))
each("japanese names", lambda s: [renamed(s, lambda i: f"写真{i}.png"), s.classes(["道", "空", "木"])])
each("long names", lambda s: renamed(s, lambda i: "x" * 200 + f"{i}.png"))
each("16 bits", lambda s: s.all_images(deep))
each("gray images", lambda s: s.all_images(gray))
each("some gray images", lambda s: s.put_image(1, gray(s.photos[1])))
each("opaque alpha", lambda s: s.all_images(opaque))
each("images with a palette", lambda s: s.all_images(lambda x: Image.fromarray(x).quantize(64)))
each("upright tag", lambda s: s.all_images(lambda x: x, ".jpg", exif=exif(1)))
each("photo on its side, mask as stored", lambda s: s.put_image(1, s.photos[1], ".jpg", exif=exif(6)))
each("colors", lambda s: with_palette(s, colored))
each("colors with alpha", lambda s: with_palette(s, lambda x: opaque(colored(x))))
each(
    "colors with black",
    lambda s: with_palette(s, lambda x: np.where(np.arange(48)[None, :, None] < 4, 0, colored(x)).astype(np.uint8)),
)
each("palette of the list", lambda s: with_palette(s, s.palette()))
each("another palette than the list", lambda s: with_palette(s, s.palette([[1, 1, 1], [2, 2, 2], [3, 3, 3]])))
each(
    "1 bit",
    lambda s: [s.classes(2), s.all_masks(lambda x: Image.fromarray(((x > 0) * 255).astype(np.uint8)).convert("1"))],
)
each("4 bits", lambda s: s.all_masks(s.palette(), bits=4))
each("16 bit masks", lambda s: s.all_masks(lambda x: x.astype(np.uint16)))
each("32 bit masks", lambda s: s.all_masks(lambda x: x.astype(np.int32), ".tif"))
each("compressed masks", lambda s: s.all_masks(lambda x: x, ".tif", compression="tiff_lzw"))
each("ignored border", lambda s: s.all_masks(lambda x: np.pad(x[4:-4, 4:-4], 4, constant_values=255)))
each("ignored number", lambda s: [s.classes(2, ignore_index=2)])
each(
    "ignored 65535",
    lambda s: [s.classes(2, ignore_index=65535), s.all_masks(lambda x: np.where(x == 2, 65535, x).astype(np.uint16))],
)
each("one constant mask", lambda s: s.put_mask(1, s.labels[1] * 0))
each("names with spaces", lambda s: s.classes(["traffic light", "traffic sign", "Ampel (rot)"]))
each("extra keys", lambda s: s.classes(3, license="CC0", palette=None, name="yard"))
each("byte order mark", lambda s: s.text(b"\xef\xbb\xbf" + json.dumps({"classes": ["a", "b", "c"]}).encode()))
each("one image to evaluate on", lambda s: [s.image(5).unlink(), s.mask(5).unlink()])
each("link to a photo", lambda s: linked_outside(s))
each("readable only", lambda s: [os.chmod(s.image(i), 0o444) for i in range(6)])
each(
    "readme and scripts",
    lambda s: [put(s.root / name) for name in ("README.md", "LICENSE", "convert.py", "stats.json")],
)
each("preview pictures", lambda s: put(s.root / "preview.jpg", s.image(0).read_bytes()))
each("files of systems", lambda s: [put(s.image(0).with_name(x)) for x in (".DS_Store", "._p0.png", "Thumbs.db")])
each("folder of a packer", lambda s: put(s.root / "__MACOSX" / "images" / "._p0.png"))
each("test without masks", lambda s: put(s.root / "images" / "test" / "t0.png", s.image(0).read_bytes()))
each("more folders", lambda s: put(s.root / "depth" / "train" / "p0.png", s.image(0).read_bytes()))
each("frames of a video", lambda s: s.put_image(1, (s.photos[0] // 2 * 2)))


# other layouts and kinds of files than the folder tree
each("masks with an ending", lambda s: [s.mask(i).rename(s.mask(i).with_stem(f"p{i}_mask")) for i in range(6)])
each("valid for val", lambda s: [(s.root / x / "val").rename(s.root / x / "valid") for x in ("images", "annotations")])
each("no list", lambda s: (s.root / "classes.json").unlink())
each("no list, colors", lambda s: [with_palette(s, colored), (s.root / "classes.json").unlink()])
each(
    "no list, 0 and 255", lambda s: [s.all_masks(lambda x: (x > 0) * np.uint8(255)), (s.root / "classes.json").unlink()]
)
each("list as text", lambda s: [(s.root / "classes.json").unlink(), put(s.root / "classes.txt", b"a\nb\nc\n")])


def cut_out(x: np.ndarray) -> np.ndarray:
    """A mask [H, W] as a white picture that is transparent where there is no object."""
    return np.dstack([np.full((*x.shape, 3), 255), (x > 0) * 255]).astype(np.uint8)


each("no list, masks in the alpha channel", lambda s: [s.all_masks(cut_out), (s.root / "classes.json").unlink()])


@lambda program: each("no splits", program)
def no_splits(s: Made) -> None:
    several(s, 30)
    moved(s, lambda name: (f"images/{name}.png", f"masks/{name}.png"))


@lambda program: each("images next to masks", program)
def next_to_each_other(s: Made) -> None:
    several(s, 30)
    moved(s, lambda name: (f"{name}.png", f"{name}_mask.png"))


@lambda program: each("table of paths", program)
def table_of_paths(s: Made) -> None:
    rows = [f"{s.image(i).relative_to(s.root)},{s.mask(i).relative_to(s.root)},{s.split(i)}" for i in range(6)]
    moved(s, lambda name: (f"x/{name}.png", f"z/{name}.png"))
    text = "\n".join(["image,mask,split", *rows]).replace("images/train/", "x/").replace("images/val/", "x/")
    text = text.replace("annotations/train/", "z/").replace("annotations/val/", "z/")
    (s.root / "classes.json").unlink()
    (s.root / "pairs.csv").write_text(text + "\n")


@lambda program: each("cells of a table", program)
def cells(s: Made) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for split, places in (("train", range(4)), ("val", range(4, 6))):
        columns = {
            name: [{"bytes": path(i).read_bytes(), "path": f"{i}.png"} for i in places]
            for name, path in (("image", s.image), ("label", s.mask))
        }
        pq.write_table(pa.table(columns), s.root / f"{split}-00000-of-00001.parquet")
    for name in ("images", "annotations", "classes.json"):
        remove(s.root / name)


@lambda program: each("Pascal VOC", program)
def pascal_voc(s: Made) -> None:
    (s.root / "ImageSets/Segmentation").mkdir(parents=True)
    for split, places in (("train", range(4)), ("val", range(4, 6))):
        (s.root / f"ImageSets/Segmentation/{split}.txt").write_text("".join(f"p{i}\n" for i in places))
    s.all_images(lambda x: x, ".jpg")
    moved(s, lambda name: (f"JPEGImages/{name}.jpg", f"SegmentationClass/{name}.png"), ".jpg")
    put(s.root / "labelmap.txt", b"background:0,0,0::\nroad:128,0,0::\ntree:0,128,0::\n")
    (s.root / "classes.json").unlink()


@lambda program: each("five bands", program)
def five_bands(s: Made) -> None:
    for i in range(6):
        put_bands(s, i, np.concatenate([s.photos[i], s.photos[i][..., :2]], -1).astype(np.uint16) * 40)


@lambda program: each("floats in all images", program)
def floats(s: Made) -> None:
    for i in range(6):
        put_bands(s, i, s.photos[i][..., :1].astype(np.float32) / 7)


@lambda program: each("parts of large images", program)
def parts(s: Made) -> None:
    s.options |= {"format": "raster", "chip": (40, 48)}
    for i in range(6):
        put_bands(s, i, photo(i, (80, 96)))
        s.put_mask(i, label(i, (80, 96)))


def put_bands(s: Made, i: int, samples: np.ndarray, before: str = ".png") -> None:
    import rasterio

    height, width, count = samples.shape
    s.image(i, before).unlink()
    kind = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": samples.dtype}
    with rasterio.open(s.image(i, ".tif"), "w", **kind) as file:
        file.write(samples.transpose(2, 0, 1))


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def several(s: Made, count: int) -> None:
    """More pairs, so that some are held out."""
    for i in range(6, count):
        Image.fromarray(photo(i)).save(s.image(0).with_stem(f"p{i}"))
        Image.fromarray(label(i)).save(s.mask(0).with_stem(f"p{i}"))


def moved(s: Made, to: Callable[[str], tuple[str, str]], ending: str = ".png") -> None:
    """Give all pairs other places."""
    images = sorted((s.root / "images").rglob(f"*{ending}"))
    for image in images:
        mask = s.root / "annotations" / image.parent.name / f"{image.stem}.png"
        for path, name in zip((image, mask), to(image.stem), strict=True):
            (s.root / name).parent.mkdir(parents=True, exist_ok=True)
            path.rename(s.root / name)
    for name in ("images/train", "images/val", "annotations"):
        remove(s.root / name)
    if not any((s.root / "images").iterdir()):
        remove(s.root / "images")


@lambda program: each("two sizes", program)
def two_sizes(s: Made) -> None:
    for i in (1, 3, 5):
        s.put_image(i, photo(i, (80, 64)))
        s.put_mask(i, label(i, (80, 64)))


@lambda program: each("photos on their side", program)
def on_their_side(s: Made) -> None:
    for i in range(6):
        s.put_image(i, Image.fromarray(s.photos[i]).transpose(Image.Transpose.ROTATE_90), ".jpg", exif=exif(6))


@lambda program: each("255 is the object", program)
def object_255(s: Made) -> None:
    s.classes(2)
    s.all_masks(lambda x: ((x > 0) * 255).astype(np.uint8))
    s.options["object_255"] = True


@lambda program: each("other names of the folders", program)
def other_folders(s: Made) -> None:
    (s.root / "images").rename(s.root / "rgb")
    (s.root / "annotations").rename(s.root / "gt")
    s.options |= {"image_dir": "rgb", "label_dir": "gt"}


@lambda program: each("30 classes", program)
def thirty_classes(s: Made) -> None:
    s.classes(30)
    s.all_masks(lambda x: label(7, SIZE, 30))
    for i in range(6):
        s.put_mask(i, label(70 + i, SIZE, 30))


@lambda program: each("linked folder", program)
def linked_folder(s: Made) -> None:
    shutil.move(s.image(0).parent, s.root / "photos")
    s.image(0).parent.symlink_to("../photos")


@lambda program: each("cartoons", program)
def cartoons(s: Made) -> None:
    colors = np.random.default_rng(0).integers(0, 256, (6, 3, 3)).astype(np.uint8)
    for i in range(6):
        s.put_image(i, colors[i][s.labels[i]])


def linked_outside(s: Made) -> None:
    outside = s.root.parent / "elsewhere.png"
    shutil.move(s.image(1), outside)
    s.image(1).symlink_to(outside)
