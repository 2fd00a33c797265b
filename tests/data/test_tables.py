"""Tables of anybody: what they hold is text, and the paths in them stay where they should."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from semask.data import tables
from semask.data.tables import column_of, file_of, read_table


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", b'\xef\xbb\xbfimage,mask\r\na b.jpg,"c,d.png"\r\n\r\ne.jpg\r\n'),
        ("t.tsv", b"image\tmask\na b.jpg\tc,d.png\ne.jpg\t\n"),
        ("t.csv", b"image;mask\na b.jpg;c,d.png\ne.jpg;\n"),
        ("t.jsonl", b'{"image": "a b.jpg", "mask": "c,d.png", "n": 1}\n\n{"image": "e.jpg", "mask": null}\n'),
    ],
)
def test_kinds_of_tables(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    table = read_table(tmp_path / name)
    assert table.columns == ("image", "mask")
    assert table.rows == [("a b.jpg", "c,d.png"), ("e.jpg", "")]
    assert read_table(tmp_path / name, head=True).rows == table.rows[:1]


def test_parquet(tmp_path):
    table = pa.table({"image": ["a", None], "n": [1, 2], "mask": pa.array(["b", "c"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet") == (tmp_path / "t.parquet", ("image", "mask"), [("a", "b"), ("", "c")])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"image,mask\n\xe4.jpg,b.png\n", "not a text in UTF-8"),
        ("t.csv", "image,mask\n".encode("utf-16"), "not a text in UTF-8"),
        ("t.csv", b"image,mask\n" + b"a" * 200_000 + b",b\n", "field larger than field limit"),
        ("t.csv", b"image,mask\na,b,c\n", "line 2 has 3 cells, the first line has 2"),
        ("t.jsonl", b"{}\n{\n", "line 2 is not JSON"),
        ("t.jsonl", b"[1]\n", "line 1 is list: expected an object"),
        ("t.jsonl", b"[" * 100_000, "nested too deeply"),
        ("t.parquet", b"PAR1" + b"\0" * 40 + b"PAR1", "not a readable Parquet file"),
        ("t.parquet", b"", "not a readable Parquet file"),
    ],
)
def test_what_is_not_a_table(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said) as error:
        read_table(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_tables_that_are_too_large(tmp_path, monkeypatch):
    # One text, repeated: small in the file, large in memory.
    pq.write_table(pa.table({"image": ["a" * 100_000] * 5000}), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 100_000
    with pytest.raises(ValueError, match="its texts take more than"):
        read_table(tmp_path / "t.parquet")
    monkeypatch.setattr(tables, "MOST_ROWS", 3)
    (tmp_path / "t.csv").write_text("a,b\n" * 6)
    for name in ("t.parquet", "t.csv"):
        with pytest.raises(ValueError, match="more than 3 rows"):
            read_table(tmp_path / name)


def test_names_of_columns():
    assert column_of(["ID", "Image Path", "label_file_name"], ["image"]) == 1
    assert column_of(["ID", "Image Path", "label_file_name"], ["mask", "label"]) == 2
    assert column_of(["photo", "image"], ["image", "photo"]) == 1
    assert column_of(["x"], ["y"]) is None


@pytest.mark.parametrize("anywhere", [False, True])
def test_paths_below_the_folder(tmp_path, anywhere):
    for text in ("a/b.png", "a\\b.png", str(tmp_path / "a/b.png")):
        assert file_of(text, tmp_path, anywhere=anywhere) == tmp_path / "a/b.png"


@pytest.mark.parametrize("text", ["/etc/passwd", "../x.png", "a/../../x.png", "a\\..\\..\\x.png", "C:\\x.png", "C:x"])
def test_paths_out_of_the_folder(tmp_path, text):
    with pytest.raises(ValueError, match="is outside of the folder"):
        file_of(text, tmp_path, anywhere=False)
    assert file_of(text, tmp_path, anywhere=True)


@pytest.mark.parametrize(
    "text", ["\\\\host\\x.png", "//host/x.png", "https://host/x", "s3://x", "a\0b", "", "a" * 5000]
)
@pytest.mark.parametrize("anywhere", [False, True])
def test_what_is_no_path(tmp_path, text, anywhere):
    with pytest.raises(ValueError, match=r"on another machine|is not a path|a path is missing") as error:
        file_of(text, tmp_path, anywhere=anywhere)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300
