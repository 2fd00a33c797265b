from typing import Any

import pytest

from semask.training.length import seconds_per_step
from semask.training.pace import Pace, steps_within, times_due


class FakeClock:
    """A clock that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


def test_the_time_left_counts_evaluations_and_saves():
    clock = FakeClock()
    pace = Pace(clock)
    assert pace.left({"step": 10, "evaluation": 2, "save": 1}) is None
    for seconds, kind in ((2, "step"), (4, "step"), (20, "evaluation"), (7, "save")):
        clock.passes(seconds)
        pace.done(kind)
    assert pace.left({"step": 10, "evaluation": 2, "save": 1}) == 10 * 3 + 2 * 20 + 7
    clock.passes(100)  # something that is none of them
    pace.restart()
    clock.passes(6)
    pace.done("step")
    assert pace.left({"step": 10}) == 40
    assert pace.elapsed() == 139


def test_slow_first_steps_are_forgotten_when_others_came():
    clock = FakeClock()
    pace = Pace(clock)
    pace.warm_up()
    left = []
    for seconds in (60, 30, 2, 2, 2):
        clock.passes(seconds)
        pace.done("step")
        left.append(pace.left({"step": 1}))
    assert left == [60, 30, 2, 2, 2]


def test_the_time_before_a_stop_counts():
    clock = FakeClock()
    pace = Pace(clock, spent=50)
    clock.passes(10)
    assert pace.elapsed() == 60


@pytest.mark.parametrize("every", [0, 1, 3, 7, 100])
def test_what_is_due_is_counted_as_the_loop_does_it(every):
    def due(step: int, steps: int) -> bool:
        return step == steps or (every > 0 and step % every == 0)

    for steps in (1, 6, 7, 20):
        for done in range(steps + 1):
            assert times_due(every, done, steps) == sum(due(step, steps) for step in range(done + 1, steps + 1))


@pytest.mark.parametrize(
    ("step", "evaluation", "every"), [(0.5, 0.0, 0), (0.5, 30.0, 100), (0.01, 400.0, 0), (3, 2, 7)]
)
def test_the_steps_and_their_evaluations_fit_and_one_more_would_not(step, evaluation, every):
    def seconds(steps: int) -> float:
        return steps * step + times_due(every, 0, steps) * evaluation

    steps = steps_within(1000, step, evaluation=evaluation, every=every)
    assert seconds(steps) <= 850 < seconds(steps + 1)
    assert steps_within(-5, step, evaluation=evaluation, every=every, done=40) == 41


@pytest.mark.parametrize(
    ("durations", "left", "expected", "count"),
    [
        ([9, 3, 3, 2, 4], 1e6, 2, 4),  # the first three are not timed
        ([1, 1, 1, 0.5, 1, 1.5, 1, 2, 2], 1e6, 1.1, 8),
        ([20, 10, 1], 60, 10, 2),  # there is little time
    ],
)
def test_steps_are_timed(durations: list[float], left: float, expected: float, count: int):
    clock = FakeClock()
    steps: Any = iter(durations)
    assert seconds_per_step(lambda: clock.passes(next(steps)), clock, left=left) == pytest.approx(expected, rel=0.1)
    assert len(durations) - len(list(steps)) == count
