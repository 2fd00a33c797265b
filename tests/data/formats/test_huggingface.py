"""The folders in samples/huggingface were written by `datasets` itself; see write_huggingface.py there."""

import contextlib
import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from semask.data import diagnostics, stored
from semask.data.catalog import recognize
from semask.data.formats.huggingface import huggingface
from semask.data.similarity import read_thumbnail
from semask.data.source import Data, sample_names

SAMPLES = Path(__file__).parent / "samples/huggingface"
STORED = ("hub", "saved", "one_split")
NAMES = ("road", "tree", "sky")


def file(value: int, *, format: str = "PNG", size: tuple[int, int] = (4, 3)) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", size, value).save(buffer, format)
    return buffer.getvalue()


def cells(*contents: bytes | None, path: str | None = "x.png") -> pa.Array:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": content, "path": path} for content in contents], kind)


def write(root: Path, images: pa.Array, masks: pa.Array, **options: object) -> Path:
    root.mkdir(exist_ok=True)
    pq.write_table(pa.table({"image": images, "label": masks}), root / "train.parquet", **options)
    return root


@pytest.mark.parametrize("name", [*STORED, "imagefolder"])
def test_what_datasets_wrote(name):
    assert recognize(SAMPLES / name).format == "huggingface"
    data = Data(str(SAMPLES / name), format="huggingface", classes={x: [i] for i, x in enumerate(NAMES)})
    train, val = data.dataset("train"), data.dataset("val")
    assert (len(train), len(val)) == ((4, 1) if name == "one_split" else (5, 2))
    samples = [*train, *val]
    grays = [int(image[0, 0, 0]) // 10 for image, _ in samples]
    assert sorted(grays) == list(range(5 if name == "one_split" else 7))
    assert [int(label[0, 0]) for _, label in samples] == [gray % 3 for gray in grays]
    assert train.check().masks == len(train)
    assert len(set(sample_names(train, SAMPLES / name))) == len(train)


@pytest.mark.parametrize("name", STORED)
def test_classes_and_other_processes(name):
    dataset = huggingface(SAMPLES / name, None)
    assert dataset.classes.names == NAMES
    dataset.label(3)
    copy = pickle.loads(pickle.dumps(dataset))
    order = [4, 0, 3, 1, 1, 2]
    assert [int(copy.label(i)[0, 0]) for i in order] == [int(dataset.label(i)[0, 0]) for i in order]
    assert read_thumbnail(dataset.pairs[1][0]).tolist() == [10] * 256
    assert diagnostics.dark_images_line(dataset) is None
    assert "5 of the 5 validation images are also trained on" in (
        diagnostics.shared_line(dataset.subset(range(5)), dataset.subset(range(5))) or ""
    )


def test_rows_of_a_parquet_file_in_any_order(tmp_path):
    count = 60
    images = cells(*[file(i) for i in range(count)])
    root = write(tmp_path / "x", images, images, row_group_size=25)
    pairs = huggingface(root, "train").pairs
    order = [*range(count), *reversed(range(count)), 3, 59, 24, 25]
    assert [int(pairs[i][1].read()[0, 0]) for i in order] == order


def test_id2label(tmp_path):
    root = write(tmp_path / "x", cells(file(9)), cells(file(7)))
    assert not huggingface(root, "train").names_classes
    (root / "id2label.json").write_text('{"7": "tree", "2": "road"}')
    dataset = huggingface(root, "train")
    assert (dataset.classes.names, int(dataset.label(0)[0, 0])) == (("road", "tree"), 1)
    for wrong in ('{"a": "b"}', "[]", '{"0": 1, "1": "x"}', '{"99999": "x"}', "{"):
        (root / "id2label.json").write_text(wrong)
        with pytest.raises(ValueError, match=r"id2label\.json: ") as error:
            huggingface(root, "train")
        assert "\n" not in str(error.value)


def test_the_label_of_an_image_does_not_name_classes_of_pixels(tmp_path):
    features = {"info": {"features": {"scene": {"_type": "ClassLabel", "names": ["a", "b"]}}}}
    table = pa.table({"image": cells(file(0)), "mask": cells(file(0)), "scene": [0]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), tmp_path / "train.parquet")
    assert not huggingface(tmp_path, "train").names_classes


@pytest.mark.parametrize("features", ["", "{", "[]", '{"info": {"features": {"a": 1}}}', "[" * 100_000])
def test_features_that_are_wrong_name_nothing(tmp_path, features):
    table = pa.table({"image": cells(file(0)), "mask": cells(file(0))})
    pq.write_table(table.replace_schema_metadata({"huggingface": features}), tmp_path / "train.parquet")
    assert not huggingface(tmp_path, "train").names_classes


def test_cells_without_bytes(tmp_path):
    root = write(tmp_path / "x", cells(file(0), None, None), cells(None, file(0), file(0), path=None))
    (root / "x.png").write_bytes(file(5))
    pairs = huggingface(root, "train").pairs
    assert pairs[1][0].read_bytes() == file(5)
    with pytest.raises(ValueError, match=r"train\.parquet/row-0: column label has no image there"):
        pairs[0][1].read()
    for path in ("/etc/passwd", "../x.png", "https://host/x.png"):
        write(root, cells(None, path=path), cells(file(0)))
        with pytest.raises(ValueError, match=r"the row has no image but the path of one: .*save the data set again"):
            huggingface(root, "train").image(0)


def test_images_that_are_bad(tmp_path):
    wrong = [b"", b"x" * 100, file(0)[:-30], file(0, size=(20_000, 20_000), format="GIF")]
    dataset = huggingface(write(tmp_path / "x", cells(*wrong), cells(*[file(0)] * 4)), "train")
    for index, said in enumerate(["file is empty", "not an image of a known format", "damaged", "too large"]):
        with pytest.raises(ValueError, match=rf"row-{index}: .*{said}") as error:
            dataset.image(index)
        assert "\n" not in str(error.value)


def test_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "LARGEST_CELL", 1000)
    dataset = huggingface(write(tmp_path / "x", cells(b"a" * 5000), cells(file(0))), "train")
    with pytest.raises(ValueError, match="an image has 5,000 bytes, at most 1,000 are read"):
        dataset.image(0)
    monkeypatch.setattr(stored, "LARGEST_GROUP", 1000)
    with pytest.raises(ValueError, match=r"row group 0 has images of .* bytes, at most 1,000 are read"):
        huggingface(tmp_path / "x", "train")


def saved(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SAMPLES / "one_split", tmp_path / "saved"))


def test_compressed_arrow_files_are_refused(tmp_path):
    root = saved(tmp_path)
    path = root / "data-00000-of-00001.arrow"
    table = pa.ipc.open_stream(path.read_bytes()).read_all()
    for compression in (None, "lz4", "zstd"):
        with pa.OSFile(str(path), "wb") as sink:
            options = pa.ipc.IpcWriteOptions(compression=compression)
            with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
                writer.write_table(table)
        if compression is None:
            assert int(huggingface(root, None).label(4)[0, 0]) == 1
        else:
            with pytest.raises(ValueError, match="its batches are compressed"):
                huggingface(root, None)


def test_damaged_arrow_files(tmp_path):
    root = saved(tmp_path)
    path = root / "data-00000-of-00001.arrow"
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(150):
        bytes_ = bytearray(whole)
        for place in generator.integers(0, len(whole), 4):
            bytes_[place] = generator.integers(0, 256)
        path.write_bytes(bytes(bytes_[: int(generator.integers(len(whole) // 2, len(whole) + 1))]))
        with contextlib.suppress(ValueError):  # and nothing else, above all no crash of the process
            dataset = huggingface(root, None)
            for index in range(min(len(dataset), 5)):
                dataset.image(index), dataset.label(index)


@pytest.mark.parametrize("name", ["../x.arrow", "/x.arrow", "a\\b", "C:x", "", None, 1])
def test_names_that_lead_out_of_the_folder(tmp_path, name):
    root = saved(tmp_path)
    (root / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(ValueError, match="expected the name of a file next to it"):
        huggingface(root, None)
    (root / "dataset_dict.json").write_text(json.dumps({"splits": [name]}))
    with pytest.raises(ValueError, match="expected the name of a file next to it"):
        huggingface(root, None)


def test_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match=r"no dataset_dict\.json, state\.json, metadata\.csv or Parquet files there"):
        huggingface(tmp_path, None)
    with pytest.raises(ValueError, match="no split test; it has train, validation"):
        huggingface(SAMPLES / "hub", "test")
    pq.write_table(pa.table({"image": cells(file(0)), "n": [1]}), tmp_path / "train.parquet")
    with pytest.raises(ValueError, match="no column of images and one of masks; those that hold files are image:"):
        huggingface(tmp_path, "train")
    (tmp_path / "metadata.csv").write_text("file_name,text\na.png,b\n")
    with pytest.raises(ValueError, match="no columns file_name and mask_file_name; it has file_name, text"):
        huggingface(tmp_path, None)
