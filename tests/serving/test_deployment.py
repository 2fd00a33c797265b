"""The files of the section on deployment in docs/serve.md, and the Dockerfile: they parse, and fit the server."""

import configparser
import itertools
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from servers import TOKEN, running

from semask.serving.server import IDLE_SECONDS
from semask.settings.serving import Serving

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
DEFAULT = Serving()


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(found)


def serving_of(words: list[str]) -> Serving:
    """The settings that a command line names, of those that are numbers or paths."""
    values = {}
    for name, value in itertools.pairwise(words):
        if name.startswith("--"):
            kind = type(asdict(DEFAULT)[name[2:]])
            values[name[2:]] = kind(value) if kind in (int, float) else int(value) if value.isdecimal() else value
    return Serving(**values)


@pytest.fixture(scope="module")
def manifest():
    return {part["kind"]: part for part in yaml.safe_load_all(block("yaml"))}


@pytest.fixture(scope="module")
def pod(manifest):
    return manifest["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def unit():
    parser = configparser.ConfigParser(interpolation=None, delimiters="=")
    parser.optionxform = str
    parser.read_string(block("ini"))
    return parser


def instructions() -> list[str]:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_unit_gives_the_server_time_to_stop(unit):
    service = unit["Service"]
    settings = serving_of(shlex.split(service["ExecStart"]))
    assert float(service["TimeoutStopSec"]) > settings.drain_seconds + settings.grace_seconds
    assert settings.token_file == "%d/token"
    assert service["LoadCredential"].startswith("token:")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt install systemd")
def test_systemd_takes_the_unit(tmp_path):
    path = tmp_path / "semask.service"
    path.write_text(block("ini").replace("/opt/semask/bin/semask", sys.executable))
    done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", path], capture_output=True, text=True
    )
    assert rated.returncode == 0, rated.stdout  # exposure of 2.5 of 10 at most


def test_the_manifest_asks_where_the_server_answers(pod, manifest, small):
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    probes = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    with running({"mine": small}, tokens=(TOKEN,)) as server, server.client() as client:
        assert [client.get(probe["path"]).status_code for probe in probes] == [200, 200, 200]
    assert all(f"EXPOSE {ports[probe['port']]}" in instructions() for probe in probes)
    service = manifest["Service"]["spec"]
    assert [port["targetPort"] for port in service["ports"]] == list(ports)
    assert service["selector"] == manifest["Deployment"]["spec"]["selector"]["matchLabels"]
    assert service["selector"] == manifest["Deployment"]["spec"]["template"]["metadata"]["labels"]


def test_the_manifest_gives_the_server_time_to_stop(pod):
    (container,) = pod["containers"]
    settings = serving_of(container["args"])
    probe = container["readinessProbe"]
    assert settings.drain_seconds > probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert pod["terminationGracePeriodSeconds"] > settings.drain_seconds + settings.grace_seconds
    assert settings.threads == int(container["resources"]["requests"]["cpu"])


def test_the_manifest_has_the_user_and_the_folder_that_the_image_needs(pod):
    (container,) = pod["containers"]
    assert f"USER {pod['securityContext']['runAsUser']}" in instructions()
    assert container["securityContext"]["readOnlyRootFilesystem"]
    (mount,) = container["volumeMounts"]
    assert mount["mountPath"] == "/tmp"
    (volume,) = pod["volumes"]
    assert volume["name"] == mount["name"]
    limits = int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 2**30
    assert limits > (DEFAULT.memory_megabytes + DEFAULT.decoders * DEFAULT.decode_megabytes) * 1_000_000


def test_nginx_has_the_limits_of_the_server():
    values = dict(re.findall(r"^ *(\w+) +(\w+);", block("nginx"), re.MULTILINE))
    assert int(values["client_max_body_size"].removesuffix("m")) * 2**20 >= DEFAULT.max_megabytes * 1_000_000
    assert int(values["proxy_read_timeout"].removesuffix("s")) > DEFAULT.max_deadline
    assert int(values["keepalive_timeout"].removesuffix("s")) < IDLE_SECONDS


def test_the_image_has_what_it_copies():
    """.dockerignore leaves out everything but what the Dockerfile names."""
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    copied = {
        word
        for line in instructions()
        if line.startswith("COPY ") and "--from" not in line
        for word in line.split()[1:-1]
    }
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)


def test_the_options_of_the_docs_give_a_container_time_to_stop():
    (seconds,) = set(re.findall(r"--stop-timeout (\d+)", TEXT + (ROOT / "Dockerfile").read_text()))
    assert int(seconds) > DEFAULT.drain_seconds + DEFAULT.grace_seconds
