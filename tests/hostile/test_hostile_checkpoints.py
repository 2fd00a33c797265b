"""Checkpoints from strangers: what they say is executed, imported, fetched or built without a bound by nobody."""

import json
import resource
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import semask
from semask.builder import build
from semask.checkpoints.metadata import check
from semask.settings.model import settings_of_file
from tests.hostile.corpus import CODE, NETWORK, SMALL, UNBOUNDED, metadata, mutations, stranger, write_checkpoint

MEBIBYTES = 400
"""Memory that reading a small hostile file may take, in all."""


@pytest.fixture
def visited() -> Iterator[tuple[str, list[str]]]:
    """Address of a server of this machine, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        semask.load(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < 2000
    assert message.isprintable()
    return message


def filled(values: dict[str, Any], **places: object) -> dict[str, Any]:
    text = json.dumps(values)
    for name, place in places.items():
        text = text.replace(name, str(place))
    return json.loads(text)


@pytest.mark.parametrize("name", CODE)
def test_no_code_runs(tmp_path, monkeypatch, name):
    mark = tmp_path / "executed"
    folder = stranger(tmp_path / "stranger", mark)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("it asked on the terminal"))
    refused(write_checkpoint(tmp_path / "x.safetensors", metadata(**filled(CODE[name], FOLDER=folder))))
    assert not mark.exists()


def test_the_stranger_s_code_would_leave_its_mark(tmp_path):
    mark = tmp_path / "executed"
    folder = stranger(tmp_path / "stranger", mark)
    exec((folder / "evil.py").read_text())
    assert mark.exists()


@pytest.mark.parametrize("name", NETWORK)
def test_nothing_is_fetched(tmp_path, monkeypatch, visited, name):
    address, asked = visited
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setattr("socket.getaddrinfo", lambda *x, **_: pytest.fail(f"asked for the address of {x[0]}"))
    path = write_checkpoint(tmp_path / "x.safetensors", metadata(**filled(NETWORK[name], ADDRESS=address)))
    refused(path)
    assert asked == []


@pytest.mark.parametrize("name", UNBOUNDED)
def test_no_more_is_built_than_the_file_holds(tmp_path, name):
    path = write_checkpoint(tmp_path / "x.safetensors", metadata(**UNBOUNDED[name]))
    semask.load(write_checkpoint(tmp_path / "good.safetensors", metadata()))  # libraries are loaded now
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MEBIBYTES * 1024


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.int8, torch.float8_e4m3fn, torch.complex64])
def test_weights_of_another_kind_of_number(tmp_path, dtype):
    state = build(**SMALL).state_dict()
    state["decoder.classifier.weight"] = torch.zeros(state["decoder.classifier.weight"].shape).to(dtype)
    assert "decoder.classifier.weight holds torch" in refused(
        write_checkpoint(tmp_path / "x.safetensors", metadata(), state)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_floats_are_taken(tmp_path, dtype):
    state = {name: x.to(dtype) if x.is_floating_point() else x for name, x in build(**SMALL).state_dict().items()}
    loaded = semask.load(write_checkpoint(tmp_path / "x.safetensors", metadata(), state))
    assert {x.dtype for x in loaded.parameters()} == {torch.float32}


def test_counts_that_are_no_integers(tmp_path):
    state = build(**SMALL).state_dict()
    name = next(name for name in state if name.endswith("num_batches_tracked"))
    assert name in refused(
        write_checkpoint(tmp_path / "x.safetensors", metadata(), {**state, name: state[name].float()})
    )


@pytest.mark.parametrize("part", ["recipe.model", "recipe.evaluation", "recipe.data", "recipe.training", "classes", ""])
def test_every_value_may_be_wrong(tmp_path, part):
    """Replaced by anything, at any depth: the checkpoint loads and predicts, or one line says what is wrong."""
    state, image = build(**SMALL).state_dict(), torch.zeros(3, 40, 40, dtype=torch.uint8)
    path, loaded, refusals = tmp_path / "x.safetensors", 0, 0
    for label, values in mutations(metadata(), part):
        model = said = None
        try:
            settings_of_file(check(values, path)["recipe"]["model"], path)
            write_checkpoint(path, values, state)
            model = semask.load(path)
        except ValueError as error:
            said = str(error)
        if model is None:
            assert said.startswith(str(path)), label
            assert said.isprintable(), label
            assert len(said) < 2000, label
            refusals += 1
        else:
            loaded += 1
            if part == "recipe.evaluation":
                semask.Predictor(model)(image, confidence=False)
    assert refusals > 0
    assert loaded > 0


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "3", "null", "{}", '{"recipe": ' * 5000, '{"a": ' + "[" * 100_000, '{"recipe": {"model": 1e400}}'],
    ids=lambda x: x[:20],
)
def test_a_header_that_is_no_description(tmp_path, text):
    refused(write_checkpoint(tmp_path / "x.safetensors", text))


@pytest.mark.parametrize("verb", ["predict", "evaluate", "info", "export"])
def test_verbs_say_it_in_one_line(semask, tmp_path, verb):
    mark = tmp_path / "executed"
    folder = stranger(tmp_path / "stranger", mark)
    path = write_checkpoint(tmp_path / "x.safetensors", metadata(**filled(CODE["a folder"], FOLDER=folder)))
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    others = {
        "predict": [tmp_path / "a.png", "--out", tmp_path / "out"],
        "evaluate": ["--data", tmp_path],
        "export": ["--out", tmp_path / "x.onnx"],
        "info": [],
    }
    assert "a file can name no path" in semask.refused(verb, path, *others[verb])
    assert not mark.exists()
