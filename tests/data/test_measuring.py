import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from semask.data.bands import Reading
from semask.data.classes import Classes
from semask.data.dataset import SegmentationDataset
from semask.data.measuring import measure

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def data_set(root: Path, images: list[np.ndarray], **profile: object) -> SegmentationDataset:
    pairs = []
    for number, samples in enumerate(images):
        count, height, width = samples.shape
        kind = {"driver": "GTiff", "dtype": samples.dtype, "count": count, "height": height, "width": width}
        with rasterio.open(root / f"{number}.tif", "w", **kind, **profile) as file:
            file.write(samples)
        pairs.append((root / f"{number}.tif", root / f"{number}.png"))
    dataset = SegmentationDataset(pairs, Classes(("one", "two")))
    dataset.reading = Reading(images[0].shape[0])
    return dataset


def test_range_mean_and_std_are_those_of_all_samples(tmp_path):
    images = [np.random.default_rng(i).normal(1000 * i, 50, (2, 40, 50)).astype(np.float32) for i in range(3)]
    for image in images:
        image[1] = image[1] * -2 + 7
        image[:, 0] = np.nan
    found = measure(data_set(tmp_path, images), value_range=True)
    every = np.concatenate([image[:, 1:].reshape(2, -1) for image in images], axis=1).astype(np.float64)
    assert np.allclose(found.value_range, np.percentile(every, (0.1, 99.9), axis=1).T)
    low, high = np.array(found.value_range).T[..., None]
    scaled = ((every - low) / (high - low)).clip(0, 1)
    assert np.allclose(found.mean, scaled.mean(1), atol=1e-5)
    assert np.allclose(found.std, scaled.std(1), atol=1e-5)


def test_it_is_the_same_every_time_and_outliers_do_not_matter(tmp_path):
    image = np.random.default_rng(0).integers(200, 300, (1, 300, 700)).astype(np.float32)
    image[0, ::97, ::89] = 1e30
    dataset = data_set(tmp_path, [image])
    assert measure(dataset, value_range=True) == measure(dataset, value_range=True)
    ((low, high),) = measure(dataset, value_range=True).value_range
    assert 199 < low < high < 301


def test_a_channel_that_is_the_same_everywhere_is_no_fault_and_one_without_data_is(tmp_path):
    found = measure(data_set(tmp_path, [np.full((1, 9, 9), 5, np.uint16)]), value_range=True)
    assert found == (((5.0, 6.0),), (0.0,), (1.0,))
    image = np.zeros((2, 9, 9), np.uint16)
    image[0] = 3
    with pytest.raises(ValueError, match="dataset: channel 2 has no data in any image"):
        measure(data_set(tmp_path, [image], nodata=0), value_range=True)


def test_memory_does_not_grow_with_the_images(tmp_path, monkeypatch):
    monkeypatch.setattr("semask.data.measuring.MOST_SAMPLES", 2**12)
    peaks = []
    for side in (200, 1600):
        (tmp_path / str(side)).mkdir()
        dataset = data_set(tmp_path / str(side), [np.ones((3, side, 300), np.uint16)], tiled=False)
        tracemalloc.start()
        measure(dataset, value_range=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]
