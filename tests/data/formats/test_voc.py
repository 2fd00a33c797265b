import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from semask.data import diagnostics
from semask.data.catalog import recognize
from semask.data.classes import Classes
from semask.data.formats.voc import colormap, voc
from semask.data.selection import Selection
from semask.data.source import Data

CVAT = Path(__file__).parent / "samples/cvat"
PALETTE = [part for color in colormap(256) for part in color]


def write(root: Path, name: str, values: list[list[int]], *, palette: bool = True, image: bool = True) -> None:
    for folder in ("JPEGImages", "SegmentationClass"):
        (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
    mask = Image.fromarray(np.array(values, dtype=np.uint8))
    if palette:
        mask.putpalette(PALETTE)
    mask.save(root / f"SegmentationClass/{name}.png")
    if image:
        Image.new("RGB", mask.size).save(root / f"JPEGImages/{name}.jpg")


def write_list(root: Path, split: str, *names: str) -> None:
    path = root / f"ImageSets/Segmentation/{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))


@pytest.fixture
def of_voc(tmp_path) -> Path:
    root = tmp_path / "VOCdevkit/VOC2012"
    write(root, "2007_000032", [[0, 1, 255], [15, 20, 0]])
    write(root, "2007_000033", [[0, 0, 2]])
    write(root, "2007_000039", [[3, 0, 2]])
    Image.new("RGB", (3, 3)).save(root / "JPEGImages/2008_000001.jpg")  # most images of VOC have no mask
    write_list(root, "train", "2007_000032", "2007_000039")
    write_list(root, "val", "2007_000033")
    write_list(root, "trainval", "2007_000032", "2007_000033", "2007_000039")
    return root


def test_voc_as_published(of_voc):
    train = voc(of_voc, "train")
    assert train.classes == Classes.of("voc")
    assert train[0][1].tolist() == [[0, 1, 255], [15, 20, 0]]
    assert [image.name for image, _ in train.pairs] == ["2007_000032.jpg", "2007_000039.jpg"]
    assert not train.unlabeled
    assert len(voc(of_voc, "trainval")) == len(voc(of_voc, None)) == 3
    for root in (of_voc, of_voc.parent, of_voc.parent.parent):
        assert len(Data(str(root), format="voc").dataset("val")) == 1
        assert recognize(root).format == "voc"
    with pytest.raises(ValueError, match=r"Segmentation: no test.txt there; it has train, trainval, val$"):
        voc(of_voc, "test")


def test_colors_of_voc_with_its_void(of_voc):
    path = of_voc / "SegmentationClass/2007_000033.png"
    Image.fromarray(np.array([[[128, 0, 0], [224, 224, 192], [0, 0, 0]]], dtype=np.uint8)).save(path)
    dataset = voc(of_voc, "val")
    assert dataset[0][1].tolist() == [[1, 255, 0]]
    chosen = dataset.selecting(Selection({"plane": ["aeroplane"], "rest": ["*"]}))
    assert chosen[0][1].tolist() == [[0, 255, 1]]  # void stays ignored


@pytest.mark.parametrize(
    ("name", "values", "palette"),
    [("2007_000034", [[0, 21, 2]], True), ("2007_000034", [[0, 1, 2]], False), ("cow_3", [[0, 1, 2]], True)],
)
def test_masks_that_are_not_those_of_voc_have_unknown_classes(tmp_path, name, values, palette):
    root = tmp_path / "fields"
    write(root, "2007_000033", [[0, 1, 2]])
    assert voc(root, None).names_classes
    write(root, name, values, palette=palette)
    assert not voc(root, None).names_classes


def test_cvat_as_its_exporter_writes_it():
    dataset = voc(CVAT, "default")
    assert dataset.classes == Classes(("background", "road", "tree: tall"), ((0, 0, 0), (50, 183, 250), (36, 179, 83)))
    labels = {image.name: label.tolist() for (image, _), (_, label) in zip(dataset.pairs, dataset, strict=True)}
    half = [2] * 4 + [0] * 4
    assert labels["yard 1.png"] == [half, half, [0] * 8, *[[1] * 8] * 3]
    assert labels["yard_2.png"] == [[1] * 3 + [0] * 5] * 6
    assert dataset.check().masks == 2
    assert [path.name for path in dataset.unlabeled] == ["yard_3.png"]
    assert diagnostics.unlabeled_line("train", dataset) == (
        "1 image has no mask and is left out of the train split: yard_3.png; label them, or give them masks of "
        "background if nothing is on them"
    )
    assert "as CVAT exports masks" in recognize(CVAT).reason


def test_what_is_listed_is_split_by_hash_where_there_is_no_list_for_validation():
    data = Data(str(CVAT), format="voc")
    train, val = data.dataset("train"), data.dataset("val")
    assert {len(train), len(val)} == {1}
    assert train.pairs != val.pairs


def test_subsets_of_cvat(tmp_path):
    for name in "abc":
        write(tmp_path, name, [[0, 1]])
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\nroad:1,2,3::\n")
    write_list(tmp_path, "Train", "a", '"b"')
    write_list(tmp_path, "Validation", "c")
    data = Data(str(tmp_path), format="voc")
    assert (len(data.dataset("train")), len(data.dataset("val"))) == (2, 1)


def test_cvat_without_images(tmp_path):
    root = Path(shutil.copytree(CVAT, tmp_path / "cvat"))
    shutil.rmtree(root / "JPEGImages")
    with pytest.raises(ValueError, match=r'masks but none of their images: export again .* \(CVAT: "Save images"\)'):
        voc(root, None)
    shutil.copytree(CVAT / "JPEGImages", root / "photos")
    assert len(voc(root, None)) == 2
    shutil.copy(CVAT / "JPEGImages/yard 1.png", root / "yard 1.png")
    with pytest.raises(ValueError, match="has the same name: put the images into JPEGImages"):
        voc(root, None)


def test_indices_of_a_labelmap_with_what_is_ignored(tmp_path):
    write(tmp_path, "a", [[0, 1, 2, 255]])
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nroad:10,0,0::\nIgnored:20,0,0::\n\nsky:30,0,0\n"
    )
    dataset = voc(tmp_path, None)
    assert dataset.classes == Classes(("road", "sky"), ((10, 0, 0), (30, 0, 0)))
    assert dataset[0][1].tolist() == [[0, 255, 1, 255]]
    colors = np.array([[[10, 0, 0], [20, 0, 0], [30, 0, 0], [0, 0, 0]]], dtype=np.uint8)
    Image.fromarray(colors).save(tmp_path / "SegmentationClass/a.png")
    assert voc(tmp_path, None)[0][1].tolist() == [[0, 255, 1, 255]]


def test_labels_without_colors_have_those_of_voc(tmp_path):
    write(tmp_path, "a", [[0, 1]])
    (tmp_path / "labelmap.txt").write_text("background:::\nroad:::\n")
    assert voc(tmp_path, None).classes.palette == ((0, 0, 0), (128, 0, 0))


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("background:0,0,0::\nroad:1,2::\n", "line 2 is 'road:1,2::': expected a label of its own, a colon"),
        ("background:0,0,0::\nbackground:1,2,3::\n", "line 2 is"),
        (":0,0,0::\n", "line 1 is"),
        ("background\nroad:0,0,300::\n", "some labels have a color and some have none"),
        ("background:0,0,0::\nroad:0,0,300::\n", r"color \(0, 0, 300\): expected red"),
        ("", "0 classes given"),
        ("background:0,0,0::\nroad:²,0,0::\n", "line 2 is"),
        ("background:0,0,0::\nroad:" + "9" * 5000 + ",0,0::\n", "line 2 is"),
    ],
)
def test_a_labelmap_that_is_wrong(tmp_path, lines, said):
    write(tmp_path, "a", [[0, 1]])
    (tmp_path / "labelmap.txt").write_text(lines, encoding="utf-8")
    with pytest.raises(ValueError, match=said) as error:
        voc(tmp_path, None)
    assert "labelmap.txt: " in str(error.value)
    assert "\n" not in str(error.value)


def test_labelme2voc(tmp_path):
    write(tmp_path, "a", [[0, 1, 255]])
    (tmp_path / "class_names.txt").write_text("_background_\nroad\n")
    (tmp_path / "SegmentationClassVisualization").mkdir()
    Image.new("RGB", (3, 1)).save(tmp_path / "SegmentationClassVisualization/a.jpg")
    dataset = voc(tmp_path, None)
    assert (dataset.classes.names, dataset[0][1].tolist()) == (("_background_", "road"), [[0, 1, 255]])
    assert recognize(tmp_path).reason == "SegmentationClass and class_names.txt, as labelme2voc writes them"


def test_what_does_not_pair_up(of_voc):
    (of_voc / "SegmentationClass/2007_000032.png").unlink()
    with pytest.raises(ValueError, match=r"no mask for 1 of 2 files: 2007_000032\.jpg"):
        voc(of_voc, "train")
    (of_voc / "JPEGImages/2007_000032.jpg").unlink()
    with pytest.raises(ValueError, match="1 listed images are missing, and their masks: 2007_000032"):
        voc(of_voc, "train")
    (of_voc / "JPEGImages/2007_000033.jpg").unlink()
    with pytest.raises(ValueError, match="masks but none of their images"):
        voc(of_voc, "val")
    write_list(of_voc, "val", "../../../etc/passwd", "/etc/passwd")
    with pytest.raises(ValueError, match="masks but none of their images"):
        voc(of_voc, "val")
    write_list(of_voc, "val")
    with pytest.raises(ValueError, match=r"val\.txt: the list is empty"):
        voc(of_voc, "val")


def test_no_or_several_folders(tmp_path):
    with pytest.raises(ValueError, match="no folder SegmentationClass there"):
        voc(tmp_path, None)
    for name in ("one", "two"):
        write(tmp_path / name, "a", [[0]])
    with pytest.raises(ValueError, match="2 folders have masks of Pascal VOC, give one: one, two"):
        voc(tmp_path, None)
    with pytest.raises(ValueError, match="no such folder"):
        voc(tmp_path / "x", None)
