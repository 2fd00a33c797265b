import math

import pytest
import torch

from semask.metrics.confusion import ConfusionMatrix


def test_against_a_loop():
    label, prediction = torch.randint(0, 5, (3, 7, 9)), torch.randint(0, 4, (3, 7, 9))
    label[label == 4] = 255
    matrix = ConfusionMatrix(4)
    for one_label, one_prediction in zip(label, prediction, strict=True):
        matrix.update(one_prediction, one_label)
    pairs = [(a, b) for a, b in zip(label.flatten().tolist(), prediction.flatten().tolist(), strict=True) if a != 255]
    assert matrix.counts.tolist() == [[pairs.count((a, b)) for b in range(4)] for a in range(4)]
    scores = matrix.scores()
    for k in range(4):
        hits = pairs.count((k, k))
        labeled, union = sum(a == k for a, _ in pairs), sum(k in pair for pair in pairs)
        assert scores.iou[k] == pytest.approx(hits / union)
        assert scores.accuracy[k] == pytest.approx(hits / labeled)
        assert scores.pixels[k] == labeled
    assert scores.miou == pytest.approx(sum(scores.iou) / 4)
    assert scores.mean_accuracy == pytest.approx(sum(scores.accuracy) / 4)
    assert scores.overall_accuracy == pytest.approx(sum(a == b for a, b in pairs) / len(pairs))


def test_what_is_taken_for_what():
    label = torch.tensor([0] * 10 + [1] * 4 + [2] * 2 + [255])
    prediction = torch.tensor([0] * 7 + [1] * 3 + [1, 0, 0, 2] + [2, 2] + [0])
    matrix = ConfusionMatrix(4)
    assert matrix.confused() == []
    matrix.update(prediction, label)
    assert matrix.confused() == [(1, 0, 2, 0.5), (0, 1, 3, pytest.approx(0.3)), (1, 2, 1, 0.25)]
    assert matrix.confused(1) == matrix.confused()[:1]


def test_ignored_pixels_do_not_count_whatever_was_predicted():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([0, 1, 77]), torch.tensor([255, 1, 255]))
    assert matrix.counts.tolist() == [[0, 0], [0, 1]]


def test_absent_classes_are_no_number_and_left_out_of_the_mean():
    matrix = ConfusionMatrix(4)
    matrix.update(prediction=torch.tensor([0, 0, 2]), label=torch.tensor([0, 1, 1]))
    scores = matrix.scores()
    assert scores.iou[:3] == [0.5, 0.0, 0.0]
    assert math.isnan(scores.iou[3])
    assert scores.miou == pytest.approx(0.5 / 3)
    assert math.isnan(scores.accuracy[2])  # predicted, but never labeled
    assert scores.mean_accuracy == 0.5


def test_nothing_counted():
    scores = ConfusionMatrix(2).scores()
    assert math.isnan(scores.miou)
    assert math.isnan(scores.overall_accuracy)
    assert scores.pixels == [0, 0]


def test_counts_beyond_the_precision_of_floats():
    matrix = ConfusionMatrix(2)
    matrix.counts += 2**53
    matrix.update(torch.tensor([1]), torch.tensor([0]))
    assert matrix.counts.tolist() == [[2**53, 2**53 + 1], [2**53, 2**53]]
    assert matrix.scores().pixels == [2**54 + 1, 2**54]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_index_types(dtype):
    matrix = ConfusionMatrix(200)
    matrix.update(torch.tensor([199, 198], dtype=dtype), torch.tensor([199, 199], dtype=dtype))
    assert matrix.counts[199, 199] == matrix.counts[199, 198] == 1


@pytest.mark.parametrize(("prediction", "label"), [([2], [0]), ([0], [2]), ([-1], [0]), ([0], [-1])])
def test_indices_out_of_range(prediction, label):
    matrix = ConfusionMatrix(2)
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        matrix.update(torch.tensor(prediction), torch.tensor(label))
    assert matrix.counts.sum() == 0


def test_shapes_differ():
    with pytest.raises(ValueError, match=r"prediction is \[2\] and label \[3\]"):
        ConfusionMatrix(2).update(torch.zeros(2).long(), torch.zeros(3).long())
