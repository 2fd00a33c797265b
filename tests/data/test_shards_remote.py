"""Packs at a URL, over a network that fails: nothing is lost, doubled or changed, and every fault ends."""

import json
import logging
import multiprocessing
import pickle
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from faulty_server import FAULTS, Answer, FaultyServer, folder, forwarding, in_turn, serving

from semask.data.loader import evaluation_loader, training_loader
from semask.data.normalization import Normalization
from semask.data.packing import pack
from semask.data.source import Data
from semask.data.transforms import Augmentation, training_transform
from semask.evaluation.evaluate import unchanged
from semask.files import ranges

pytest.importorskip("aiohttp")
fsspec = pytest.importorskip("fsspec")

TRANSFORM = training_transform(Augmentation(scale=None, crop=(32, 32)), Normalization((0.5,) * 3, (0.5,) * 3))


@pytest.fixture(scope="module")
def packed(scenes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("remote") / "pack"
    pack(Data(str(scenes)), out)
    return out


@pytest.fixture(autouse=True)
def impatient(monkeypatch) -> None:
    monkeypatch.setattr(ranges, "PATIENCE", 1.5)
    monkeypatch.setattr(ranges, "WAITS", (0.01,) * 12)


@pytest.fixture
def http(packed) -> Iterator[FaultyServer]:
    with serving(folder(packed.parent)) as server:
        yield server


@pytest.fixture(scope="module")
def moto() -> Iterator[tuple[str, int]]:
    """An S3 server."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def s3(moto, packed, monkeypatch) -> Iterator[FaultyServer]:
    """A bucket "scenes" with the pack, behind a network that fails; credentials are in the environment."""
    import boto3

    with serving(forwarding(*moto)) as server:
        for name, value in (
            ("AWS_ENDPOINT_URL", server.url),
            ("AWS_ACCESS_KEY_ID", "of-the-environment"),
            ("AWS_SECRET_ACCESS_KEY", "very-secret"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ):
            monkeypatch.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="scenes")
        for path in packed.iterdir():
            client.upload_file(str(path), "scenes", f"deep/pack/{path.name}")
        server.asked.clear()
        server.done.clear()
        yield server


@pytest.fixture
def gs(packed, monkeypatch) -> Iterator[FaultyServer]:
    """What the JSON API of Google Cloud Storage answers to a download."""
    pytest.importorskip("gcsfs")
    files = folder(packed)

    def answer(method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        found = re.fullmatch(r"/download/storage/v1/b/scenes/o/deep%2Fpack%2F([^/?]+)\?alt=media", path)
        return files(method, f"/{found[1]}", headers, body) if found else Answer(404, {}, b"{}")

    with serving(answer) as server:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
        fsspec.config.set_conf_env(fsspec.config.conf)
        yield server
        fsspec.config.conf.pop("gs", None)


URLS = {"http": "{}/pack", "s3": "s3://scenes/deep/pack", "gs": "gs://scenes/deep/pack"}


@pytest.fixture(params=URLS)
def remote(request) -> tuple[FaultyServer, str]:
    """A server and the URL of the pack there."""
    server: FaultyServer = request.getfixturevalue(request.param)
    return server, URLS[request.param].format(server.url)


def shards(url: str, **settings: object) -> Data:
    return Data(url, format="shards", **settings)  # type: ignore[arg-type]


def batches(data: Data, *, workers: int, steps: int = 6) -> list[tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]]:
    loader = training_loader(data.dataset("train"), TRANSFORM, seed=3, batch_size=3, steps=steps, workers=workers)
    return [tuple(batch) for batch in loader]


def assert_equal(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for (image, label, indices), (other_image, other_label, other_indices) in zip(ours, theirs, strict=True):
        assert torch.equal(image, other_image)
        assert torch.equal(label, other_label)
        assert indices == other_indices


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_equal_those_of_the_folder_whatever_fails(remote, scenes, workers):
    server, url = remote
    expected = batches(Data(str(scenes)), workers=0)
    assert_equal(batches(shards(url), workers=workers), expected)
    server.plan = in_turn(*(x for fault in FAULTS for x in (fault, None, None)))
    assert_equal(batches(shards(url), workers=workers), expected)
    assert all(server.done[fault] for fault in FAULTS), server.done


def test_evaluation_reads_each_sample_once(remote, scenes):
    server, url = remote
    dataset = shards(url).dataset("val")
    assert not any(path.endswith(".tar") for path, _ in server.asked)
    seen = [batch.indices for batch in evaluation_loader(dataset, unchanged, workers=0)]
    assert seen == [(index,) for index in range(len(dataset))]
    tars = {place: count for place, count in server.asked.items() if place[0].endswith(".tar")}
    assert len(tars) == len(dataset)  # image and label of a sample together
    assert set(tars.values()) == {1}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_never_gets_well_ends_in_one_line(http, fault, monkeypatch):
    monkeypatch.setattr(ranges, "PATIENCE", 0.3)
    monkeypatch.setattr(ranges, "WAITS", (0.01, 0.01))
    monkeypatch.setattr("faulty_server.SLOW", 1.0)
    dataset = shards(f"{http.url}/pack").dataset("train")
    http.plan = in_turn(fault)
    start = time.monotonic()
    with pytest.raises(
        ValueError, match=r"^http://127\.0\.0\.1:\d+/pack/train-000000\.tar: cannot be read, tried 3 times"
    ):
        dataset[0]
    assert time.monotonic() - start < 10


def test_what_another_attempt_would_not_change(http, packed):
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:\d+/nothing/index\.json: no such file: give the folder"):
        shards(f"{http.url}/nothing").dataset("train")
    assert sum(http.asked.values()) == 1
    dataset = shards(f"{http.url}/pack").dataset("train")
    http.asked.clear()
    http.ranges = False
    with pytest.raises(ValueError, match=r"the server sends whole files only: use one that serves ranges of bytes"):
        dataset[1]
    assert sum(http.asked.values()) == 1
    http.ranges = True
    (packed / "train.csv").rename(packed / "hidden.csv")
    try:
        with pytest.raises(ValueError, match=r"pack/train\.csv: no such file"):
            shards(f"{http.url}/pack").dataset("train")
    finally:
        (packed / "hidden.csv").rename(packed / "train.csv")


def test_nobody_answers():
    with pytest.raises(ValueError, match=r"^http://127\.0\.0\.1:9/pack/index\.json: cannot be read, tried 13 times"):
        shards("http://127.0.0.1:9/pack").dataset("train")


def test_a_server_without_end_is_not_read_to_its_end(http):
    http.endless = True
    with pytest.raises(ValueError, match=r"index\.json: .*: got 16,777,218 of 16,777,217 bytes"):
        shards(f"{http.url}/pack").dataset("train")


def test_the_cache_is_asked_first(remote, scenes, tmp_path):
    server, url = remote
    data = shards(url, cache=str(tmp_path / "cache"))
    expected = batches(Data(str(scenes)), workers=0)
    assert_equal(batches(data, workers=2), expected)
    server.asked.clear()
    assert_equal(batches(data, workers=2), expected)
    assert not any(path.endswith(".tar") for path, _ in server.asked)
    for path in (tmp_path / "cache").glob("??/*"):
        path.write_bytes(path.read_bytes()[:-1])
    assert_equal(batches(data, workers=0), expected)
    assert any(path.endswith(".tar") for path, _ in server.asked)


def test_no_credentials_in_what_is_written(s3, semask, recipe, tmp_path):
    out = tmp_path / "run"
    s3.plan = in_turn("error", None, "reset", None, None)
    settings = {"data.root": "s3://scenes/deep/pack", "data.format": "shards", "data.workers": 2}
    shown = semask(*recipe(out, steps=5, **settings))
    for path in out.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert b"very-secret" not in content
            assert b"of-the-environment" not in content
    said = "".join(shown)
    assert "very-secret" not in said
    assert "of-the-environment" not in said
    assert "give --data with that URL" in semask.refused("evaluate", out)  # what a checkpoint names is not fetched
    semask("evaluate", out, "--data", "s3://scenes/deep/pack")


def test_a_bucket_that_is_not_ours(s3, monkeypatch):
    with pytest.raises(ValueError, match=r"s3://other/pack/index\.json: no such file"):
        shards("s3://other/pack").dataset("train")
    answer = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
    s3.source = lambda *_: Answer(403, {"Content-Type": "application/xml"}, answer)
    with pytest.raises(ValueError, match=r"s3://scenes/deep/pack/index\.json: access denied"):
        shards("s3://scenes/deep/pack").dataset("train")


def test_a_bucket_of_google_that_is_not_ours(gs):
    with pytest.raises(ValueError, match=r"gs://other/pack/index\.json: no such file"):
        shards("gs://other/pack").dataset("train")
    for status in (401, 403):
        gs.source = lambda *_: Answer(status, {}, b'{"error": {"code": 403, "message": "no"}}')  # noqa: B023
        with pytest.raises(ValueError, match=r"gs://scenes/deep/pack/index\.json: access denied"):
            shards("gs://scenes/deep/pack").dataset("train")


def _in_process(dataset, queue) -> None:
    queue.put([dataset.label(n).sum().item() for n in range(len(dataset))])


def test_processes_have_connections_of_their_own(remote):
    _, url = remote
    dataset = shards(url).dataset("train")
    expected = [dataset.label(n).sum().item() for n in range(len(dataset))]
    copy = pickle.loads(pickle.dumps(dataset))  # as processes get it that are not forked
    assert [copy.label(n).sum().item() for n in range(len(copy))] == expected
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_in_process, args=(dataset, queue))
    process.start()
    assert queue.get(timeout=120) == expected
    assert [dataset.label(n).sum().item() for n in range(len(dataset))] == expected
    process.join(30)
    assert process.exitcode == 0


def test_a_recipe_is_planned_for_a_url(http, semask, tmp_path):
    shown = semask("train", f"{http.url}/pack", "--dry_run", "--training.cpu")
    assert "format: shards" in shown.out
    assert json.dumps(f"{http.url}/pack").strip('"') in shown.out
