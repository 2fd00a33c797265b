"""Write cvat_corrected/coco and /voc next to this file: masks of semask, corrected and exported as CVAT does.

Was run with datumaro 1.13.12 (pip install datumaro), whose exporters CVAT uses. It reads cvat_corrected/import, which
tests/prediction/outputs/test_cvat_output.py compares with what semask writes today. The corrections: the square gets
another label, and a strip is painted over the lowest stripe.
"""

import shutil
from pathlib import Path

import numpy as np
from datumaro.components.annotation import AnnotationType, LabelCategories, Mask, MaskCategories
from datumaro.components.dataset import Dataset
from datumaro.components.dataset_base import DatasetItem
from datumaro.components.media import Image

OUT = Path(__file__).parent / "cvat_corrected"
BACKGROUND, TREE, ROAD, SIGN = range(4)


def corrected(masks: list[Mask]) -> list[Mask]:
    """Correct the masks of the image."""
    strip = np.zeros((48, 64), np.uint8)
    strip[40:42, 30:50] = 1
    attributes = {"occluded": False}  # CVAT says it of all masks
    found = [
        Mask(np.array(mask.image), label=TREE if mask.label == SIGN else mask.label, attributes=attributes)
        for mask in masks
    ]
    return [*found, Mask(strip, label=SIGN, z_order=1, attributes=attributes)]


def main() -> None:
    """Write the folders again."""
    work = OUT / "work"
    shutil.rmtree(work, ignore_errors=True)
    (work / "images").mkdir(parents=True)
    shutil.copy(OUT / "import" / "annotations.xml", work)
    shutil.copy(OUT / "images" / "yard, 1+1.png", work / "images")
    (item,) = Dataset.import_from(str(work), "cvat")
    shutil.rmtree(work)
    names = ["background", "tree & <b>", "road, wide", 'a "sign"', "__ignore__"]
    colors = [(0, 0, 0), (50, 183, 250), (36, 179, 83), (250, 50, 83), (128, 128, 128)]
    categories = {
        AnnotationType.label: LabelCategories.from_iterable(names),
        AnnotationType.mask: MaskCategories(dict(enumerate(colors))),
    }
    pixels = Image.from_numpy(np.full((48, 64, 3), 90, np.uint8))
    image = DatasetItem(item.id, subset="default", media=pixels, annotations=corrected(item.annotations))
    dataset = Dataset.from_iterable([image], categories=categories, media_type=Image)
    for name in ("coco", "voc"):
        shutil.rmtree(OUT / name, ignore_errors=True)
    dataset.export(str(OUT / "coco"), "coco_instances", save_media=True, merge_images=False, image_ext=".png")
    options = {"apply_colormap": True, "label_map": "source", "image_ext": ".png"}
    dataset.export(str(OUT / "voc"), "voc_segmentation", save_media=True, **options)


if __name__ == "__main__":
    main()
