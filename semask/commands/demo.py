"""Train a small model on synthetic scenes in two minutes, and show the results."""

from semask.commands.console import ConsoleReporter


def demo(*, out: str = "demo", steps: int | None = None, seed: int = 0) -> None:
    """Segment two photographs with the model in the package, then train a nano SeMask on synthetic scenes.

    Ends within two minutes: the number of steps is chosen from the time that the first ones take. Needs no network and
    no data. Written: OUT/photos (the photographs with their masks), OUT/data (the scenes), OUT/run (checkpoints and
    logs), after thirty seconds a first picture, OUT/first-STEP.png, and OUT/index.html, which needs nothing else.

    Args:
        out: Folder to write to; a finished demo in it is only shown again.
        steps: Optimizer steps of 8 images, for results that can be reproduced; null for as many as there is time for.
        seed: Decides on scenes, weights and order.

    Raises:
        ValueError: If the folder holds something else or can't be written.
    """
    from semask.training import demo as room

    room.demo(out=out, steps=steps, seed=seed, reporter=ConsoleReporter())
