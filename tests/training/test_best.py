import math

import pytest

from semask.data.classes import Classes
from semask.evaluation.evaluate import Evaluation
from semask.metrics.confusion import Scores
from semask.training.best import Best

CLASSES = Classes(("road", "pole"))


def result(miou: float, accuracy: float, pole: float) -> Evaluation:
    return Evaluation(Scores(miou, accuracy, 0.9, [0.5, pole], [0.5, 0.5], [3, 4]), (), 1)


@pytest.mark.parametrize(("by", "best"), [("miou", 1), ("mean_accuracy", 0), ("overall_accuracy", 0), ("iou:pole", 2)])
def test_the_score_that_decides(by, best):
    results = [result(0.1, 0.9, math.nan), result(0.3, 0.5, 0.0), result(0.2, 0.4, 0.1)]
    kept = Best(by, CLASSES)
    assert [i for i, x in enumerate(results) if kept.update(x)][-1] == best
    assert kept.score == max(map(kept.of, results))


def test_patience_counts_evaluations_since_the_best():
    kept = Best("miou", CLASSES, patience=2)
    found = []
    for score in (0.1, 0.1, 0.2, 0.1, 0.2):
        kept.update(result(score, 0, 0))
        found.append(kept.gives_up())
    assert found == [None, None, None, None, "no better mIoU in 2 evaluations"]
    assert Best("iou:pole", CLASSES).name == "IoU of pole"
