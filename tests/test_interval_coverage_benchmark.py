"""The simulation of coverage and level runs, and prints both tables."""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))  # as for `python benchmarks/interval_coverage.py`

import interval_coverage


def test_it_prints_both_tables(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["interval_coverage.py", "--studies", "2", "--resamples", "20"])
    monkeypatch.setattr(interval_coverage, "TRUE_DRAWS", (200, 2))
    interval_coverage.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| 100 images, drawn as images") for line in lines) == 3 + 5
    assert any(
        line.startswith("| 30 sequences of 10 images, drawn as sequences: bootstrap-t (ours) |") for line in lines
    )


def test_frames_of_a_sequence_are_alike_and_of_the_same_kind():
    random = np.random.default_rng(0)
    alone = interval_coverage.latent(random, 20_000, 1, 1)
    frames = interval_coverage.latent(random, 2000, 10, 1)
    assert abs(frames.std() - alone.std()) < 0.03
    first, second = frames.reshape(2000, 10)[:, 0], frames.reshape(2000, 10)[:, 1]
    assert abs(np.corrcoef(first, second)[0, 1] - interval_coverage.ALIKE) < 0.05
