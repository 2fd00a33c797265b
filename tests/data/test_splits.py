"""A split by the hash of the names."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from semask.data.source import Data
from semask.data.splits import read_split, side_of, split_by_name, write_split

NAMES = st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=2, max_size=30, unique=True)


@given(NAMES, NAMES, st.floats(0.01, 0.99))
def test_a_name_keeps_its_side_when_others_are_added(names, more, holdout):
    both = [*dict.fromkeys(names + more)]
    first, second = (dict(zip(x, split_by_name(x, holdout=holdout), strict=True)) for x in (names, both))
    for name in names:
        # Where one side would be empty, the next in line is moved: only then may a name change its side.
        forced = {side_of(x, holdout) for x in names} != {"train", "val"}
        assert first[name] == second[name] or forced


@given(NAMES, st.floats(0.01, 0.99))
def test_no_side_is_empty(names, holdout):
    assert set(split_by_name(names, holdout=holdout)) == {"train", "val"}


def test_about_the_share():
    sides = split_by_name([f"scene/{i:05}" for i in range(10_000)], holdout=0.15)
    assert 0.14 < sides.count("val") / len(sides) < 0.16


@given(st.lists(st.integers(0, 4), min_size=6, max_size=40))
def test_groups_stay_together(groups):
    names = [f"frame{i:03}" for i in range(len(groups))]
    sides = split_by_name(names, holdout=0.5, groups=groups)
    assert set(sides) == {"train", "val"}
    if len(set(groups)) > 1:
        assert len({(group, side) for group, side in zip(groups, sides, strict=True)}) == len(set(groups))


def test_a_name_is_the_same_however_it_is_written():
    for name in ("straße", "für", "Ångström"):
        assert side_of(unicodedata.normalize("NFC", name), 0.5) == side_of(unicodedata.normalize("NFD", name), 0.5)


def test_one_image_cannot_be_split():
    with pytest.raises(ValueError, match="1 labeled image cannot be split"):
        split_by_name(["a"])


def test_a_file_decides(tmp_path):
    names, path = ["a", 'b,"c"', "straße"], tmp_path / "split.csv"
    write_split(path, names, ["val", "train", "val"])
    assert read_split(path) == {"a": "val", 'b,"c"': "train", "straße": "val"}
    assert split_by_name(names, holdout=0.01, given=read_split(path)) == ["val", "train", "val"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line has to be name,split"),
        ("image,part\na,train\n", "its first line has to be name,split"),
        ("name,split\na,test\n", "line 2 has the split 'test': give train or val"),
        ("name,split\na\n", "line 2 has the split '': give train or val"),
        ("name,split\na,train\na,val\n", "a is in both splits"),
        ('name,split\n"a' + "x" * 200_000 + ",train\n", "field larger than field limit"),
    ],
)
def test_wrong_files(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"s\.csv: ") as error:
        read_split(tmp_path / "s.csv")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "s.csv").write_bytes(b"name,split\n\xff\xfe,train\n")
    with pytest.raises(ValueError, match="not a text in UTF-8"):
        read_split(tmp_path / "s.csv")


@pytest.fixture
def flat(scenes, tmp_path):
    import shutil

    for image in sorted((scenes / "images").rglob("*.*")):
        name = f"{image.parent.name}{image.stem}"
        shutil.copy(image, tmp_path / f"{name}{image.suffix}")
        shutil.copy(scenes / "annotations" / image.parent.name / f"{image.stem}.png", tmp_path / f"{name}_mask.png")
    return tmp_path


def test_data_without_splits(flat):
    classes = {f"c{i}": [i] for i in range(11)}
    data = Data(str(flat), format="flat", classes=classes, holdout=0.4)
    parts = [{x.name for x, _ in data.dataset(split).pairs} for split in ("train", "val")]
    assert all(parts)
    assert not parts[0] & parts[1]
    assert len(Data(str(flat), format="flat", classes=classes, val_split="all").dataset("val")) == 9
    name = sorted(flat.glob("train*.jpg"))[2].stem
    write_split(flat / "split.csv", [name], ["val"])
    data = Data(str(flat), format="flat", classes=classes, holdout=1e-9, split_file=str(flat / "split.csv"))
    assert [x.stem for x, _ in data.dataset("val").pairs] == [name]
