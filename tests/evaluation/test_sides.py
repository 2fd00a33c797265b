"""Sides of a comparison: files, folders and lists; what does not fit together is one line."""

import numpy as np
import pytest

from semask.evaluation.image_counts import ImageCounts
from semask.evaluation.sides import Side, has_sizes, matched, side_of, size_names

K = 3


def counts(names="abcd", *, classes=("x", "y", "z"), seed=0, labels=0, sizes=None, **report) -> ImageCounts:
    """Counts of some images; the labels of an image depend on its name only."""
    random, cells = np.random.default_rng(seed), []
    for index, name in enumerate(names):
        labeled = np.random.default_rng([labels, ord(name)]).integers(1, 50, K)
        for k in range(K):
            hit = int(random.integers(0, labeled[k] + 1))
            cells += [[index, 0, k * K + k, hit], [index, 0, k * K + (k + 1) % K, int(labeled[k]) - hit]]
    details = {} if sizes is None else {"sizes": sizes}
    return ImageCounts(tuple(names), classes, np.array(cells), 1, details, report)


def refused(source):
    raise AssertionError(source)


def test_files_folders_and_lists(tmp_path):
    (tmp_path / "seeds").mkdir()
    for seed in range(3):
        counts(seed=seed).save(tmp_path / "seeds" / f"{seed}.npz")
    folder = side_of(tmp_path / "seeds", 1, refused)
    assert (folder.name, len(folder.seeds)) == (str(tmp_path / "seeds"), 3)
    assert (folder.areas()[2] == counts(seed=2).areas()).all()
    file = side_of(str(tmp_path / "seeds" / "1.npz"), 1, refused)
    assert (file.areas() == folder.areas()[1:2]).all()
    several = side_of([tmp_path / "seeds" / "1.npz", counts(seed=2)], 2, refused)
    assert several.name == f"{tmp_path / 'seeds' / '1.npz'} and 1 more"
    assert (several.areas() == folder.areas()[1:]).all()
    assert side_of(counts(), 4, refused).name == "side 4"


def test_everything_else_is_evaluated(tmp_path):
    asked = []

    def evaluate(source):
        asked.append(source)
        return counts()

    assert len(side_of("runs/mine", 1, evaluate).seeds) == 1
    assert len(side_of([str(tmp_path), "owner/name"], 1, evaluate).seeds) == 2
    assert asked == ["runs/mine", str(tmp_path), "owner/name"]


@pytest.mark.parametrize("source", [[], None, 5, {"a": 1}])
def test_what_is_no_side(source):
    with pytest.raises(ValueError, match=r"side 2 is .*: give a file, a folder or a list"):
        side_of(source, 2, refused)


def test_too_many_seeds(tmp_path):
    for number in range(101):
        (tmp_path / f"{number}.npz").touch()
    with pytest.raises(ValueError, match="101 seeds, more than 100: give fewer"):
        side_of(tmp_path, 1, refused)
    with pytest.raises(ValueError, match="side 1: 101 seeds"):
        side_of([counts()] * 101, 1, refused)


def test_files_that_are_too_large_together(tmp_path, monkeypatch):
    for seed in range(3):
        counts(seed=seed).save(tmp_path / f"{seed}.npz")
    monkeypatch.setattr("semask.evaluation.sides.MOST_BYTES", 2 * counts().confusion.nbytes)
    with pytest.raises(ValueError, match=r"its files are larger than .* bytes together: give fewer"):
        side_of(tmp_path, 1, refused)


def two(one: ImageCounts, other: ImageCounts) -> list[Side]:
    return [Side("A", (one,)), Side("B", (other,))]


def test_images_are_put_into_one_order():
    found = matched(two(counts("abcd"), counts("cbda", seed=1)))
    assert found[1].seeds[0].names == tuple("abcd")
    assert (found[1].areas()[0] == counts("cbda", seed=1).areas()[[3, 1, 0, 2]]).all()


def test_other_images():
    with pytest.raises(
        ValueError, match=r"other images: 1 only in A \(e.g. a\), 2 only in B \(e.g. e\): .* give --common"
    ):
        matched(two(counts("abcd"), counts("bcdef")))
    found = matched(two(counts("abcd"), counts("fedcb", seed=1)), common=True)
    assert [side.seeds[0].names for side in found] == [tuple("bcd")] * 2
    assert (found[1].areas()[0] == counts("fedcb", seed=1).areas()[[4, 3, 2]]).all()
    with pytest.raises(ValueError, match="no image in common"):
        matched(two(counts("ab"), counts("cd")), common=True)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("x", "q", "z"), "class 1 is y in A, but q in B: compare models with the same classes in the same order"),
        (("x", "y", "z", "w"), "A has 3 classes, B 4: compare models"),
        (("x\n\x1b[31m", "y", "z"), r"class 0 is x in A, but x \?\[31m in B"),
    ],
)
def test_other_classes(classes, message):
    with pytest.raises(ValueError, match=message):
        matched(two(counts(), counts(classes=classes)))


def test_other_labels():
    with pytest.raises(ValueError, match=r"A and B have other labels in 4 images, e\.g\. a"):
        matched(two(counts(), counts(labels=1)))


def test_a_seed_that_contradicts_the_others():
    with pytest.raises(ValueError, match="A and B have other labels"):
        matched([Side("A", (counts(),)), Side("B", (counts(), counts(labels=1)))])


def test_too_large_together(monkeypatch):
    monkeypatch.setattr("semask.evaluation.sides.MOST_NUMBERS", 71)
    with pytest.raises(ValueError, match="2 times 4 images with 3 classes are too many to compare: 72 numbers"):
        matched(two(counts(), counts()))


def test_sums_that_would_overflow():
    large = counts()
    large.confusion[:, 3] = 2**48 - 1
    with pytest.raises(ValueError, match="A: more pixels than images can have"):
        matched(two(large, large))


def by_size(values=2, **report) -> ImageCounts:
    return counts(sizes=np.full((4, values, K, 3), 5), **report)


def test_counts_by_object_size():
    sizes = np.zeros((4, 2, K, 3), np.int64)
    sizes[:, 0] = [3, 1, 2]  # hit, missed, wrong
    sizes[:, 1, :, 2] = 4  # predicted, never labeled
    side = Side("A", (counts(sizes=sizes),))
    assert has_sizes([side])
    assert (side.sizes()[0, :, 0] == [3, 4, 5]).all()
    assert (side.sizes()[0, :, 1] == 0).all()
    assert not has_sizes([side, Side("B", (counts(),))])


@pytest.mark.parametrize(
    "sizes",
    [
        np.zeros((4, 2, K)),
        np.zeros((4, 2, K, 2), np.int64),
        np.zeros((4, 2, K + 1, 3), np.int64),
        np.zeros((4, 0, K, 3), np.int64),
        np.zeros((4, 17, K, 3), np.int64),
        np.zeros((4, 2, K, 3)),
        np.full((4, 2, K, 3), -1),
        np.full((4, 2, K, 3), 2**62),
    ],
)
def test_damaged_counts_by_object_size(sizes):
    with pytest.raises(ValueError, match=r"A: its counts by object size are damaged .*: evaluate it again"):
        has_sizes([Side("A", (counts(sizes=sizes),)), Side("B", (by_size(),))])


@pytest.mark.parametrize(
    "other",
    [by_size(3), by_size(details={"settings": {"sizes": [5]}}), by_size(details={"settings": {"sizes": [6, 7]}})],
)
def test_other_object_sizes(other):
    one = by_size(details={"settings": {"sizes": [6]}})
    with pytest.raises(ValueError, match="A and B count by other object sizes: evaluate both alike"):
        has_sizes(two(one, other))
    assert has_sizes(two(one, one))


@pytest.mark.parametrize(
    ("details", "names"),
    [
        ({"sizes": [{"name": "small"}, {"name": "large"}]}, ["small", "large"]),
        ({"sizes": [{}, {"name": 5}]}, ["1", "5"]),
        ({"sizes": [{"name": "small"}]}, ["1", "2"]),
        ({"sizes": "small"}, ["1", "2"]),
        ([], ["1", "2"]),
    ],
)
def test_names_of_object_sizes(details, names):
    assert size_names(Side("A", (by_size(details=details),))) == names
