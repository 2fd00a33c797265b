import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from semask.data.catalog import recognize
from semask.data.formats.table import table
from semask.data.source import Data


@pytest.fixture
def root(tmp_path) -> Path:
    folder = tmp_path / "yard"
    for name in ("photos", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(4):
        Image.new("RGB", (3, 2)).save(folder / f"photos/{index}.jpg")
        Image.fromarray(np.full((2, 3), index, dtype=np.uint8)).save(folder / f"masks/{index}.png")
    return folder


def rows(*splits: str) -> str:
    return "".join(f"photos/{i}.jpg,masks/{i}.png,{split}\n" for i, split in enumerate(splits))


def test_a_table_with_splits(root):
    (root / "pairs.csv").write_text("image_path,mask_path,split\n" + rows("train", "Train", "test", "Val"))
    for place in (root, root / "pairs.csv"):
        data = Data(str(place), format="table")
        assert [image.name for image, _ in data.dataset("train").pairs] == ["0.jpg", "1.jpg"]
        assert [mask.name for _, mask in data.dataset("val").pairs] == ["3.png"]
        assert recognize(place).format == "table"
    chosen = Data(str(root), format="table", classes={"a": [0], "b": [1]}).dataset("train")
    assert chosen.check().pixels.tolist() == [6, 6]
    assert len(table(root, None)) == 4
    with pytest.raises(ValueError, match="no rows of the split x"):
        table(root, "x")


def test_a_table_without_splits_and_without_names(root):
    (root / "all.csv").write_text(rows("", "", "", ""))
    data = Data(str(root), format="table")
    assert len(data.dataset("train")) + len(data.dataset("val")) == 4
    assert "all.csv names images and masks" in recognize(root).reason


def test_a_parquet_table(root):
    columns = {"image": [f"photos/{i}.jpg" for i in range(4)], "label": [f"masks/{i}.png" for i in range(4)]}
    pq.write_table(pa.table(columns), root / "pairs.parquet")
    assert len(table(root, None)) == 4
    assert recognize(root).format == "table"


def test_tables_of_something_else_are_not_recognized(root):
    (root / "labels.csv").write_text("image,label\nphotos/0.jpg,cat\n")
    (root / "split.csv").write_text("name,split\nphotos/0,train\n")
    with pytest.raises(ValueError, match="no table with columns image and mask there"):
        table(root, None)
    with pytest.raises(ValueError, match="no columns of images and masks; it has name, split"):
        table(root / "split.csv", None)
    for name in ("a.csv", "b.csv"):
        (root / name).write_text("image,mask\n" + rows("")[:-2])
    with pytest.raises(ValueError, match=r"2 tables: a\.csv, b\.csv with columns"):
        table(root, None)


def test_paths_that_lead_elsewhere(root):
    outside = root.parent / "outside.png"
    Image.new("L", (3, 2)).save(outside)
    for path in (str(outside), "../outside.png"):
        (root / "pairs.csv").write_text(f"image,mask\nphotos/0.jpg,{path}\n")
        with pytest.raises(ValueError, match=r"pairs\.csv: row 1, column mask: .* is outside of the folder"):
            table(root, None)
        assert len(table(root / "pairs.csv", None)) == 1  # who gives the table itself trusts it
    os.mkfifo(root / "masks/pipe.png")
    (root / "pairs.csv").write_text("image,mask\nphotos/0.jpg,masks/pipe.png\n")
    with pytest.raises(ValueError, match="1 of 1 masks are missing"):
        table(root, None)


def test_files_that_are_missing_or_named_twice(root):
    (root / "pairs.csv").write_text("image,mask\n=HYPERLINK(x).jpg,masks/0.png\nphotos/1.jpg,masks/1.png\n")
    with pytest.raises(ValueError, match=r"1 of 2 images are missing: .*HYPERLINK"):
        table(root / "pairs.csv", None)
    (root / "pairs.csv").write_text("image,mask\nphotos/1.jpg,masks/0.png\nphotos/1.jpg,masks/1.png\n")
    with pytest.raises(ValueError, match=r"1\.jpg has two rows with different masks"):
        table(root, None)
