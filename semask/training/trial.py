"""What a training step takes on this machine: memory and time, found by doing a few."""

import threading
import time
from typing import NamedTuple

import torch

from semask.acceleration.accelerate import accelerate
from semask.builder import build_model
from semask.files.text import out_of_memory
from semask.losses.mask import MaskLoss
from semask.losses.pixel import PixelLoss
from semask.settings.model import ModelSettings

SHARE = 0.6
"""Share of the free memory that a step may take: the loaders, and whatever else runs, need some too."""
BATCHES = (16, 8, 4, 2, 1)


class Trial(NamedTuple):
    """What was found.

    Args:
        batch: Images that fit into memory at once.
        seconds: Time of an image in a training step.
        needed: Bytes that a step with this batch takes.
        free: Bytes that were free.
    """

    batch: int
    seconds: float
    needed: int
    free: int


def try_steps(settings: ModelSettings, crop: tuple[int, int], *, most: int, cpu: bool) -> Trial:
    """Do training steps with one and with two images of noise, and compute from their memory how many fit.

    Args:
        settings: The model; it is built and forgotten.
        crop: Height and width of the images in pixels.
        most: Images that are wanted at once.
        cpu: Do them on the CPU even if there is a GPU.

    Raises:
        ValueError: Not even one image fits.
    """
    device = torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")
    free = free_memory(device)
    memory = PeakMemory(device)
    model = accelerate(build_model(settings).to(device).train())
    loss = MaskLoss().for_decoder(model.decoder) if model.decoder.makes_masks else PixelLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0)
    peaks, seconds = [], 0.0
    for count in (2, 2, 4):  # a decoder may have BatchNorm over one location: no single images; the first warms up
        image = torch.randn(count, settings.in_channels, *crop, device=device)
        label = torch.randint(settings.num_classes, (count, *crop), device=device)
        began = time.perf_counter()
        try:
            with memory:
                losses = loss(model(image), label)
                losses.total.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
                losses.total.item()  # waits for a GPU
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            break
        seconds = (time.perf_counter() - began) / count
        peaks.append(memory.taken)
    if len(peaks) < 2:
        raise ValueError(
            f"a training step with two images of {crop[1]} x {crop[0]} pixels does not fit into memory: give a smaller "
            "--augmentation.crop, or a smaller --model.encoder"
        )
    slope = max(peaks[-1] - peaks[0], 2**20) // 2 if len(peaks) == 3 else peaks[-1]
    needed = {batch: peaks[0] + (batch - 2) * slope for batch in BATCHES}
    fitting = [batch for batch in BATCHES if batch <= most and needed[batch] <= SHARE * free]
    batch = fitting[0] if fitting else BATCHES[-1]
    return Trial(batch, seconds, needed[batch], free)


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    return int(psutil.virtual_memory().available)


class PeakMemory:
    """The most memory that is taken in its block, in addition to what was taken when it was made.

    Of a CPU the memory of the process is looked at every few milliseconds: the system's own record of its peak is that
    of all its past.
    """

    EVERY = 0.002

    def __init__(self, device: torch.device) -> None:
        self.device, self.taken = device, 0
        self.before = self._now()

    def _now(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        import psutil

        return int(psutil.Process().memory_info().rss)

    def _watch(self) -> None:
        while not self.done.wait(self.EVERY):
            self.taken = max(self.taken, self._now() - self.before)

    def __enter__(self) -> None:
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        if self.device.type != "cuda":
            self.thread.start()

    def __exit__(self, *error: object) -> None:
        self.taken = max(self.taken, self._now() - self.before)
        self.done.set()
        if self.device.type != "cuda":
            self.thread.join()
