"""Files that name the classes."""

import pytest

from semask.data.class_files import find_class_file


@pytest.mark.parametrize(
    ("name", "text", "names", "values"),
    [
        ("classes.txt", "road\nsky\n", ("road", "sky"), {0: 0, 1: 1}),
        ("classes.txt", "# a list\r\nroad\r\n\r\nsky blue\r\n", ("road", "sky blue"), {0: 0, 1: 1}),
        ("labels.txt", "1: road\n5: sky\n", ("road", "sky"), {1: 0, 5: 1}),
        ("class_names.txt", "0 road\n1 sky\n", ("road", "sky"), {0: 0, 1: 1}),
        ("class_dict.csv", "name,r,g,b\nroad,1,2,3\nsky,4,5,6\n", ("road", "sky"), {0: 0, 1: 1}),
        ("classes.csv", "id;name\n", None, None),
        ("classes.csv", "id,label\n3,road\n9,sky\n", ("road", "sky"), {3: 0, 9: 1}),
        ("classes.json", '{"classes": ["road", "sky"]}', ("road", "sky"), {0: 0, 1: 1, 255: 255}),
    ],
)
def test_what_is_read(tmp_path, name, text, names, values):
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    if names is None:
        with pytest.raises(ValueError, match=f"{name}: its first line has to name the columns"):
            find_class_file(tmp_path)
        return
    found = find_class_file(tmp_path)
    assert found is not None
    assert (found.classes.names, found.values) == (names, values)
    assert found.has_palette == (name == "class_dict.csv")
    if found.has_palette:
        assert found.classes.palette == ((1, 2, 3), (4, 5, 6))


def test_nothing(tmp_path):
    assert find_class_file(tmp_path) is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("classes.txt", b"", "names no class"),
        ("classes.txt", b"road\nroad\n", "'road' is given twice"),
        ("classes.txt", b"1: road\n1: sky\n", "gives two classes the same number"),
        ("classes.txt", b"\xff\xfe\x00", "not a text in UTF-8"),
        ("classes.txt", b"a\n" * 300, "300 classes given, expected 1 to 255"),
        ("classes.txt", b"x" * 3_000_000, "larger than"),
        ("class_dict.csv", b"name,r,g,b\nroad,1,2\n", "has the number None"),
        ("class_dict.csv", b"name,r,g,b\nroad,1,2,900\n", "expected red, green and blue"),
        ("class_dict.csv", b"name,r,g,b\nroad,1,2,x\n", "has the number 'x'"),
        ("classes.csv", b"name,id\nroad,-1\n", "has the number '-1'"),
        ("classes.csv", b"name\n" + b"," * 200_000, "names no class"),
        ("classes.json", b"[]", "expected an object"),
    ],
)
def test_wrong_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=name) as error:
        find_class_file(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
