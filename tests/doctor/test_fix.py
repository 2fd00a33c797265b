"""The cleaned copy trains, whatever was mended; the original stays as it is."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from broken import BROKEN
from made import COLORS, Made, colored, exif
from PIL import Image, ImageOps

from semask.data.source import Data
from semask.doctor.examination import doctor
from semask.doctor.fix import _turned

MENDED = {
    "image of 0 bytes": 5,
    "truncated mask": 5,
    "link to nothing": 5,
    "image alone": 5,
    "mask of another size": 5,
    "masks as jpeg": 6,
    "smoothed_0_and_255": 6,
    "smoothed_colors": 6,
    "photo as mask": 5,
    "0 and 255": 6,
    "from 1": 6,
    "one unknown value": 6,
    "another palette": 6,
    "ignored mask": 5,
    "case of a pair": 6,
    "unicode_of_a_pair": 6,
    "names_that_differ_in_case": 6,
    "line_break_in_a_name": 6,
    "swapped_folders": 6,
    "masks with an ending": 6,
    "no val": 4,
    "in both splits": 5,
    "cmyk": 6,
    "all dark": 6,
    "transparent": 6,
    "animated .gif": 6,
    "no list": 6,
    "list in utf-16": 6,
    "a name twice": 6,
    "colors without palette": 6,
    "photo upside down": 6,
}


def hashes(root: Path) -> dict[str, str]:
    return {str(x): hashlib.sha256(x.read_bytes()).hexdigest() for x in sorted(root.rglob("*")) if x.is_file()}


@pytest.mark.parametrize("name", MENDED)
def test_the_copy_can_be_trained_on(name: str, tmp_path: Path) -> None:
    made = Made(tmp_path / "set")
    BROKEN[name][2](made)
    before = hashes(made.root)
    outcome = doctor({"root": str(made.root)}, out=tmp_path / "out", fix=tmp_path / "copy", workers=0)
    assert outcome.fixed
    assert hashes(made.root) == before
    data = Data(root=str(tmp_path / "copy"))
    checked = [data.dataset(split).check() for split in ("train", "val")]
    assert sum(each.masks for each in checked) == MENDED[name]
    json.loads((tmp_path / "copy" / "fixed.json").read_text())
    again = doctor({"root": str(tmp_path / "copy")}, out=tmp_path / "out 2", workers=0)
    assert again.code < 2, [x.line for x in again.findings]


def labels(root: Path) -> list[np.ndarray]:
    return [np.asarray(Image.open(path)) for path in sorted((root / "annotations").rglob("*.png"))]


def fixed(made: Made) -> Path:
    copy = made.root.parent / "copy"
    doctor({"root": str(made.root)}, out=made.root.parent / "out", fix=copy, workers=0)
    return copy


def test_labels_are_those_that_were_meant(tmp_path: Path) -> None:
    made = Made(tmp_path / "set")
    made.classes(3, palette=COLORS)
    made.all_masks(lambda x: Image.fromarray(colored(x)), ".jpg", quality=95, subsampling=0)
    share = [(got == meant).mean() for got, meant in zip(labels(fixed(made)), made.labels, strict=True)]
    assert min(share) == 1


def test_numbers_from_1_become_numbers_from_0(tmp_path: Path) -> None:
    made = Made(tmp_path / "set")
    made.all_masks(lambda x: x + 1)
    for got, meant in zip(labels(fixed(made)), made.labels, strict=True):
        assert (got == meant).all()


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turns_are_those_of_pillow(orientation: int) -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(values)
    picture.getexif()[0x0112] = orientation
    assert (_turned(values, orientation) == np.asarray(ImageOps.exif_transpose(picture))).all()


def test_a_turn_of_both_is_taken_out_of_both(tmp_path: Path) -> None:
    made = Made(tmp_path / "set")
    made.put_image(0, made.photos[0], exif=exif(3))
    made.put_mask(0, made.labels[0], exif=exif(3))
    copy = fixed(made)
    assert (np.asarray(Image.open(copy / "images/train/p0.png")) == made.photos[0][::-1, ::-1]).all()
    assert (labels(copy)[0] == made.labels[0][::-1, ::-1]).all()


@pytest.mark.parametrize("inside", ["", "sub", ".."])
def test_it_is_never_written_over_the_original(inside: str, tmp_path: Path, semask: object) -> None:
    made = Made(tmp_path / "set")
    said = semask.refused("doctor", made.root, "--fix", made.root / inside, "--out", tmp_path / "out")  # type: ignore[attr-defined]
    assert "give --fix a" in said


def test_an_existing_folder_is_refused(tmp_path: Path, semask: object) -> None:
    made = Made(tmp_path / "set")
    (tmp_path / "copy").mkdir()
    said = semask.refused("doctor", made.root, "--fix", tmp_path / "copy", "--out", tmp_path / "out")  # type: ignore[attr-defined]
    assert "already exists" in said
