"""Where the images and masks of a run are: the section `data` of a recipe."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from semask.data import catalog
from semask.data.alpha_masks import from_alpha
from semask.data.bands import Reading
from semask.data.dataset import CheckLevel, SegmentationDataset
from semask.data.format import Split
from semask.data.images import image_path
from semask.data.selection import Selection
from semask.data.shapes import Overlap
from semask.data.splits import HOLDOUT, matched, read_split, split_by_name
from semask.files.schema import Length, Range, Sides, quoted, require_fields
from semask.files.text import one_line
from semask.files.urls import is_url, require_url

OPTIONS = (
    *("channels", "image_dir", "label_dir", "object_255", "band_files", "chip", "attribute", "layer", "overlap"),
    *("cache", "cache_gib"),
)
"""Settings that only some formats have; channels all but those of public data sets."""
SAMPLES = ("channels", "bands", "nodata", "ignore_nodata")
"""Settings that say what a model sees of an image, in whatever layout it lies."""
ALL = "all"
"""Name of a split that is the whole folder, where it has none of its own."""


@dataclass(frozen=True)
class Data:
    """Where the images and masks of a run are, and how carefully they are read.

    Args:
        root: Folder of the data set, or the file of a table that names its images and masks; for the format "shards"
            also a URL, http, https, s3 or gs.
        format: Layout of the folder. "folder" is any set of images/SPLIT and annotations/SPLIT with a classes.json.
        train_split: Split to train on; by default the format's own (train, training or train2014). For a folder without
            splits "all" is all of it.
        val_split: Split to evaluate on; by default the format's own (val, validation or test2014).
        holdout: Share of the images that is held out for validation where the folder has no splits: by a hash of their
            names, so that it stays when files are added.
        split_file: CSV file with the columns name and split (train or val) for a folder without splits; images that are
            not listed are split by holdout. Null for none.
        classes: Which labels of the files make which class, in the order of the classes, e.g. {road: [road, lane],
            tree: [3, 4], sign: ["#ff8000"], ignore: ["*"]}: values of masks, colors, names of the files' own classes;
            "*" is all that is not listed; "ignore" is not learned. Null for the classes of the files.
        tolerance: With classes, the greatest difference (0 to 255, in each channel) between a value or color in a mask
            and a listed one that it stands for; for masks with smoothed edges.
        mask_channel: What of a mask with an alpha channel holds the labels: "color" its values or colors, "alpha" the
            alpha channel, 0 where it is transparent to 255.
        check: What to read before the first step: "full" every image and mask, "labels" every mask and the header of
            every image, "none" nothing.
        allow_empty_masks: Accept masks in which every pixel is ignored.
        workers: Processes that load samples, for each training process; 0 loads in the process itself.
        channels: Channels that images are read with: of photos 1 (gray), 3 (RGB) or 4 (RGBA), of TIFF files with other
            bands as many as these have; other than 3 not for the formats of public data sets.
        image_dir: Folder of the images below root; only for the formats "folder" and "folders".
        label_dir: Folder of the masks below root; only for the formats "folder" and "folders".
        object_255: For two classes in the format "folder": whether the value 255 of a mask is class 1 (true) or ignored
            (false). Null: it is ignored, but masks in which only 0 and 255 occur are refused.
        bands: Bands of a file to take, counted from 1, in the order of the channels; null for all.
        band_files: Endings of the names of the files that hold the bands of one image, e.g. [_B02, _B03, _B8A] for
            NAME_B02.tif, ..., in the order of the bands; null for one file an image.
        nodata: Sample that stands for no data, in addition to what the files say.
        ignore_nodata: Whether a pixel without data in any channel is ignored, whatever its label.
        measure: What to measure over the training images before the first step, for the model's own settings:
            "range" its value_range, mean and std (for samples of 16 or 32 bits and floats), "normalization" its mean
            and std, null nothing.
        chip: Height and width in pixels of the parts that large images are cut into; only for the format "raster".
        attribute: Attribute of the drawn labels that names their class; only for the format "raster".
        layer: Layer of a GeoPackage with several; only for the format "raster".
        overlap: For formats of polygons, which of two objects a pixel in both belongs to: "file" the one that is later
            in the file, "small_over_large" the smaller one.
        cache: Folder on a local disk that keeps what was read, for the format "shards"; null for none. Any number of
            processes may share it.
        cache_gib: Size of the cache in GiB; what was not used for longest goes first.
    """

    root: str
    format: catalog.FormatName = "folder"
    train_split: str | None = None
    val_split: str | None = None
    holdout: Annotated[float, Range(0, 1, above=True, below=True)] = HOLDOUT
    split_file: str | None = None
    classes: dict[str, Any] | None = None
    tolerance: Annotated[int, Range(0, 255)] = 0
    mask_channel: Literal["color", "alpha"] = "color"
    check: CheckLevel = "full"
    allow_empty_masks: bool = False
    workers: Annotated[int, Range(0, 256)] = 2
    channels: Annotated[int, Range(1, 1024)] = 3
    image_dir: str = "images"
    label_dir: str = "annotations"
    object_255: bool | None = None
    bands: Annotated[tuple[Annotated[int, Range(1, 65_535)], ...], Length(1, 1024)] | None = None
    band_files: Annotated[tuple[str, ...], Length(1, 1024)] | None = None
    nodata: Annotated[float, Range(-1e300, 1e300)] | None = None
    ignore_nodata: bool = True
    measure: Literal["range", "normalization"] | None = None
    chip: Sides = (1024, 1024)
    attribute: str = "class"
    layer: str | None = None
    overlap: Overlap = "file"
    cache: str | None = None
    cache_gib: Annotated[float, Range(0.001, 2**20)] = 20.0

    def __post_init__(self) -> None:
        """Validate."""
        require_fields(self, "data")
        if self.tolerance and self.classes is None:
            raise ValueError(f"data.tolerance is {self.tolerance}, but needs data.classes, which say what is meant")
        for field in dataclasses.fields(self):  # files give lists
            if isinstance(value := getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(value))
        if self.bands is not None and len(self.bands) != self.channels:
            raise ValueError(
                f"data.bands has {len(self.bands)} entries, but data.channels is {self.channels}: give a band a channel"
            )
        for ending in self.band_files or ():
            if not ending or "/" in ending or "\\" in ending:
                raise ValueError(f"data.band_files has {quoted(ending)}: give endings of names such as _B02")
        format = catalog.find(self.format)
        if self.remote:
            require_url(self.root)
        for name in self._given():
            if name not in format.options and (name != "channels" or format.title):
                known = {x: catalog.find(x) for x in catalog.names()}
                having = [x for x, f in known.items() if name in f.options or (name == "channels" and not f.title)]
                raise ValueError(
                    f"data.{name} is for the format {' or '.join(having)}, not for {self.format}: leave it out"
                )

    def dataset(self, split: Split) -> SegmentationDataset:
        """Find the files of the training or the validation split.

        Raises:
            ValueError: The folder is not laid out as the format says, images and masks do not pair up, or the classes
                are not those of the files.
        """
        format, root = catalog.find(self.format), self.folder
        given = self.train_split if split == "train" else self.val_split
        names = {} if self.split_file is not None and given is None else format.splits_in(root)
        if names or given not in (None, ALL):
            found = self._found(given or names[split])
        else:
            whole = self.everything()
            found = whole if given == ALL else self._part(whole, split, root)
        return found if self.classes is None else found.selecting(Selection(self.classes, self.tolerance))

    def everything(self) -> SegmentationDataset:
        """Find the files of a folder without splits, with the classes that they have themselves.

        Raises:
            ValueError: As `dataset`.
        """
        return self._found(None)

    def _found(self, split: str | None) -> SegmentationDataset:
        """What the format finds of a split of the files, None for all."""
        format, given = catalog.find(self.format), self._given()
        options = {name: value for name, value in given.items() if name in format.options}
        if self.remote and not format.remote:
            raise ValueError(
                f"data.root is {one_line(self.root)}, but the format {self.format} is read from folders only: pack it "
                "with `semask data pack`, and set data.format to shards"
            )
        found: SegmentationDataset = format.find(self.root if self.remote else self.folder, split, **options)
        if self.mask_channel == "alpha":
            found = from_alpha(found)
        return found.reading_as(self.reading, ignore_nodata=self.ignore_nodata)

    @property
    def remote(self) -> bool:
        """Whether the data lies at a URL."""
        return is_url(self.root)

    @property
    def folder(self) -> Path:
        """The root as a path, which names of samples are relative to; of a URL a name only."""
        return Path(self.root).expanduser()

    @property
    def reading(self) -> Reading:
        """How the samples of the files become channels; what range they have is the model's business."""
        return Reading(self.channels, self.bands, self.band_files, nodata=self.nodata)

    def _part(self, found: SegmentationDataset, split: Split, root: Path) -> SegmentationDataset:
        """The samples of a split of data that has none."""
        names = sample_names(found, root)
        if self.split_file is None:
            sides = split_by_name(names, holdout=self.holdout)
        else:
            path = Path(self.split_file).expanduser()
            listed = read_split(path)
            try:
                sides = split_by_name(names, holdout=self.holdout, given=matched(listed, names))
            except ValueError as error:
                raise ValueError(f"{one_line(path)}: {error}") from error
        return found.subset([index for index, side in enumerate(sides) if side == split])

    def _given(self) -> dict[str, Any]:
        """Those of `OPTIONS` that are not left at their defaults."""
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        values = {name: getattr(self, name) for name in OPTIONS}
        return {name: value for name, value in values.items() if value != defaults[name]}


def sample_names(dataset: SegmentationDataset, root: Path) -> list[str]:
    """Names that samples are split by: the path of the image below the root, without its ending."""
    return [path.with_suffix("").as_posix() for path in sample_paths(dataset, root)]


def sample_paths(dataset: SegmentationDataset, root: Path) -> list[Path]:
    """Path of the image of each sample below the root; of one that lies elsewhere its name."""
    place = root.parent if root.is_file() else root
    images = [image_path(image) for image, _ in dataset.pairs]
    return [image.relative_to(place) if image.is_relative_to(place) else Path(image.name) for image in images]
