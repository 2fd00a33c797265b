"""Lists of classes and of splits by anybody: huge, of other encodings, of thousands of columns."""

import os

import pytest

from semask.data.class_files import find_class_file
from semask.data.splits import read_split

FIELD = b'"' + b"x" * 200_000 + b'"'
SPLITS = {
    "a huge first line": FIELD + b",split\n",
    "a huge name": b"name,split\n" + FIELD + b",train\n",
    "a quote without end": b'name,split\n"a,train\n' + b"b,val\n" * 50_000,
    "thousands of columns": b"name,part" + b",x" * 50_000 + b"\n" + b"a,train" + b",1" * 50_000,
    "UTF-16": "name,split\na,train\n".encode("utf-16"),
    "Latin-1": "name,split\nfür,train\n".encode("latin-1"),
    "bytes": bytes(range(256)) * 100,
    "a terminal": b"name,split\na,\x1b[31mtrain\n",
    "a long split": b"name,split\na," + b"t" * 100_000,
    "NUL": b"name,split\n\0,\0\n",
}
TABLES = {
    "a huge first line": FIELD + b",name\n",
    "a huge name": b"name,id\n" + FIELD + b",1\n",
    "a huge number": b"name,id\na," + b"9" * 100_000,
    "another digit": "name,id\na,²\n".encode(),
    "thousands of columns": b"x," * 50_000 + b"y\n",
    "thousands of classes": b"name\n" + b"".join(b"c%d\n" % i for i in range(20_000)),
    "UTF-16": "name,id\na,1\n".encode("utf-16"),
    "a terminal": b"name,id\n\x1b[31ma,1\n",
    "bytes": bytes(range(256)) * 100,
    "a large file": b"name\n" + b"a\n" * 2_000_000,
}


def refused(error: pytest.ExceptionInfo[ValueError], place: object) -> None:
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 700 + len(str(place))


@pytest.mark.parametrize("content", SPLITS.values(), ids=SPLITS)
def test_lists_of_splits(tmp_path, content):
    (tmp_path / "s.csv").write_bytes(content)
    with pytest.raises(ValueError, match=r"s\.csv: ") as error:
        read_split(tmp_path / "s.csv")
    refused(error, tmp_path)


@pytest.mark.parametrize("content", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("name", ["class_dict.csv", "labels.csv"])
def test_tables_of_classes(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as error:
        find_class_file(tmp_path)
    refused(error, tmp_path)


@pytest.mark.parametrize("content", [b"1" * 100_000 + b": a", b"a\x1b[31m\nb", b"[" * 100_000, b"\0\n\1\n"])
def test_lists_of_classes(tmp_path, content):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(ValueError, match=r"classes\.txt") as error:
        find_class_file(tmp_path)
    refused(error, tmp_path)


def test_a_pipe_is_no_list(tmp_path):
    os.mkfifo(tmp_path / "classes.txt")
    os.mkfifo(tmp_path / "s.csv")
    assert find_class_file(tmp_path) is None
    with pytest.raises(ValueError, match="is a pipe"):
        read_split(tmp_path / "s.csv")
