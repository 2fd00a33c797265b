"""Write cvat/ next to this file as CVAT exports "Segmentation mask 1.1": by Datumaro's own exporter, as CVAT does.

Was run with datumaro 1.13.12 (pip install datumaro); the tests read what it wrote.
"""

import shutil
from pathlib import Path

import numpy as np
from datumaro.components.annotation import AnnotationType, LabelCategories, Mask, MaskCategories
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image

OUT = Path(__file__).parent / "cvat"
COLORS = {"background": (0, 0, 0), "road": (50, 183, 250), "tree: tall": (36, 179, 83)}


def mask(label: int, rows: slice, columns: slice) -> Mask:
    """A mask [6, 8] that is drawn on some rows and columns."""
    image = np.zeros((6, 8), dtype=np.uint8)
    image[rows, columns] = 1
    return Mask(image, label=label)


def item(name: str, *masks: Mask) -> DatasetItem:
    """An image of CVAT's subset "default"."""
    pixels = np.full((6, 8, 3), 90, dtype=np.uint8)
    return DatasetItem(name, subset="default", media=Image.from_numpy(pixels), annotations=list(masks))


def main() -> None:
    """Write the folder again."""
    shutil.rmtree(OUT, ignore_errors=True)
    categories = {
        AnnotationType.label: LabelCategories.from_iterable(list(COLORS)),
        AnnotationType.mask: MaskCategories(dict(enumerate(COLORS.values()))),
    }
    items = [
        item("yard 1", mask(1, slice(3, 6), slice(0, 8)), mask(2, slice(0, 2), slice(0, 4))),
        item("north/yard_2", mask(1, slice(0, 6), slice(0, 3))),
        item("yard_3"),  # nothing is drawn on it
    ]
    dataset = Dataset.from_iterable(items, categories=categories, media_type=Image)
    options = {"save_media": True, "apply_colormap": True, "label_map": "source", "image_ext": ".png"}
    dataset.export(str(OUT), "voc_segmentation", **options)


if __name__ == "__main__":
    main()
