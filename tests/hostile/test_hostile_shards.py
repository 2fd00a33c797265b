"""Packs of anybody: an index that lies, files that were changed, and URLs that lead elsewhere."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from semask.data.catalog import recognize
from semask.data.packing import pack
from semask.data.shard_index import LARGEST_INDEX
from semask.data.shards import prefetch
from semask.data.source import Data
from semask.files.urls import require_url


@pytest.fixture(scope="module")
def whole(scenes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("hostile") / "pack"
    pack(Data(str(scenes)), out, splits=("val",))
    return out


@pytest.fixture
def packed(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "pack"))


def read(root: Path) -> None:
    dataset = Data(str(root), format="shards").dataset("val")
    prefetch(image for image, _ in dataset.pairs)
    for index in range(len(dataset)):
        dataset[index]


def refused(root: Path) -> str:
    """What is said when all of it is read."""
    with pytest.raises(ValueError, match=r".") as error:
        read(root)
    said = str(error.value)
    assert "\n" not in said
    assert len(said) < 1500
    assert str(root) in said
    return said


def change(root: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    index = json.loads((root / "index.json").read_text())
    edit(index)
    (root / "index.json").write_text(json.dumps(index))


def change_table(root: Path, edit: Callable[[list[str]], object]) -> None:
    """Change the rows of the table, and make the index fit."""
    rows = (root / "val.csv").read_text().splitlines()
    edit(rows)
    content = ("\n".join(rows) + "\n").encode()
    (root / "val.csv").write_bytes(content)
    table = {"file": "val.csv", "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    change(root, lambda index: index["splits"]["val"].update(table=table))


INDEXES: dict[str, Callable[[dict[str, Any]], object]] = {
    "kind": lambda x: x.update(kind="pickle"),
    "version": lambda x: x.update(version=2),
    "no splits": lambda x: x.update(splits={}),
    "a split with a path": lambda x: x["splits"].update({"../x": x["splits"]["val"]}),
    "a list": lambda x: x.update(splits=[1]),
    "no samples": lambda x: x["splits"]["val"].update(samples=0),
    "too many samples": lambda x: x["splits"]["val"].update(samples=10**12),
    "samples that are text": lambda x: x["splits"]["val"].update(samples="3"),
    "more samples than rows": lambda x: x["splits"]["val"].update(samples=2_000_000),
    "fewer samples than rows": lambda x: x["splits"]["val"].update(samples=1),
    "a path out": lambda x: x["splits"]["val"]["table"].update(file="../val.csv"),
    "an absolute path": lambda x: x["splits"]["val"]["shards"][0].update(file="/etc/passwd"),
    "a URL": lambda x: x["splits"]["val"]["shards"][0].update(file="http://127.0.0.1/x"),
    "a name with a line": lambda x: x.update(name="a\nb"),
    "a hidden file": lambda x: x["classes"].update(file=".netrc"),
    "a digest that is none": lambda x: x["classes"].update(sha256="0" * 63),
    "another digest of the classes": lambda x: x["classes"].update(sha256="0" * 64),
    "another digest of the table": lambda x: x["splits"]["val"]["table"].update(sha256="0" * 64),
    "a huge table": lambda x: x["splits"]["val"]["table"].update(bytes=2**40),
    "a table that is larger than its file": lambda x: x["splits"]["val"]["table"].update(bytes=2**28),
    "a negative size": lambda x: x["splits"]["val"]["shards"][0].update(bytes=-1),
    "a small shard": lambda x: x["splits"]["val"]["shards"][0].update(bytes=600),
    "no shards": lambda x: x["splits"]["val"].update(shards=[]),
    "many shards": lambda x: x["splits"]["val"].update(shards=x["splits"]["val"]["shards"] * 70_000),
    "a shard that is not there": lambda x: x["splits"]["val"]["shards"][0].update(file="other.tar"),
    "deep": lambda x: x.update(extra=eval("[" * 60 + "]" * 60)),
}


@pytest.mark.parametrize("name", INDEXES)
def test_an_index_that_lies(packed, name):
    change(packed, INDEXES[name])
    refused(packed)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b"1" * 5000], ids=range(7))
def test_an_index_that_is_none(packed, content):
    (packed / "index.json").write_bytes(content)
    assert "not an index of `semask data pack`" in refused(packed)


def test_an_index_that_is_too_large(packed):
    (packed / "index.json").write_bytes(b" " * (LARGEST_INDEX + 2))
    assert "larger than" in refused(packed)


def cell(row: int, column: int, text: str) -> Callable[[list[str]], object]:
    def edit(rows: list[str]) -> None:
        cells = rows[row].split(",")
        cells[column] = text
        rows[row] = ",".join(cells)

    return edit


TABLES: dict[str, Callable[[list[str]], object]] = {
    "other columns": cell(0, 0, "path"),
    "a path out": cell(1, 0, "../../x.jpg"),
    "an absolute path": cell(1, 0, "/etc/x.jpg"),
    "a path of windows": cell(1, 0, "C:\\x.jpg"),
    "no name": cell(1, 0, ""),
    "a control character": cell(1, 0, "a\x1b[31m.jpg"),
    "a long name": cell(1, 0, "a" * 2000),
    "another shard": cell(1, 1, "1"),
    "a negative shard": cell(1, 1, "-1"),
    "a huge number": cell(1, 2, "9" * 5000),
    "beyond the end": cell(1, 2, "999999999999"),
    "no bytes": cell(1, 3, "0"),
    "too many bytes": cell(1, 3, str(2**28 + 1)),
    "not a number": cell(1, 3, "1e3"),
    "other digits": cell(1, 3, "٣"),
    "not a digest": cell(1, 4, "x" * 64),
    "another digest": cell(2, 7, "0" * 64),
    "other bytes": cell(1, 2, "0"),
    "a row more": lambda rows: rows.append(rows[-1]),
    "a row less": lambda rows: rows.pop(),
    "a cell more": lambda rows: rows.__setitem__(1, rows[1] + ",1"),
    "an open quote": lambda rows: rows.__setitem__(1, '"' + rows[1]),
    "empty": lambda rows: rows.clear(),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_that_lies(packed, name):
    change_table(packed, TABLES[name])
    refused(packed)


def test_a_shard_that_was_changed(packed):
    content = bytearray((packed / "val-000000.tar").read_bytes())
    content[600] ^= 1
    (packed / "val-000000.tar").write_bytes(content)
    assert "the SHA-256 digest is not that of the index" in refused(packed)
    (packed / "val-000000.tar").write_bytes(content[:700])
    assert "bytes" in refused(packed)


def test_a_shard_that_is_a_folder_or_a_device(packed):
    (packed / "val-000000.tar").unlink()
    (packed / "val-000000.tar").symlink_to("/dev/zero")
    assert "not a file" in refused(packed)
    (packed / "val-000000.tar").unlink()
    (packed / "val-000000.tar").mkdir()
    assert "is a folder" in refused(packed)


def test_an_index_of_something_else_is_not_recognized(packed):
    change(packed, lambda index: index.update(kind="other"))
    with pytest.raises(ValueError, match="no known layout"):
        recognize(packed)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "memory://x",
        "simplecache::s3://bucket/x",
        "zip://x::http://host/a.zip",
        "reference://x",
        "ftp://host/x",
        "github://a:b@c",
        "S3://bucket/x",
        "s3://",
        "s3:///x",
        "http:///x",
        "https://host/../x",
        "https://host/./x",
        "https://host//x",
        "https://host/%2e%2e/x",
        "https://host/a\nb",
        "https://host/a\\b",
        "s3://bucket/*",
        "https://host/x?versionId=1",
        "https://host/x#y",
    ],
)
def test_urls_that_are_not_read(url):
    with pytest.raises(ValueError, match=r".") as error:
        Data(url, format="shards")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("url", ["https://me:secret@host/x", "s3://key:secret@bucket/x", "x::https://me:secret@host/x"])
def test_credentials_in_a_url_are_refused_and_not_shown(url, semask, recipe, tmp_path):
    with pytest.raises(ValueError, match="credentials in a URL would be printed and saved") as error:
        Data(url, format="shards")
    assert "secret" not in str(error.value)
    said = semask(*recipe(tmp_path / "run", **{"data.root": url, "data.format": "shards"}), code=2)
    assert "secret" not in said.err + said.out
    assert not (tmp_path / "run").exists()


def test_a_signature_in_a_url_is_not_shown():
    with pytest.raises(ValueError, match="without what follows") as error:
        require_url("https://host/x?X-Amz-Signature=secret")
    assert "secret" not in str(error.value)


def test_urls_that_are_read():
    for url in (
        "http://127.0.0.1:8000/a",
        "https://host.org/a b/c-1",
        "s3://my.bucket/x",
        "gs://bucket",
        "http://[::1]:80/x",
    ):
        assert require_url(f"{url}/") == url


def test_only_packs_are_read_from_a_url():
    with pytest.raises(
        ValueError, match=r"the format folder is read from folders only: pack it with `semask data pack`"
    ):
        Data("s3://bucket/scenes").dataset("train")
