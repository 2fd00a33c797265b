"""Mapillary Vistas (Neuhold et al. 2017), versions 1.2 and 2.0, with the classes that its config.json evaluates.

ROOT/config_v2.0.json, ROOT/config_v1.2.json            or ROOT/config.json, as version 1.2 was packed first
ROOT/{training,validation}/images/NAME.jpg
ROOT/{training,validation}/{v2.0,v1.2}/labels/NAME.png      8-bit indices; or {training,validation}/labels/NAME.png
ROOT/{training,validation}/{v2.0,v1.2}/instances/NAME.png   16 bits, index x 256 + instance: where there are no labels

The newest version that is there is read; the split "training/v1.2" means an older one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from semask.data.annotations import has_keys, head_and_tail, read_json
from semask.data.classes import IGNORE_INDEX, Classes
from semask.data.dataset import Label, SegmentationDataset
from semask.data.format import Format
from semask.data.images import read_mask
from semask.data.listing import Listing
from semask.data.pairs import pairs_by_stem, require_folders
from semask.files.schema import quoted
from semask.files.text import one_line

VERSIONS = ("v2.0", "v1.2")
LARGEST_FILE = 2**22
"""Bytes of a config.json, which has 30,000."""
_INSTANCES = 256
"""Instances of a class in a file of 16 bits."""


@dataclass(frozen=True, slots=True)
class InstanceLabel:
    """A mask whose numbers are class x 256 + instance.

    Args:
        path: PNG file of 16 bits.
    """

    path: Path

    def read(self) -> NDArray[Any]:
        """The classes: [H, W].

        Raises:
            ValueError: If it can't be read, or has colors.
        """
        numbers = read_mask(self.path)
        if numbers.ndim != 2:
            raise ValueError(f"{one_line(self.path)}: has colors, expected numbers of 16 bits")
        return numbers // _INSTANCES


def vistas(root: str | Path, split: str) -> SegmentationDataset:
    """Find the pairs of a split; what is not evaluated is ignored.

    Args:
        root: Folder with config_v2.0.json, config_v1.2.json or config.json.
        split: "training" or "validation", with "/v1.2" or "/v2.0" behind it for that version.

    Raises:
        ValueError: A folder or file is missing, or images and masks do not pair up.
    """
    root = Path(root)
    split, _, wanted = split.partition("/")
    require_folders(root, "Mapillary Vistas", f"{split}/images")
    if wanted and wanted not in VERSIONS:
        raise ValueError(f"{quoted(wanted, longest=40)} is no version of Mapillary Vistas: give one of {VERSIONS}")
    versions = [wanted] if wanted else [*VERSIONS, ""]
    config, labels = _of_version(root, split, versions)
    classes, renumber = read_config(config)
    found = pairs_by_stem(root / split / "images", labels)
    pairs: list[tuple[Path, Label]] = [*found.pairs]
    if labels.name == "instances":
        pairs = [(image, InstanceLabel(mask)) for image, mask in found.pairs]
    return SegmentationDataset(pairs, classes, name="vistas", renumber=renumber, unread=found.unread)


def _of_version(root: Path, split: str, versions: list[str]) -> tuple[Path, Path]:
    """The config.json and the folder of the masks of the first version that is there."""
    for version in versions:
        names = (f"config_{version}.json", "config.json") if version else ("config.json",)
        config = next((root / name for name in names if (root / name).is_file()), None)
        for kind in ("labels", "instances"):
            folder = root / split / version / kind
            if config is not None and folder.is_dir() and any(folder.iterdir()):
                return config, folder
    looked = " or ".join(f"{split}/{f'{version}/' if version else ''}labels" for version in versions)
    raise ValueError(
        f"{one_line(root)}: no masks of Mapillary Vistas; looked for {looked}, and config_VERSION.json or config.json"
    )


def read_config(path: Path) -> tuple[Classes, dict[int, int]]:
    """Read a config.json: the classes that are evaluated, and index in the masks -> class index or 255.

    Raises:
        ValueError: If it can't be read, or is no such file.
    """
    values = read_json(path, most=LARGEST_FILE)
    labels = values.get("labels") if isinstance(values, dict) else None
    if not isinstance(labels, list) or not 1 <= len(labels) <= _INSTANCES:
        raise ValueError(f'{one_line(path)}: expected "labels", a list with name, color and evaluate of each class')
    names: list[str] = []
    palette: list[tuple[int, ...]] = []
    renumber: dict[int, int] = {}
    try:
        for number, label in enumerate(labels):
            if not isinstance(label, dict) or type(label.get("evaluate")) is not bool:
                raise ValueError(f'label {number} has no "evaluate" (true or false)')
            renumber[number] = len(names) if label["evaluate"] else IGNORE_INDEX
            if label["evaluate"]:
                names.append(label.get("readable") or label.get("name") or "")
                color = label.get("color")
                palette.append(tuple(color[:3]) if isinstance(color, list) else ())
        classes = Classes(tuple(names), tuple(palette))  # type: ignore[arg-type]
    except ValueError as error:
        raise ValueError(f"{one_line(path)}: {error}") from error
    return classes, renumber


def _recognize(listing: Listing) -> str | None:
    for name in (*(f"config_{version}.json" for version in VERSIONS), "config.json"):
        path = listing.root / name
        keys = ("labels", "readable", "evaluate", "instances")
        if path.is_file() and "training/images" in listing.folders and has_keys(head_and_tail(path), *keys) == 4:
            return f"{name} and training/images: Mapillary Vistas"
    return None


FORMAT = Format(
    find=vistas,
    splits={"train": "training", "val": "validation"},
    title="Mapillary Vistas",
    recognize=_recognize,
)
