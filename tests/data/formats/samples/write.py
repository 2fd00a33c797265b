"""Writes the samples in this folder with the tools' own packages, and the masks that these make of them.

In an environment with labelme 6.3.1, label-studio-sdk 2.0.19, pycocotools 2.0.11, opencv-python-headless and
ultralytics 8.4.190 (its data/utils.py alone, without torch):

    python tests/data/formats/samples/write.py [FOLDER OF ultralytics]
"""

import ast
import json
import shutil
import sys
from pathlib import Path

import numpy as np
from label_studio_sdk.converter import Converter, brush
from labelme._label_file import LabelFile
from labelme.utils import img_arr_to_b64, shape_to_mask
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

HERE = Path(__file__).parent
HEIGHT, WIDTH = 48, 64
POLYGON = [[5.5, 4.25], [40.0, 8.0], [33.3, 30.7], [12.0, 40.0]]
STAR = [[30.0, 20.0], [60.0, 25.0], [35.0, 45.0], [40.0, 15.0], [58.0, 42.0]]
CONFIG = """<View><Image name="image" value="$image"/>
<BrushLabels name="brush" toName="image"><Label value="road"/><Label value="tree"/></BrushLabels>
<PolygonLabels name="polygon" toName="image"><Label value="car"/></PolygonLabels>
<RectangleLabels name="box" toName="image"><Label value="sign"/></RectangleLabels></View>"""


def blob() -> np.ndarray:
    """A round brush stroke."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return ((y - 30) ** 2 + (x - 20) ** 2 < 120) & ((x + y) % 7 > 0)


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)).save(path)


def save_mask(path: Path, mask: np.ndarray) -> None:
    Image.fromarray(mask.astype(np.uint8)).save(path)


def labelme() -> None:
    """Polygon, rectangle, circle, mask and a line, saved by labelme; mask.png by its `shape_to_mask`."""
    root = HERE / "labelme"
    photo(root / "photo.jpg")
    box = [[10, 19], [30, 40]]
    stamp = blob()[19:41, 10:31]
    shapes = [
        {"label": "road", "points": POLYGON, "shape_type": "polygon", "group_id": None, "flags": {}, "mask": None},
        {"label": "sign", "points": [[44, 4], [60, 14]], "shape_type": "rectangle", "group_id": 1, "flags": {}},
        {"label": "car", "points": [[50, 34], [50, 42]], "shape_type": "circle", "group_id": None, "flags": {}},
        {"label": "tree", "points": box, "shape_type": "mask", "mask": img_arr_to_b64(stamp.astype(np.uint8))},
        {"label": "wire", "points": [[0, 0], [9, 9]], "shape_type": "line", "group_id": None, "flags": {}},
    ]
    LabelFile().save(str(root / "photo.json"), shapes, "photo.jpg", HEIGHT, WIDTH, None, {}, {})
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    names = ["background", "car", "road", "sign", "tree"]
    for shape in LabelFile(str(root / "photo.json")).shapes[:3]:
        mask[shape_to_mask((HEIGHT, WIDTH), shape["points"], shape["shape_type"])] = names.index(shape["label"])
    mask[19:41, 10:31][stamp] = names.index("tree")
    save_mask(root / "mask.png", mask)


def coco() -> None:
    """Polygons, two kinds of RLE and a crowd; mask.png by pycocotools, the crowd first."""
    root = HERE / "coco"
    photo(root / "images" / "photo.jpg")
    packed = coco_mask.encode(np.asfortranarray(blob().astype(np.uint8)))
    crowd = np.zeros((HEIGHT, WIDTH), dtype=bool)
    crowd[2:12, 2:60] = True
    flat = crowd.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - int(flat[-1])]])))
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    size = [HEIGHT, WIDTH]
    annotations = [
        {"category_id": 7, "segmentation": [np.ravel(POLYGON).tolist()], "iscrowd": 0},
        {"category_id": 3, "segmentation": [np.ravel(STAR).tolist(), [1, 44, 6, 44, 6, 47, 1, 47]], "iscrowd": 0},
        {"category_id": 12, "segmentation": {"size": size, "counts": packed["counts"].decode()}, "iscrowd": 0},
        {"category_id": 7, "segmentation": {"size": size, "counts": counts}, "iscrowd": 1},
    ]
    for number, annotation in enumerate(annotations):
        annotation |= {"id": number + 1, "image_id": 5, "area": 1.0, "bbox": [0, 0, 1, 1]}
    values = {
        "info": {},
        "images": [{"id": 5, "file_name": "photo.jpg", "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 7, "name": "road"}, {"id": 3, "name": "car"}, {"id": 12, "name": "tree"}],
        "annotations": annotations,
    }
    (root / "result.json").write_text(json.dumps(values), encoding="utf-8")
    opened = COCO(str(root / "result.json"))
    index = {3: 1, 7: 2, 12: 3}
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for annotation in sorted(opened.loadAnns(opened.getAnnIds()), key=lambda entry: -entry["iscrowd"]):
        mask[opened.annToMask(annotation) > 0] = 255 if annotation["iscrowd"] else index[annotation["category_id"]]
    save_mask(root / "mask.png", mask)


def label_studio() -> None:
    """Brush, polygon and rectangle as in an export; min.json and brush.png by the converter of the SDK."""
    root = HERE / "label_studio"
    shutil.rmtree(root, ignore_errors=True)
    photo(root / "images" / "photo.jpg")
    alpha = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    alpha[blob()] = (255, 0, 0, 255)
    size = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0, "to_name": "image"}
    percent = [[x / WIDTH * 100, y / HEIGHT * 100] for x, y in POLYGON]
    box = {"x": 62.5, "y": 0, "width": 25, "height": 50, "rotation": 0, "rectanglelabels": ["sign"]}
    stroke = {"format": "rle", "rle": brush.encode_rle(alpha.ravel()), "brushlabels": ["tree"]}
    outline = {"points": percent, "closed": True, "polygonlabels": ["car"]}
    results = [
        {"type": "polygonlabels", "from_name": "polygon", "id": "a", "value": outline, **size},
        {"type": "rectanglelabels", "from_name": "box", "id": "b", "value": box, **size},
        {"type": "brushlabels", "from_name": "brush", "id": "c", "value": stroke, **size},
    ]
    done = {"id": 4, "completed_by": 1, "was_cancelled": False, "created_at": "2026-01-02T00:00:00Z", "result": results}
    dropped = {"id": 5, "completed_by": 1, "was_cancelled": True, "created_at": "2026-01-03T00:00:00Z", "result": []}
    task, unlabeled = (
        {
            "id": number,
            "data": {"image": f"/data/upload/1/1a2b3c4d-{name}.jpg"},
            "annotations": found,
            "predictions": [],
        }
        for number, name, found in ((9, "photo", [done, dropped]), (10, "other", []))
    )
    (root / "export.json").write_text(json.dumps([task, unlabeled]), encoding="utf-8")
    converter = Converter(CONFIG, project_dir=str(root))
    folder = root / "converted"
    converter.convert(str(root / "export.json"), str(folder), "JSON_MIN", is_dir=False)
    (root / "min").mkdir()
    (folder / "result.json").rename(root / "min" / "export-min.json")
    converter.convert(str(root / "export.json"), str(folder), "BRUSH_TO_PNG", is_dir=False)
    (picture,) = folder.glob("task-*tree*.png")
    shutil.copy(picture, root / "brush.png")
    shutil.rmtree(folder)
    save_mask(root / "brush.png", np.array(Image.open(root / "brush.png")))


def yolo(package: Path | None) -> None:
    """Two polygons; mask.png by the `polygon2mask` of ultralytics."""
    root = HERE / "yolo"
    for split in ("train", "valid"):
        photo(root / split / "images" / f"{split}.jpg")
        (root / split / "labels").mkdir(parents=True, exist_ok=True)
    lines = [
        f"{number} " + " ".join(f"{x / WIDTH:.6f} {y / HEIGHT:.6f}" for x, y in points)
        for number, points in ((1, POLYGON), (0, STAR))
    ]
    (root / "train" / "labels" / "train.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\n\nnc: 2\nnames: ['car', 'road']\n", encoding="utf-8"
    )
    if package is None:
        return
    import cv2

    module = ast.parse((package / "ultralytics" / "data" / "utils.py").read_text(encoding="utf-8"))
    (function,) = [x for x in module.body if isinstance(x, ast.FunctionDef) and x.name == "polygon2mask"]
    names: dict = {"np": np, "cv2": cv2}
    exec(compile(ast.Module([function], []), "utils.py", "exec"), names)  # the rest of the package needs torch
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    for points, index in ((POLYGON, 2), (STAR, 1)):
        mask[names["polygon2mask"]((HEIGHT, WIDTH), [np.array(points).ravel()]) > 0] = index
    save_mask(root / "mask.png", mask)


if __name__ == "__main__":
    labelme()
    coco()
    label_studio()
    yolo(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
