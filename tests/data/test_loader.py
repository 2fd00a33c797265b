import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from semask.data.classes import Classes
from semask.data.dataset import SegmentationDataset
from semask.data.loader import Batch, evaluation_loader, training_loader
from semask.data.normalization import Normalization
from semask.data.rare import Balance, RareClasses
from semask.data.transforms import Augmentation, training_transform

TRAIN = training_transform(Augmentation(scale=(96, 48), crop=(24, 32)), Normalization())


def unchanged(image, label):
    return image, label


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> SegmentationDataset:
    return make(tmp_path_factory.mktemp("set"), 7)


def make(root: Path, count: int) -> SegmentationDataset:
    rng = np.random.default_rng(0)
    pairs = []
    for index in range(count):
        size = (40 + index, 50)
        pairs.append((root / f"{index}.png", root / f"{index}_label.png"))
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(pairs[-1][0])
        Image.fromarray(rng.integers(0, 3, size, dtype=np.uint8)).save(pairs[-1][1])
    return SegmentationDataset(pairs, Classes(("a", "b", "c")))


def load(dataset: SegmentationDataset, *, steps: int, batch_size: int = 4, seed: int = 5, **settings) -> list[Batch]:
    settings = {"workers": 0} | settings
    return list(training_loader(dataset, TRAIN, seed=seed, batch_size=batch_size, steps=steps, **settings))


def same(left: Batch, right: Batch) -> bool:
    return (
        torch.equal(left.image, right.image) and torch.equal(left.label, right.label) and left.indices == right.indices
    )


def test_batch(dataset):
    batches = load(dataset, steps=3)
    assert len(batches) == 3
    assert batches[0].image.shape == (4, 3, 24, 32)
    assert batches[0].image.dtype == torch.float32
    assert batches[0].label.shape == (4, 24, 32)
    assert batches[0].label.dtype == torch.int64
    assert type(batches[0].image) is type(batches[0].label) is torch.Tensor


def test_every_epoch_shows_every_sample_once_in_another_order(dataset):
    shown = [index for batch in load(dataset, steps=7, batch_size=3) for index in batch.indices]
    epochs = [shown[:7], shown[7:14], shown[14:]]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert not torch.equal(*(load(dataset, steps=1, seed=seed)[0].image for seed in (5, 6)))


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")
@pytest.mark.parametrize(("workers", "context"), [(1, None), (4, None), (1, "spawn")])
def test_workers_change_nothing(dataset, workers, context):
    alone = load(dataset, steps=5)
    together = load(dataset, steps=5, workers=workers, multiprocessing_context=context)
    assert all(same(left, right) for left, right in zip(alone, together, strict=True))


def test_restart_changes_nothing(dataset):
    whole = load(dataset, steps=6)
    again = load(dataset, steps=2) + load(dataset, steps=4, first_step=2)
    assert all(same(left, right) for left, right in zip(whole, again, strict=True))


@pytest.mark.parametrize("world_size", [2, 4])
def test_ranks_change_nothing(dataset, world_size):
    whole = load(dataset, steps=4, batch_size=4)
    parts = [
        load(dataset, steps=4, batch_size=4 // world_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for step, batch in enumerate(whole):
        pieces = [part[step] for part in parts]
        joined = Batch(
            torch.cat([piece.image for piece in pieces]),
            torch.cat([piece.label for piece in pieces]),
            sum((piece.indices for piece in pieces), ()),
        )
        assert same(batch, joined)


def test_accumulated_batches_are_the_parts_of_a_large_one(dataset):
    large = load(dataset, steps=3, batch_size=4)[2]
    small = load(dataset, steps=2, batch_size=2, first_step=4)
    assert torch.equal(large.image, torch.cat([batch.image for batch in small]))


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_a_run_goes_on_with_another_batch_size(dataset, batch_size):
    whole = [image for batch in load(dataset, steps=21, batch_size=1) for image in batch.image]
    for world_size in (1, 2):
        parts = [
            load(dataset, steps=2, batch_size=batch_size, first_sample=5, rank=rank, world_size=world_size)
            for rank in range(world_size)
        ]
        images = [image for step in zip(*parts, strict=True) for batch in step for image in batch.image]
        assert all(torch.equal(*pair) for pair in zip(images, whole[5:], strict=False))
        assert len(images) == 2 * batch_size * world_size


def test_same_sample_is_augmented_anew_at_each_position(tmp_path):
    first, second = load(make(tmp_path, 1), steps=2, batch_size=1)
    assert not torch.equal(first.image, second.image)


def test_random_state_of_the_process_is_left_alone(dataset):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load(dataset, steps=2)
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(1)
    changed = load(dataset, steps=2)
    assert all(same(left, right) for left, right in zip(load(dataset, steps=2), changed, strict=True))


def test_number_of_threads_changes_nothing(dataset):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = load(dataset, steps=2)
        torch.set_num_threads(2)
        two = load(dataset, steps=2)
    finally:
        torch.set_num_threads(threads)
    assert all(same(left, right) for left, right in zip(one, two, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_error_of_a_worker_is_the_one_line_of_the_reader(tmp_path, workers):
    dataset = make(tmp_path, 3)
    dataset.pairs[1][0].write_bytes(b"")
    for loader in (
        training_loader(dataset, TRAIN, seed=0, batch_size=3, steps=1, workers=workers),
        evaluation_loader(dataset, unchanged, workers=workers),
    ):
        with pytest.raises(ValueError, match=r"1\.png: the file is empty") as error:
            list(loader)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("world_size", [1, 2, 3, 9])
def test_evaluation_shows_every_sample_once(dataset, world_size):
    shown = []
    for rank in range(world_size):
        for image, label, indices in evaluation_loader(dataset, unchanged, rank=rank, world_size=world_size, workers=0):
            height = 40 + indices[0]
            assert image.shape == (1, 3, height, 50)
            assert label.shape == (1, height, 50)
            assert label.dtype == torch.int64
            assert torch.equal(label[0], dataset[indices[0]][1].long())
            shown += indices
    assert sorted(shown) == list(range(7))


def test_length(dataset):
    assert len(training_loader(dataset, TRAIN, seed=0, batch_size=2, steps=9, workers=0)) == 9
    assert len(evaluation_loader(dataset, unchanged, rank=1, world_size=2)) == 3


def test_pieces_can_be_pickled(dataset):
    copy, transform = pickle.loads(pickle.dumps((dataset, TRAIN)))
    assert same(load(copy, steps=1)[0], load(dataset, steps=1)[0])
    assert transform(*copy[0])[0].shape == (3, 24, 32)


@pytest.mark.parametrize(
    "wrong",
    [
        {"seed": -1},
        {"batch_size": 0},
        {"steps": -1},
        {"first_step": -1},
        {"first_sample": -1},
        {"rank": 2, "world_size": 2},
        {"workers": -1},
    ],
)
def test_numbers_out_of_range(dataset, wrong):
    settings = {"seed": 0, "batch_size": 1, "steps": 1} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        training_loader(dataset, TRAIN, **settings)


@pytest.fixture(scope="module")
def rare(tmp_path_factory) -> SegmentationDataset:
    """Nine images, of which one has a few pixels of class 2."""
    dataset = make(tmp_path_factory.mktemp("rare"), 9)
    for number, (_, path) in enumerate(dataset.pairs):
        label = np.array(Image.open(path)) % 2
        label[10:13, 20:22] = 2 if number == 5 else 0
        Image.fromarray(label).save(path)
    return dataset


def balance_of(dataset: SegmentationDataset, **settings) -> Balance:
    pixels = dataset.check(level="labels").pixels_of_each
    return Balance(RareClasses.of(pixels, temperature=0.01), **settings)


def test_images_are_drawn_by_class(rare):
    def shown(**settings) -> list[int]:
        batches = load(rare, steps=18, balance=balance_of(rare, **settings))
        return [index for batch in batches for index in batch.indices]

    in_turn, half, always = shown(), shown(images=0.5), shown(images=1.0)
    assert always == [5] * 72
    assert in_turn.count(5) == 8
    assert 8 + 18 < half.count(5) < 8 + 46
    # the others still come when it is their turn
    assert all(a == b for a, b in zip(half, in_turn, strict=True) if a != 5)


def test_objects_are_pasted(rare):
    def share(**settings) -> float:
        batches = load(rare, steps=10, balance=balance_of(rare, **settings))
        return np.mean([bool((label == 2).any()) for batch in batches for label in batch.label])

    assert share() < 0.05
    assert share(copy_paste=1.0) > share(copy_paste=0.4) > 0.1


@pytest.mark.parametrize(
    "settings", [{"images": 0.5}, {"copy_paste": 0.5}, {"images": 0.4, "copy_paste": 0.3}], ids=str
)
def test_balance_depends_on_the_position_alone(rare, settings):
    balance = balance_of(rare, **settings)
    whole = load(rare, steps=6, balance=balance)
    assert not all(same(*pair) for pair in zip(whole, load(rare, steps=6), strict=True))
    stopped = load(rare, steps=2, balance=balance) + load(rare, steps=4, first_step=2, balance=balance)
    workers = load(rare, steps=6, balance=balance, workers=1)
    parts = [load(rare, steps=6, batch_size=2, rank=i, world_size=2, balance=balance) for i in range(2)]
    ranks = [
        Batch(torch.cat((a.image, b.image)), torch.cat((a.label, b.label)), a.indices + b.indices)
        for a, b in zip(*parts, strict=True)
    ]
    for other in (stopped, workers, ranks):
        assert all(same(left, right) for left, right in zip(whole, other, strict=True))


def test_a_balance_that_is_off_changes_nothing(dataset):
    off = load(dataset, steps=3, balance=balance_of(dataset))
    assert all(same(left, right) for left, right in zip(load(dataset, steps=3), off, strict=True))
