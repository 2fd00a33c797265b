"""How fast a model is, measured while it works."""

from collections.abc import Sequence

SMOOTHING = 0.2
"""Weight of the newest batch in the means."""


class Rate:
    """Means over batches, the newest counting most.

    Attributes:
        seconds_per_work: Seconds for a unit of work; None before anything was measured.
        usual_work: Work of a job; 0 before anything was measured.
    """

    def __init__(self) -> None:
        self.seconds_per_work: float | None = None
        self.usual_work = 0.0

    def seconds(self, work: float) -> float:
        """Seconds that so much work should take; 0 before anything was measured."""
        return work * (self.seconds_per_work or 0.0)

    def measure(self, seconds: float, works: Sequence[int]) -> None:
        """Note how long a batch of jobs took.

        >>> rate = Rate()
        >>> rate.measure(1.0, [50, 50])
        >>> rate.seconds(10), rate.usual_work
        (0.1, 50.0)
        """
        now, work = seconds / max(sum(works), 1), sum(works) / len(works)
        if self.seconds_per_work is None:
            self.seconds_per_work, self.usual_work = now, work
        else:
            self.seconds_per_work += SMOOTHING * (now - self.seconds_per_work)
            self.usual_work += SMOOTHING * (work - self.usual_work)
