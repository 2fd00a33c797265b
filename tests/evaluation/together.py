"""Evaluates sets of 1, 2, ... images with untrained weights in one of several processes, and writes the confusion.

torchrun --nproc-per-node 3 tests/evaluation/together.py SCENES OUT
"""

import json
import sys
from pathlib import Path

import torch
from many import tiny

from semask import Data
from semask.evaluation.evaluate import evaluate_model
from semask.evaluation.report import describe
from semask.prediction.predictor import Predictor
from semask.prediction.processes import joined


def evaluations(scenes: Path) -> list[object]:
    """Everything that evaluations of 1, 2, ... images say."""
    predictor = Predictor(tiny(torch.float32))
    whole = Data(root=str(scenes), workers=0).dataset("val")
    found = []
    with joined("cpu") as group:
        for count in range(1, len(whole) + 1):
            part = whole.subset(range(count))
            result = evaluate_model(predictor, part, rank=group.rank, world_size=group.world_size)
            counts = result.counts
            assert counts is not None
            matrices = [counts.matrix(map_).tolist() for map_ in range(counts.maps)]
            found.append([describe(result, part.classes.names), matrices])
    return found if group.rank == 0 else []


if __name__ == "__main__":
    if found := evaluations(Path(sys.argv[1])):
        Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
