"""The script that compares files with shards runs, and first that batches are equal."""

import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("aiohttp")
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # as for `python benchmarks/shards.py`

import shards


def test_it_runs(scenes, tmp_path, monkeypatch, capsys):
    small = ["--batch_size", "2", "--steps", "2", "--rounds", "1", "--crop", "32", "--workers", "0"]
    monkeypatch.setattr(sys, "argv", ["shards.py", "--data", str(scenes), *small, "--json", str(tmp_path / "x.json")])
    shards.main()
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert [row["side"] for row in rows] == ["files", "shards", "HTTP", "HTTP, cache"]
    assert all(row["images/s"] > 0 and row["ratio"] > 0 for row in rows)
    assert "| 0 | files | " in capsys.readouterr().out
