"""The benchmark of smoothing runs, and prints its table."""

import json
import sys
from pathlib import Path

from film_samples import av

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # as for `python benchmarks/flicker.py`

import flicker


def test_it_prints_a_table(capsys, monkeypatch, scenes, trained, tmp_path):
    assert av is not None
    out = tmp_path / "rows.json"
    monkeypatch.setattr(sys, "argv", ["flicker.py", str(scenes), "--model", str(trained), "--out", str(out)])
    monkeypatch.setattr(flicker, "SETTINGS", ({}, {"smoothing": 0.5}))
    flicker.main()
    rows = json.loads(out.read_text())
    assert [row["settings"] for row in rows] == ["images, no film", {}, {"smoothing": 0.5}]
    assert all(0 <= row["miou"] <= 1 for row in rows)
    assert "| no smoothing |" in capsys.readouterr().out
