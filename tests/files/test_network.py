import socket
import time
from pathlib import Path

import huggingface_hub.constants
import pytest

from semask import load
from semask.builder import build
from semask.checkpoints.hub import from_pretrained, push_to_hub, save_pretrained
from semask.checkpoints.pretrained import load_pretrained
from semask.files import network
from semask.files.network import unreachable


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def listening():
    """A port at which somebody takes connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def cut_off(tmp_path, monkeypatch) -> Path:
    """The Hub can't be reached, and nothing was downloaded before."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_somebody_answers(listening):
    assert unreachable(f"http://127.0.0.1:{listening}/x") is None


def test_nobody_answers(monkeypatch):
    assert "127.0.0.1 can't be reached: [Errno 111]" in str(unreachable("http://127.0.0.1:1/x"))
    assert "can't be reached" in str(unreachable("https://" + "a" * 70 + ".invalid"))
    monkeypatch.setattr(network, "PATIENCE", 0.1)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: time.sleep(2) or socket.socket())
    start = time.monotonic()
    assert unreachable("https://example.org") == "example.org can't be reached: no answer in 0 s"
    assert time.monotonic() - start < 1


def test_a_proxy_is_who_has_to_answer(listening, monkeypatch):
    monkeypatch.setenv("https_proxy", f"127.0.0.1:{listening}")
    assert unreachable("https://example.invalid") is None
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    assert "127.0.0.1 can't be reached" in str(unreachable("https://example.invalid"))


CALLS = {
    "checkpoint": lambda: load("owner/name"),
    "from_pretrained": lambda: from_pretrained("owner/name"),
    "push": lambda: push_to_hub(build("swin_nano", num_classes=2, channels=8), "owner/name"),
    "weights of the Hub": lambda: load_pretrained(build("swin_nano", num_classes=2, channels=8), "owner/name"),
    "weights of timm": lambda: load_pretrained(
        build("swin_nano", num_classes=2, channels=8), "swin_tiny_patch4_window7_224.ms_in1k"
    ),
    "weights of a library": lambda: load_pretrained(
        build("timm/resnet18.a1_in1k", num_classes=2, channels=8), "library"
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_without_a_network_one_line_comes_at_once(cut_off, name):
    start = time.monotonic()
    said = "could not get the weights" if name == "weights of a library" else r"127\.0\.0\.1 can't be reached"
    with pytest.raises(ValueError, match=said) as caught:
        CALLS[name]()
    assert time.monotonic() - start < 10
    assert "\n" not in str(caught.value)
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_without_a_network_what_was_downloaded_is_used(cut_off):
    model = build("swin_nano", num_classes=2, channels=8)
    folder = cut_off / "models--owner--name"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    save_pretrained(model, folder / "snapshots" / ("0" * 40))
    assert load("owner/name").config == model.config
