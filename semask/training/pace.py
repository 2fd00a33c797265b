"""How long the parts of a run take, and so how long the rest of it will: the one place that knows the clock."""

import bisect
import time
from collections import deque
from collections.abc import Callable, Mapping

WARM = 3
"""Steps that are not timed: the first ones are slower."""
SPARE = 0.85
"""Share of the time left that is planned for: later steps may be slower than the timed ones."""
RECENT = 100
"""Durations of a kind that are remembered."""
MOST = 10**8
"""Steps that a run may have."""
Clock = Callable[[], float]


class Pace:
    """Times steps, evaluations and saves, one after another.

    Args:
        clock: Gives the time in seconds.
        spent: Seconds that the run took before, in sessions that were stopped.

    >>> ticks = iter([0.0, 10.0, 12.0, 18.0])
    >>> pace = Pace(lambda: next(ticks))
    >>> pace.restart(), pace.done("step"), pace.done("evaluation")
    (None, None, None)
    >>> pace.left({"step": 5, "evaluation": 2})
    22.0
    """

    def __init__(self, clock: Clock = time.perf_counter, *, spent: float = 0.0) -> None:
        self.clock, self.spent = clock, spent
        self.began = self.mark = clock()
        self.seconds: dict[str, deque[float]] = {}
        self.warming = 0

    def restart(self) -> None:
        """Time what comes from now on."""
        self.mark = self.clock()

    def warm_up(self) -> None:
        """Leave the next steps out where others come after them."""
        self.warming = WARM

    def done(self, kind: str) -> None:
        """Note that something has ended, which began when the thing before it ended."""
        now = self.clock()
        known = self.seconds.setdefault(kind, deque(maxlen=RECENT))
        if kind == "step" and self.warming:
            self.warming -= 1
            known.clear()  # a warm one takes the place of a slow one
        known.append(now - self.mark)
        self.mark = now

    def expect(self, kind: str, seconds: float) -> None:
        """Note how long something will take, which was not done yet."""
        self.seconds[kind] = deque([seconds], maxlen=RECENT)

    def mean(self, kind: str) -> float | None:
        """Seconds that something takes; None before the first one."""
        known = self.seconds.get(kind)
        return sum(known) / len(known) if known else None

    def left(self, counts: Mapping[str, int]) -> float | None:
        """Seconds that the rest takes; None before the first step. What was not done yet counts as nothing.

        Args:
            counts: How many of each kind are left.
        """
        if self.mean("step") is None:
            return None
        return sum((self.mean(kind) or 0.0) * count for kind, count in counts.items())

    def elapsed(self) -> float:
        """Seconds of the whole run until now."""
        return self.spent + self.clock() - self.began


def times_due(every: int, done: int, steps: int) -> int:
    """How often something is done between two steps that comes every so many steps, and at the end; 0: at the end only.

    >>> times_due(100, 0, 300), times_due(100, 100, 301), times_due(0, 10, 20), times_due(100, 300, 300)
    (3, 3, 1, 0)
    """
    if done >= steps:
        return 0
    return 1 if every == 0 else -(-steps // every) - done // every


def steps_within(left: float, step: float, *, evaluation: float = 0.0, every: int = 0, done: int = 0) -> int:
    """Steps of a run that ends in time, with some time to spare; one at least.

    Args:
        left: Seconds.
        step: Seconds of a step.
        evaluation: Seconds of an evaluation.
        every: Steps between two evaluations; 0 for one at the end.
        done: Steps that were done before.

    >>> steps_within(100.0, 0.25), steps_within(100.0, 0.25, evaluation=10.0, every=100), steps_within(1.0, 30.0)
    (340, 220, 1)
    """

    def seconds(steps: int) -> float:
        return (steps - done) * step + times_due(every, done, steps) * evaluation

    fitting = bisect.bisect_right(range(done + 1, MOST + 1), SPARE * left, key=seconds)
    return done + max(fitting, 1)
