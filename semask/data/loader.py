"""Samples to batches, in an order that is a function of the seed alone.

A run is a sequence of positions 0, 1, 2, ...; position n shows sample permutation(seed, n // N)[n % N] and is augmented
with the random numbers of (seed, n). With `balance` some positions show a sample that is drawn by class instead, by the
random numbers of (seed, n) too. Step s takes the next batch_size x world_size positions, of which every rank takes its
part. So neither workers nor ranks nor restarts change what the model sees.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from semask.data.dataset import SegmentationDataset
from semask.data.rare import Balance
from semask.data.shards import prefetch
from semask.data.transforms import Transform

if TYPE_CHECKING:
    from torchvision import tv_tensors


class Batch(NamedTuple):
    """Samples of the same size, stacked.

    Args:
        image: Normalized images [B, C, H, W], float32.
        label: Class indices [B, H, W], int64; 255 = ignored.
        indices: Index of every sample in the data set.
    """

    image: Tensor
    label: Tensor
    indices: tuple[int, ...]


class Samples(Protocol):
    """What a loader needs: a length, and (image, label) by index."""

    def __len__(self) -> int:
        """Return the number of samples."""

    def __getitem__(self, index: int) -> "tuple[tv_tensors.Image, tv_tensors.Mask]":
        """Read a sample."""


def training_loader(
    dataset: Samples,
    transform: Transform,
    *,
    seed: int,
    batch_size: int,
    steps: int,
    first_step: int = 0,
    first_sample: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 2,
    pin_memory: bool = False,
    multiprocessing_context: str | None = None,
    balance: Balance | None = None,
) -> DataLoader[Batch]:
    """Load the batches of the steps first_step, ..., first_step + steps - 1 for one rank.

    With A batches accumulated for an optimizer step, count in batches: first_step=A * s, steps=A * n.

    Args:
        dataset: Source of (image, label).
        transform: Augmentation that gives all samples one size (`training_transform`).
        seed: 0 or more; with the position it determines order and augmentation.
        batch_size: Samples of a batch on each rank.
        steps: Number of batches.
        first_step: Steps that the run did before, to go on exactly where it stopped.
        first_sample: Samples of the run, over all ranks, that were seen before, if that is another number than these
            steps would have seen: the batch size was another one then.
        rank: This process, 0..world_size-1.
        world_size: Number of processes that train together.
        workers: Processes that load; 0 loads in this process.
        pin_memory: Keep batches in page-locked memory, for fast copies to a GPU.
        multiprocessing_context: How workers start ("fork", "spawn", "forkserver"); None is the platform's way.
        balance: How rare classes are seen more often; None shows every sample as often.

    Raises:
        ValueError: A number is out of range; while iterating, what the data set raises for a bad file, in one line.
    """
    _check(dataset, rank, world_size, workers)
    if first_sample is None:
        first_sample = first_step * batch_size * world_size
    if seed < 0 or batch_size < 1 or steps < 0 or first_step < 0 or first_sample < 0:
        raise ValueError(
            f"seed={seed}, batch_size={batch_size}, steps={steps}, first_step={first_step}, "
            f"first_sample={first_sample}: expected a batch size of 1 or more and otherwise 0 or more"
        )
    positions = _Positions(len(dataset), seed, batch_size, first_sample, steps, rank, world_size, balance)
    return _Loader(
        _Run(dataset, transform, seed, balance),
        batch_sampler=positions,
        collate_fn=_collate,
        num_workers=workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or it would draw from the generator that the model uses
        multiprocessing_context=multiprocessing_context if workers else None,
    )


def evaluation_loader(
    dataset: Samples,
    transform: Transform,
    *,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 2,
    pin_memory: bool = False,
    multiprocessing_context: str | None = None,
) -> DataLoader[Batch]:
    """Load every sample once over all ranks, one at a time since images and labels may have any size.

    Args:
        dataset: Source of (image, label).
        transform: Deterministic transform; it may leave the pair as it is.
        rank: This process, 0..world_size-1; it takes the samples rank, rank + world_size, ...
        world_size: Number of processes that evaluate together.
        workers: Processes that load; 0 loads in this process.
        pin_memory: Keep batches in page-locked memory, for fast copies to a GPU.
        multiprocessing_context: How workers start ("fork", "spawn", "forkserver"); None is the platform's way.

    Raises:
        ValueError: A number is out of range; while iterating, what the data set raises for a bad file, in one line.
    """
    _check(dataset, rank, world_size, workers)
    return _Loader(
        _Run(dataset, transform, seed=0),
        batch_sampler=[[(index, index)] for index in range(rank, len(dataset), world_size)],
        collate_fn=_collate,
        num_workers=workers,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # or it would draw from the generator that the model uses
        multiprocessing_context=multiprocessing_context if workers else None,
    )


def _check(dataset: Samples, rank: int, world_size: int, workers: int) -> None:
    if len(dataset) == 0:
        raise ValueError("the data set has no samples")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank={rank}, world_size={world_size}: expected a rank of 0..world_size-1")
    if workers < 0:
        raise ValueError(f"workers={workers}: expected 0 or more processes")


def _generator_seed(seed: int, *, stream: int, number: int) -> int:
    """Mix to 64 bits that are unrelated for neighboring numbers; stream 0 is order, 1 augmentation, 2 class."""
    return int(np.random.SeedSequence([seed, number], spawn_key=(stream,)).generate_state(1, np.uint64)[0])


class _Positions:
    """Batches of (position in the run, index of the sample)."""

    def __init__(
        self,
        samples: int,
        seed: int,
        batch_size: int,
        first: int,
        steps: int,
        rank: int,
        world_size: int,
        balance: Balance | None,
    ) -> None:
        self.balance = balance if balance is not None and balance.images else None
        self.samples, self.seed, self.batch_size = samples, seed, batch_size
        self.first, self.steps, self.rank, self.world_size = first, steps, rank, world_size

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, order = -1, torch.empty(0)
        for step in range(self.steps):
            batch = []
            first = self.first + (step * self.world_size + self.rank) * self.batch_size
            for position in range(first, first + self.batch_size):
                if position // self.samples != epoch:
                    epoch = position // self.samples
                    order = self._permutation(epoch)
                in_turn = int(order[position % self.samples])
                batch.append((position, in_turn if self.balance is None else self._by_class(position, in_turn)))
            yield batch

    def _by_class(self, position: int, in_turn: int) -> int:
        """Choose between the sample whose turn it is and one that is drawn by class."""
        assert self.balance is not None
        generator = torch.Generator().manual_seed(_generator_seed(self.seed, stream=2, number=position))
        choice, class_number, image_number = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        drawn = self.balance.rare.draw_class(class_number) if choice < self.balance.images else None
        return in_turn if drawn is None else self.balance.rare.draw_image(drawn, image_number)

    def _permutation(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(_generator_seed(self.seed, stream=0, number=epoch))
        return torch.randperm(self.samples, generator=generator)


class _Run(Dataset[Any]):
    """Sample of a position, transformed with that position's random numbers; or the error that says why not."""

    def __init__(self, dataset: Samples, transform: Transform, seed: int, balance: Balance | None = None) -> None:
        self.dataset, self.transform, self.seed = dataset, transform, seed
        self.balance = balance if balance is not None and balance.copy_paste else None

    def __getitems__(self, places: list[tuple[int, int]]) -> list[tuple[Tensor, Tensor, int] | ValueError]:
        """Read the samples of a batch, which are fetched together if they lie elsewhere."""
        if isinstance(self.dataset, SegmentationDataset):
            prefetch([self.dataset.pairs[index][0] for _, index in places])
        return [self[place] for place in places]

    def __getitem__(self, place: tuple[int, int]) -> tuple[Tensor, Tensor, int] | ValueError:
        position, index = place
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would also touch the generators of the GPUs.
            torch.default_generator.manual_seed(_generator_seed(self.seed, stream=1, number=position))
            try:
                sample = self.dataset[index]
                if self.balance is not None and torch.rand(()) < self.balance.copy_paste:
                    from semask.data.copy_paste import paste_objects  # needs torchvision, as images do

                    sample = paste_objects(*sample, self.dataset, self.balance.rare)
                image, label = self.transform(*sample)
            except ValueError as error:
                return ValueError(str(error))
        return image, label, index


def _collate(samples: list[tuple[Tensor, Tensor, int] | ValueError]) -> Batch | ValueError:
    good = []
    for sample in samples:
        if isinstance(sample, ValueError):
            return sample
        good.append(sample)
    images, labels, indices = zip(*good, strict=True)
    return Batch(torch.stack(images), torch.stack(labels).long(), indices)


class _Loader(DataLoader[Any]):
    """Raises the errors that workers hand over as values: raised there, they would arrive as a page of traceback."""

    def __iter__(self) -> Any:
        if self.num_workers:
            import_module("torchvision.tv_tensors")  # here, or every worker would import it on its own
        for batch in super().__iter__():
            if isinstance(batch, ValueError):
                raise batch
            yield batch._replace(indices=tuple(batch.indices))  # pinning memory makes tuples lists
