"""Calibration against loops, and temperatures that are known beforehand."""

import math

import numpy as np
import pytest

from semask.metrics.calibration import (
    COLDEST,
    HOTTEST,
    calibration_error,
    fit,
    fit_temperature,
    likelihood_of,
    reliability,
    tempered,
)


def test_against_loops():
    random = np.random.default_rng(0)
    confidence = np.append(random.random(500), [0, 1, 1 / 15, 2 / 15]).astype(np.float32)
    right = random.random(504) < confidence
    counts = reliability(confidence, right)
    expected = np.zeros((15, 3))
    for c, r in zip(confidence.astype(float), right, strict=True):
        b = next(b for b in range(15) if c <= (b + 1) / 15 or b == 14)
        expected[b] += (1, r, c)
    np.testing.assert_allclose(counts, expected, rtol=1e-6)
    error = 0.0
    for pixels, hits, total in expected:
        error += abs(hits / pixels - total / pixels) * pixels / 504
    assert calibration_error(counts) == pytest.approx(error)


def test_no_pixels():
    counts = reliability(np.zeros(0, np.float32), np.zeros(0, np.bool_))
    assert counts.shape == (15, 3)
    assert math.isnan(calibration_error(counts))
    with pytest.raises(ValueError, match="no labeled pixel"):
        fit_temperature(np.zeros((3, 0), np.float32), np.zeros(0, np.int64))


def test_tempered_is_the_softmax_of_divided_logits():
    logits = np.random.default_rng(0).normal(size=(5, 3, 4)).astype(np.float32) * 4
    log_p = logits - np.log(np.exp(logits).sum(0))
    expected = np.exp(logits / 2.5) / np.exp(logits / 2.5).sum(0)
    np.testing.assert_allclose(tempered(log_p, 2.5), expected, rtol=1e-5)
    np.testing.assert_allclose(tempered(log_p, 1), np.exp(log_p), rtol=1e-5)
    assert (tempered(log_p, 7).argmax(0) == log_p.argmax(0)).all()


def drawn(temperature: float, n: int = 20_000, K: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a model that is too sure by a temperature, and labels drawn from the right ones."""
    random = np.random.default_rng(1)
    logits = random.normal(size=(K, n)).astype(np.float32) * 2
    p = np.exp(logits) / np.exp(logits).sum(0)
    label = (p.cumsum(0) < random.random(n)).sum(0).clip(max=K - 1)
    sure = logits * temperature
    return (sure - np.log(np.exp(sure).sum(0))).astype(np.float32), label


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_found(temperature):
    log_p, label = drawn(temperature)
    found = fit(log_p, label, np.arange(len(label)) % 7)
    assert found.temperature == pytest.approx(temperature, rel=0.04)
    assert found.ece[1] < 0.02
    if temperature != 1:
        assert found.ece[0] > 0.05
        assert found.nll[1] < found.nll[0]


def test_the_least_likelihood_of_a_grid():
    log_p, label = drawn(2.0, n=300)
    best = min(np.linspace(0.5, 5, 901), key=lambda t: likelihood_of(tempered(log_p, t), label))
    assert fit_temperature(log_p, label) == pytest.approx(best, abs=0.006)


def test_the_ends():
    log_p = np.log(np.array([[0.6] * 4, [0.4] * 4], np.float32))
    assert fit_temperature(log_p, np.zeros(4, np.int64)) == pytest.approx(COLDEST, rel=1e-3)  # always right
    assert fit_temperature(log_p, np.ones(4, np.int64)) == pytest.approx(HOTTEST, rel=1e-3)


def test_what_comes_after_is_of_other_images():
    log_p, label = drawn(3.0, n=2000)
    image = np.arange(2000) % 2
    halves = [image == 0, image == 1]
    after = np.empty_like(log_p)
    for half in halves:
        after[:, half] = tempered(log_p[:, half], fit_temperature(log_p[:, ~half], label[~half]))
    expected = calibration_error(reliability(after.max(0), after.argmax(0) == label))
    assert fit(log_p, label, image).ece[1] == pytest.approx(expected)
    assert fit(log_p, label, np.zeros(2000, int)).temperature == fit(log_p, label, image).temperature  # a single image
