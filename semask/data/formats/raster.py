"""Large images, such as satellite scenes, that are cut into chips and read by windows.

    ROOT/classes.json                        as of the format "folder"
    ROOT/images/SPLIT/scene.tif              of any size and number of bands
    ROOT/annotations/SPLIT/scene.tif         class numbers in the same grid, or
    ROOT/annotations/SPLIT/scene.gpkg        polygons (.gpkg, .geojson), or
    ROOT/labels.gpkg                         polygons for all images (labels.gpkg, labels.geojson)

Drawn labels may be in any reference system. Pixels outside all polygons are the class "background" if there is one;
else they are ignored, and chips in which nothing is labeled are left out.
"""

from pathlib import Path

from semask.data.bands import Window, files_of
from semask.data.chips import Grid, MaskPart, require_same_grid
from semask.data.classes import IGNORE_INDEX
from semask.data.dataset import LabelSource, SegmentationDataset
from semask.data.format import Format
from semask.data.formats.folder import CLASSES_FILE, FolderClasses, read_classes
from semask.data.images import IMAGE_SUFFIXES, MASK_SUFFIXES
from semask.data.listing import Listing
from semask.data.pairs import listed, require_folders, tree
from semask.data.vector_labels import VECTOR_SUFFIXES, Drawn
from semask.files.text import one_line


def raster(
    root: str | Path,
    split: str,
    *,
    channels: int = 3,
    band_files: tuple[str, ...] | None = None,
    chip: tuple[int, int] = (1024, 1024),
    attribute: str = "class",
    layer: str | None = None,
) -> SegmentationDataset:
    """Find the chips of the images of a split.

    Args:
        root: Folder with the classes.json.
        split: Folder below those of the images and of the masks, e.g. "train".
        channels: Channels to read the images with.
        band_files: Endings of the names of the files that hold the bands of one image; see `Data`.
        chip: Greatest height and width of a chip.
        attribute: Attribute of drawn labels that names their class.
        layer: Layer of a GeoPackage with several.

    Raises:
        ValueError: A file is missing or can't be read, or image and mask do not lie in the same place.
    """
    root = Path(root)
    require_folders(root, "large images", f"images/{split}")
    described = read_classes(root / CLASSES_FILE)
    folder = root / "images" / split
    files, unread = tree(folder)
    ending = band_files[0] if band_files else ""
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES and file.stem.endswith(ending)]
    if not images:
        raise ValueError(f"{one_line(folder)}: no images there; found {listed([file.name for file in files])}")
    pairs: list[tuple[Path, Path | LabelSource]] = []
    windows: list[Window] = []
    for image in images:
        stem = image.with_name(image.stem.removesuffix(ending)).relative_to(folder)
        labels, grid = find_labels(root, split, stem), Grid.of(image)
        drawn = labels.suffix.lower() in VECTOR_SUFFIXES
        if not drawn:
            require_same_grid(image, grid, labels, Grid.of(labels))
        for window in grid.chips(chip):
            source: LabelSource = MaskPart(labels, window)
            if drawn:
                source = Drawn(labels, grid, window, described.classes.names, attribute, layer)
                if source.is_empty:
                    continue
            pairs.append((image, source))
            windows.append(window)
    if not pairs:
        raise ValueError(
            f"{one_line(folder)}: none of the drawn labels lies on an image: are the reference systems of both right?"
        )
    taken = {file for image in images for file in files_of(image, band_files)}
    return SegmentationDataset(
        pairs,
        described.classes,
        name=described.name,
        renumber=_renumber(described),
        colored_masks=described.has_palette,
        channels=channels,
        unread=[*unread, *(file for file in files if file not in taken)],
        windows=windows,
    )


def find_labels(root: Path, split: str, stem: Path) -> Path:
    """Find the file with the labels of an image: of its own name, or the one for all images.

    Args:
        root: Folder of the data set.
        split: Folder of the split.
        stem: Path of the image below that folder, without ending.

    Raises:
        ValueError: If there is none, or there are several.
    """
    own = root / "annotations" / split / stem
    suffixes = (*MASK_SUFFIXES, *VECTOR_SUFFIXES)
    places = [own.with_name(f"{own.name}{suffix}") for suffix in suffixes]
    found = [place for place in places if place.is_file()]
    if not found:
        found = [place for suffix in VECTOR_SUFFIXES if (place := root / f"labels{suffix}").is_file()]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{one_line(found[0])}: {one_line(found[1].name)} has the same stem: keep one of them")
    raise ValueError(
        f"{one_line(own)}: no labels for the image of that name; looked for {', '.join(suffixes)} there, and for "
        f"labels.gpkg and labels.geojson in {one_line(root)}"
    )


def _renumber(described: FolderClasses) -> dict[int, int]:
    own = {index: index for index in range(len(described.classes))}
    return own | {described.ignore_index: IGNORE_INDEX}


def recognize(listing: Listing) -> str | None:
    """A classes.json, images, and drawn labels; masks of large images are recognized as the format "folder"."""
    if not (listing.root / CLASSES_FILE).is_file() or "images/train" not in listing.folders:
        return None
    drawn = [path for path in listing.having(*VECTOR_SUFFIXES) if path.parent == listing.root]
    drawn = [path for path in drawn if path.stem == "labels"] + listing.having(*VECTOR_SUFFIXES, folder="annotations")
    return f"drawn labels in {one_line(drawn[0].name)}" if drawn else None


FORMAT = Format(find=raster, splits={"train": "train", "val": "val"}, recognize=recognize)
