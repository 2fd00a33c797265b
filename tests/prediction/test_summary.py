import csv
from pathlib import Path

from semask.data.classes import Classes
from semask.prediction.areas import Areas
from semask.prediction.summary import COLUMNS, Row, totals, write_summary

CLASSES = Classes(("road", '=HYPERLINK("http://x","y")', 'a,"b"'))
AREAS = Areas((1, 3, 0), 2, (10.0, 30.0, 0.0), "map", "EPSG:32633")


def test_cells_that_a_spreadsheet_would_compute(tmp_path):
    rows = [Row(Path("+1.png"), AREAS), Row(Path("a.png"), None, "-2: no image"), Row(Path("\udcff.png"), AREAS)]
    write_summary(tmp_path / "all.csv", rows, CLASSES)
    with open(tmp_path / "all.csv", encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    assert tuple(table[0]) == COLUMNS
    assert table[1] == ["'+1.png", "road", "1", "0.250000", "10", ""]
    assert table[2][1] == """'=HYPERLINK("http://x","y")"""
    assert table[3][1] == 'a,"b"'
    assert table[4] == ["a.png", "", "", "", "", "'-2: no image"]
    assert len(table) == 8
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in table for cell in row)


def test_totals():
    first, second, third = totals([AREAS, AREAS], CLASSES)
    assert (first.pixels, first.share, first.square_meters) == (2, 0.25, 20.0)
    assert (second.pixels, third.pixels) == (6, 0)
    assert totals([AREAS, Areas((1, 0, 0), 0)], CLASSES)[0].square_meters is None
    assert totals([], CLASSES)[0].share == 0
