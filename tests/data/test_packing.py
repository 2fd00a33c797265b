"""What `semask data pack` writes, and that reading it equals reading the folder."""

import csv
import hashlib
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset
from disks import full_disk
from PIL import Image
from safetensors.torch import load_file

from semask.data import diagnostics
from semask.data.catalog import recognize
from semask.data.loader import training_loader
from semask.data.normalization import Normalization
from semask.data.packing import pack
from semask.data.shards import prefetch
from semask.data.source import Data, sample_names
from semask.data.transforms import Augmentation, training_transform
from semask.evaluation.image_counts import read_counts

SPLITS = ("train", "val")


@pytest.fixture(scope="module")
def packed(scenes, tmp_path_factory) -> Path:
    """A pack of the scenes in shards of a megabyte; only to be read."""
    out = tmp_path_factory.mktemp("packed") / "pack"
    pack(Data(str(scenes)), out)
    return out


def write_scenes(root: Path, images: dict[str, Image.Image], masks: dict[str, Image.Image], classes: list[str]) -> Path:
    for name, image in images.items():
        for split in SPLITS:
            for kind, picture, ending in (("images", image, ""), ("annotations", masks[name], ".png")):
                path = root / kind / split / f"{name if not ending else Path(name).stem}{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture.save(path, exif=image.getexif()) if kind == "images" else picture.save(path)
    (root / "classes.json").write_text(json.dumps({"classes": classes}))
    return root


@pytest.mark.parametrize("split", SPLITS)
def test_samples_equal_those_of_the_folder(scenes, packed, split):
    assert recognize(packed).format == "shards"
    ours, theirs = Data(str(packed), format="shards").dataset(split), Data(str(scenes)).dataset(split)
    assert ours.classes == theirs.classes
    assert ours.name == theirs.name
    assert sample_names(ours, packed) == sample_names(theirs, scenes)
    for (image, label), (image_of_file, label_of_file) in zip(ours, theirs, strict=True):
        assert torch.equal(image, image_of_file)
        assert torch.equal(label, label_of_file)
    assert np.array_equal(ours.check().pixels, theirs.check().pixels)


def test_turned_images_and_files_of_many_kinds(tmp_path):
    generator = np.random.default_rng(0)
    photo = Image.fromarray(generator.integers(0, 255, (20, 30, 3), np.uint8))
    turned = photo.copy()
    turned.getexif()[0x0112] = 6
    deep = Image.fromarray(generator.integers(0, 65_535, (20, 30)).astype(np.uint16))
    images = {"a.jpg": turned, "b.png": photo.convert("P"), "c.tif": deep, "d.bmp": photo, "e.webp": photo}
    mask = Image.fromarray(generator.choice(np.array([0, 1, 2, 255], np.uint8), (20, 30)))
    masks = dict.fromkeys(images, mask) | {"a.jpg": mask.transpose(Image.Transpose.ROTATE_270)}
    root = write_scenes(tmp_path / "scenes", images, masks, ["road", "tree", "sky"])
    pack(Data(str(root)), tmp_path / "pack")
    ours, theirs = Data(str(tmp_path / "pack"), format="shards").dataset("train"), Data(str(root)).dataset("train")
    for index in range(len(images)):
        assert all(torch.equal(x, y) for x, y in zip(ours[index], theirs[index], strict=True))
        assert ours.reach(index) == theirs.reach(index)
    with tarfile.open(tmp_path / "pack/train-000000.tar") as tar:
        names = [
            f"00000000{n}.{end}"
            for n, kind in enumerate(("jpg", "png", "tif", "bmp", "webp"))
            for end in (kind, "label.png")
        ]
        assert tar.getnames() == names


def test_labels_are_packed_as_a_recipe_reads_them(scenes, tmp_path):
    data = Data(str(scenes), classes={"ground": [1, 2, 3], "ignore": [0], "rest": ["*"]})
    pack(data, tmp_path / "pack", splits=("val",))
    ours, theirs = Data(str(tmp_path / "pack"), format="shards").dataset("val"), data.dataset("val")
    assert ours.classes == theirs.classes
    assert all(torch.equal(ours.label(n), theirs.label(n)) for n in range(len(theirs)))
    again = Data(str(tmp_path / "pack"), format="shards", classes={"all": ["ground"], "other": ["rest"]}).dataset("val")
    assert torch.equal(again.label(0), theirs.label(0))
    with pytest.raises(ValueError, match=r"pack: no split train; it has val"):
        Data(str(tmp_path / "pack"), format="shards").dataset("train")


def test_webdataset_reads_the_tar_files(scenes, tmp_path):
    pack(Data(str(scenes)), tmp_path / "pack", shard_mib=1)
    dataset = Data(str(scenes)).dataset("train")
    urls = sorted(str(path) for path in (tmp_path / "pack").glob("train-*.tar"))
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("pil"))
    labels = list(webdataset.WebDataset(urls, shardshuffle=False).decode("l8").to_tuple("label.png"))
    assert [sample["__key__"] for sample in samples] == [f"{n:09}" for n in range(len(dataset))]
    for (image, label), sample, (decoded,) in zip(dataset, samples, labels, strict=True):
        assert np.array_equal(np.asarray(sample["jpg"]).transpose(2, 0, 1), image.numpy())
        assert np.array_equal(decoded, label.numpy())


def test_shards_of_a_size_and_the_same_bytes_each_time(tmp_path):
    generator = np.random.default_rng(0)
    noise = {f"{n}.png": Image.fromarray(generator.integers(0, 255, (400, 400, 3), np.uint8)) for n in range(6)}
    mask = Image.fromarray(generator.integers(0, 2, (400, 400)).astype(np.uint8))
    root = write_scenes(tmp_path / "scenes", noise, dict.fromkeys(noise, mask), ["a", "b"])
    for out in ("one", "two"):
        packed = pack(Data(str(root)), tmp_path / out, shard_mib=1)
    assert packed.samples == {"train": 6, "val": 6}
    assert packed.shards == 4
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)
    index = json.loads((tmp_path / "one/index.json").read_text())
    for shard in index["splits"]["train"]["shards"]:
        content = (tmp_path / "one" / shard["file"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard["bytes"], shard["sha256"])
    ours, theirs = Data(str(tmp_path / "one"), format="shards").dataset("train"), Data(str(root)).dataset("train")
    assert all(torch.equal(ours.image(n), theirs.image(n)) for n in range(6))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_equal_those_of_the_folder(scenes, packed, tmp_path, workers):
    transform = training_transform(Augmentation(scale=None, crop=(32, 32)), Normalization((0.5,) * 3, (0.5,) * 3))

    def batches(data: Data, workers: int) -> list[tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]]:
        loader = training_loader(
            data.dataset("train"), transform, seed=3, batch_size=2, steps=6, rank=1, world_size=2, workers=workers
        )
        return [(batch.image, batch.label, batch.indices) for batch in loader]

    cached = Data(str(packed), format="shards", cache=str(tmp_path / "cache"), cache_gib=0.001)
    expected = batches(Data(str(scenes)), 0)
    for data in (Data(str(packed), format="shards"), cached, cached):
        for ours, theirs in zip(batches(data, workers), expected, strict=True):
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1], theirs[1])
            assert ours[2] == theirs[2]


def test_another_process_and_diagnostics(packed):
    dataset = Data(str(packed), format="shards").dataset("train")
    prefetch(image for image, _ in dataset.pairs)
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 20_000  # nothing that was fetched
    assert torch.equal(copy.image(2), dataset.image(2))
    assert "6 of the 6 validation images are also trained on" in (diagnostics.shared_line(dataset, dataset) or "")
    assert diagnostics.shared_line(dataset, Data(str(packed), format="shards").dataset("val")) is None


def test_what_is_there_stays(scenes, tmp_path):
    (tmp_path / "pack").mkdir()
    with pytest.raises(ValueError, match="already exists: give a folder that does not"):
        pack(Data(str(scenes)), tmp_path / "pack")
    with pytest.raises(ValueError, match="could not be written"), full_disk(8192):
        pack(Data(str(scenes)), tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["pack"]


def test_rows_of_parquet_are_packed(tmp_path):
    root = Path(__file__).parent / "formats/samples/huggingface/hub"
    data = Data(str(root), format="huggingface")
    pack(data, tmp_path / "pack")
    for split in SPLITS:
        ours, theirs = Data(str(tmp_path / "pack"), format="shards").dataset(split), data.dataset(split)
        assert sample_names(ours, tmp_path / "pack") == sample_names(theirs, root)
        for index in range(len(theirs)):
            assert all(torch.equal(x, y) for x, y in zip(ours[index], theirs[index], strict=True))


def test_bands_are_refused(scenes, tmp_path):
    with pytest.raises(ValueError, match=r"photos of 1, 3 or 4 channels are packed, not bands"):
        pack(Data(str(scenes), channels=2, bands=(1, 2)), tmp_path / "pack")


def test_a_training_and_an_evaluation_equal_those_from_the_folder(semask, recipe, scenes, packed, tmp_path):
    shards = {"data.root": packed, "data.format": "shards", "data.cache": tmp_path / "cache"}
    runs = {"folder": {}, "shards": shards | {"data.workers": 2}}
    for name, settings in runs.items():
        semask(*recipe(tmp_path / name, steps=5, **settings))
        given = [] if name == "folder" else ["--data", packed, "--format", "shards"]
        semask("evaluate", tmp_path / "folder", *given, "--images", tmp_path / f"{name}.npz")
    losses = [(tmp_path / name / "log.csv").read_text() for name in runs]
    columns = [[row["loss"] for row in csv.DictReader(text.splitlines())] for text in losses]
    assert len(columns[0]) == 5
    assert columns[0] == columns[1]
    ours, theirs = (load_file(tmp_path / name / "last.safetensors") for name in runs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    counts = [read_counts(tmp_path / f"{name}.npz") for name in runs]
    assert counts[0].names == counts[1].names
    assert np.array_equal(counts[0].confusion, counts[1].confusion)


def test_the_command(semask, scenes, tmp_path):
    shown = semask("data", "pack", scenes, tmp_path / "pack")
    assert "6 of train and 3 of val in 2 tar files" in shown.out
    assert "already exists" in semask.refused("data", "pack", scenes, tmp_path / "pack")
    assert "no such folder" in semask.refused("data", "pack", tmp_path / "nowhere", tmp_path / "x")
    assert "give one of pack" in semask.refused("data", "unpack", scenes, tmp_path / "x")
