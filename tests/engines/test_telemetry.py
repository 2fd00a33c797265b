"""Engines whose libraries would report that they are used."""

import os
import subprocess
import sys

import pytest
from exported_files import described, write_onnx, write_openvino

CODE = """
import sys, time
def hook(event, what):
    if event in ("socket.connect", "socket.getaddrinfo", "os.fork"):
        print("sent", event, what)
sys.addaudithook(hook)
from semask import load_exported
load_exported(sys.argv[1])
if sys.argv[2] == "nncf":
    from semask.engines.telemetry import declined
    with declined():
        import nncf
time.sleep(0.5)
"""


@pytest.mark.parametrize("kind", ["onnx", "xml", "nncf"])
def test_nothing_is_sent_and_no_identifier_written(tmp_path, kind):
    pytest.importorskip({"onnx": "onnxruntime", "xml": "openvino", "nncf": "nncf"}[kind])
    write = write_onnx if kind == "onnx" else write_openvino
    path = write(tmp_path / f"mine.{'onnx' if kind == 'onnx' else 'xml'}", described())
    home = tmp_path / "home"
    home.mkdir()
    # On CI machines, which this variable names, OpenVINO sends nothing anyway.
    outside = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment = {**outside, "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache")}
    command = [sys.executable, "-c", CODE, path, kind]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "sent" not in done.stdout
    assert not [file for file in home.rglob("*") if "intel" in file.parts or "Microsoft" in file.parts]
