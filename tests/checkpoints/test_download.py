import contextlib
import os
import re
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import pytest
from huggingface_hub import constants

import semask
from semask.checkpoints import download as module
from semask.checkpoints.download import arrived, fetch, published_checkpoint
from semask.checkpoints.published import PUBLISHED, Published

NAME = "semask-tiny-fpn-ade20k"
PAGE = b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>"


@dataclass(frozen=True)
class Served(Published):
    """A published model whose file lies elsewhere."""

    address: str = ""

    @property
    def url(self) -> str:
        return self.address


class Handler(BaseHTTPRequestHandler):
    """Serves one file, in the way that the path names."""

    server: "Server"

    def do_GET(self) -> None:
        self.server.requests.append(self.headers.get("Range"))
        way, content = self.path.strip("/"), self.server.content
        if way == "missing":
            return self.send_error(404)
        if way == "page":
            return self.answer(PAGE)
        start = 0
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if match and way != "rangeless":
            start = int(match[1])
            if start >= len(content):
                return self.send_error(416)
        stop = len(content)
        if (way == "broken" and len(self.server.requests) == 1) or way == "hanging":
            stop = len(content) * 3 // 4
        self.answer(content[start:stop], start=start, announced=len(content) - start)
        if way == "hanging":
            self.server.released.wait(30)
        return None

    def answer(self, body: bytes, *, start: int = 0, announced: int | None = None) -> None:
        announced = len(body) if announced is None else announced
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(announced))
        self.send_header("ETag", '"1"')
        if start:
            self.send_header("Content-Range", f"bytes {start}-{start + announced - 1}/{start + announced}")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)
            self.wfile.flush()

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """The Range header of each request, None without one, is in `requests`."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.requests, self.released = content, [], threading.Event()

    def published(self, way: str = "whole") -> Served:
        return Served(**vars(PUBLISHED[NAME]), address=f"http://127.0.0.1:{self.server_address[1]}/{way}")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of 3 MB in the form of torch's archives."""
    path = tmp_path_factory.mktemp("archive") / "weights.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data/0", os.urandom(3_000_000))
    return path.read_bytes()


@pytest.fixture
def server(archive: bytes) -> Iterator[Server]:
    with Server(archive) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.released.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    path = tmp_path / "semask" / "published" / "default"
    path.mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path))
    monkeypatch.setattr(module, "RETRIES", 0)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return path


def refused(published: Published) -> str:
    with pytest.raises(ValueError, match="not downloaded") as caught:
        fetch(published)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{NAME}: not downloaded (")
    assert published.page in message
    assert f"semask convert FILE --published {NAME} --out {NAME}.safetensors" in message
    return message


def visible(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_downloads_once(server, folder, archive):
    assert fetch(server.published()) == folder / f"{NAME}.pth"
    assert (folder / f"{NAME}.pth").read_bytes() == archive
    assert fetch(server.published()) == folder / f"{NAME}.pth"
    assert server.requests == [None]
    assert visible(folder) == {f"{NAME}.pth"}


def assert_continued(server: Server) -> None:
    *before, last = server.requests
    assert before[0] is None
    assert re.fullmatch(r"bytes=[1-9]\d+-", last)


def test_a_broken_connection_is_made_again(server, folder, archive, monkeypatch):
    monkeypatch.setattr(module, "RETRIES", 1)
    assert fetch(server.published("broken")).read_bytes() == archive
    assert_continued(server)


def test_the_next_call_goes_on_from_a_broken_download(server, folder, archive):
    assert "incomplete" in refused(server.published("broken"))
    assert not (folder / f"{NAME}.pth").exists()
    assert fetch(server.published("broken")).read_bytes() == archive
    assert_continued(server)
    assert visible(folder) == {f"{NAME}.pth"}


@pytest.mark.parametrize("way", ["whole", "rangeless"])
def test_a_download_that_cannot_be_continued_is_begun_again(server, folder, archive, way):
    part = folder / f"{NAME}.arriving12345678.part"
    part.write_bytes(archive if way == "whole" else archive[:1000])  # killed after the last byte, or no ranges
    assert fetch(server.published(way)).read_bytes() == archive
    assert visible(folder) == {f"{NAME}.pth"}


def test_a_page_is_not_taken_for_weights(server, folder):
    assert "what came is no weight file" in refused(server.published("page"))
    assert visible(folder) == set()


def test_half_an_archive_is_not_taken_for_a_whole_one(server, folder, archive):
    server.content = archive[: len(archive) // 2]
    assert "what came is no weight file" in refused(server.published())
    assert visible(folder) == set()


def test_a_pickle_is_taken(server):
    server.content = b"\x80\x04N."
    assert fetch(server.published()).read_bytes() == server.content


def test_not_there(server, folder):
    assert "404" in refused(server.published("missing"))
    assert visible(folder) == set()


def test_no_network(server, folder):
    start = time.monotonic()
    message = refused(replace(server.published(), address="http://127.0.0.1:1/x"))
    assert "127.0.0.1 can't be reached: [Errno 111] Connection refused" in message
    assert time.monotonic() - start < 5  # and not three times after pauses
    assert visible(folder) == set()


def test_offline(server, folder, archive, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE is set" in refused(server.published())
    assert server.requests == []
    (folder / f"{NAME}.pth").write_bytes(archive)
    assert fetch(server.published()) == folder / f"{NAME}.pth"


def test_a_killed_download_is_continued(server, folder, archive):
    child = get_context("fork").Process(target=fetch, args=(server.published("hanging"),))
    child.start()
    while child.is_alive() and not any(arrived(folder / f"{NAME}.arriving").values()):
        time.sleep(0.01)
    child.kill()
    child.join()
    assert not (folder / f"{NAME}.pth").exists()
    assert fetch(server.published()).read_bytes() == archive
    assert_continued(server)
    assert visible(folder) == {f"{NAME}.pth"}


def test_two_at_a_time_download_once(server, folder, archive):
    with ThreadPoolExecutor(2) as threads:
        paths = list(threads.map(fetch, [server.published()] * 2))
    assert [path.read_bytes() for path in paths] == [archive] * 2
    assert server.requests == [None]


def test_converted_once(server, folder, archive, monkeypatch):
    calls = []

    def convert_published(file: Path, published: Published, *, out: Path) -> Path:
        assert file.read_bytes() == archive
        calls.append(published.name)
        if len(calls) == 1:
            raise ValueError("refused")
        out.write_bytes(b"converted")
        return out

    converter = ModuleType("semask.checkpoints.official")
    converter.convert_published = convert_published
    monkeypatch.setitem(sys.modules, "semask.checkpoints.official", converter)
    with pytest.raises(ValueError, match="refused"):
        published_checkpoint(server.published())
    assert visible(folder) == {f"{NAME}.pth"}
    for _ in range(2):
        path = published_checkpoint(server.published())
        assert path == folder / f"{NAME}.safetensors"
        assert path.read_bytes() == b"converted"
    assert calls == [NAME, NAME]
    assert server.requests == [None]


@pytest.fixture
def cached(folder: Path) -> semask.SeMask:
    """A small model under the name of a published one."""
    model = semask.build("swin_nano", num_classes=3, channels=8)
    semask.save(folder / f"{NAME}.safetensors", model, {"step": 5})
    return model


def test_a_published_name_is_a_checkpoint(cached, tmp_path, monkeypatch):
    assert semask.load(NAME).metadata["step"] == 5
    monkeypatch.chdir(tmp_path)
    other = semask.build("swin_nano", num_classes=2, channels=8)
    semask.save(tmp_path / "folder.safetensors", other, {"step": 6})
    (tmp_path / NAME).mkdir()
    (tmp_path / "folder.safetensors").rename(tmp_path / NAME / "model.safetensors")
    assert semask.load(NAME).metadata["step"] == 6  # what lies here comes first


def test_an_unknown_name_is_answered_with_the_most_alike(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^semask-tiny-ade20k: no such .* \(did you mean semask-tiny-fpn-ade20k\?\)"):
        semask.load("semask-tiny-ade20k")


@pytest.mark.parametrize("name", ["model.safetensors", "best", "runs/semask/model.safetensors", "semask.safetensors"])
def test_a_missing_file_is_missing_and_no_published_model(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"^{name}: no such checkpoint file: give a .safetensors file") as caught:
        semask.load(name)
    assert "did you mean" not in str(caught.value)


def test_offline_on_the_command_line(semask, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for arguments in (["info", NAME], ["evaluate", NAME], ["evaluate", "--zoo", NAME, "--data", "x"]):
        assert semask.refused(*arguments).startswith(f"{NAME}: not downloaded (HF_HUB_OFFLINE is set): ")
