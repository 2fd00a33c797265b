"""The benchmark runs, and finds no request without an answer."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import serve


def measured(what, small, folder, *more):
    brief = ["--seconds", "0.5", "--warm", "0.1", "--size", "48", "64", "--precision", "auto", "--model", str(small)]
    brief += ["--concurrency", "2", "--rounds", "1", "--times", "1", "--minutes", "0.02", "--every", "0.2"]
    options = ["--", "--threads", "1", "--drain_seconds", "0", "--decoders", "1"]
    serve.main([what, *brief, *more, "--json", str(folder / "found.json"), *options])
    return json.loads((folder / "found.json").read_text())[what]


def test_load(small, tmp_path):
    (row,) = measured("load", small, tmp_path)
    assert set(row["statuses"]) == {"200"}
    assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]


@pytest.mark.slow
def test_the_rest(small, tmp_path):
    assert measured("overhead", small, tmp_path)["server, ms"] > 0
    overload = measured("overload", small, tmp_path, "--times_rate", "2")
    assert set(overload["statuses"]) <= {"200", "429"}
    assert not overload["accepted_but_late"]
    assert set(measured("soak", small, tmp_path)["statuses"]) == {"200", "422"}
    rows = measured("sizes", small, tmp_path, "--sizes", "3", "--kept", "50")
    assert {row["kept"] for row in rows} == {"as the server sets it", 50}
    assert all(row["model_mb"] > 0 for row in rows)
    for row in measured("kill", small, tmp_path).values():
        assert set(row["statuses"]) == {"200"}
        assert not row["without_an_answer"]
