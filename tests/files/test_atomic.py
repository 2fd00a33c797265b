import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from semask.files import atomic as files
from semask.files.atomic import append_whole, remove_leftovers, temporary_folder, write_whole, written_whole

HOST = files._host()


@pytest.fixture
def dead() -> int:
    """Number of a process that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put(folder: Path, name: str, *, days: float = 0.0) -> Path:
    """A file, or with a / in its end a folder that is not empty, of some days ago."""
    path = folder / name
    if name.endswith("/"):
        path.mkdir()
        (path / "graph.onnx").write_text("half")
    else:
        path.write_text("half")
    then = time.time() - 86_400 * days
    os.utime(path, (then, then))
    return path


def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path, dead):
    alive = os.getppid()
    gone = [
        f".best.safetensors.semask-{HOST}-{dead}-0.part",
        f".model.onnx.semask-{HOST}-{dead}-k2_9xyab/",
        f"semask-{HOST}-{dead}-k2_9xyab/",
        f".report.json.semask-{HOST}-{os.getpid()}-99999.part",  # this process is not writing it
    ]
    gone_when_old = [
        f".best.safetensors.semask-elsewhere_1-{dead}-0.part",
        f".best.safetensors.semask-elsewhere_1-{alive}-0.part",
        ".best.safetensors.4711.part",  # of semask 0.1
        "semask-elsewhere_1-1-abcdefgh/",
    ]
    kept = [
        f".best.safetensors.semask-{HOST}-{alive}-0.part",
        f".model.onnx.semask-{HOST}-{alive}-abcdefgh/",
        f"best.semask-{HOST}-{dead}-0.safetensors",
        f"semask-{HOST}-{dead}",
        f"notsemask-{HOST}-{dead}-0.part",
        ".image.png.4711.part",
        ".film.part",
        "best.safetensors",
    ]
    for name in gone + kept:
        put(tmp_path, name)
    for name in gone_when_old:
        put(tmp_path, name, days=0.9)
        put(tmp_path, name.replace("elsewhere_1", "elsewhere_2").replace("4711", "4712"), days=1.1)
    for name in kept:
        put(tmp_path, "old" + name.strip("./"), days=9)
    remove_leftovers(tmp_path)
    left = {name.strip("/") for name in kept + gone_when_old}
    assert set(names(tmp_path)) == left | {"old" + name.strip("./") for name in kept}


def test_a_link_is_removed_and_not_followed(tmp_path, dead):
    target = put(tmp_path, "target/")
    (tmp_path / f"semask-{HOST}-{dead}-abcdefgh").symlink_to(target)
    (tmp_path / f".a.json.semask-{HOST}-{dead}-0.part").symlink_to(target / "graph.onnx")
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["target"]
    assert names(target) == ["graph.onnx"]
    remove_leftovers(tmp_path / "nowhere")


KILLED = """
import os, signal, sys
from pathlib import Path
from semask.engines.export import staging
from semask.files.atomic import temporary_folder, written_whole

out = Path(sys.argv[1])
with written_whole(out / "weights.safetensors") as temporary, staging(out / "model.onnx") as folder:
    temporary.write_bytes(b"half")
    (folder / "model.onnx").write_bytes(b"half")
    with temporary_folder() as other:
        (other / "weights.safetensors").write_bytes(b"half")
        os.kill(os.getpid(), signal.SIGKILL)
"""
NEXT = """
import sys
from pathlib import Path
from semask.files.atomic import temporary_folder, write_whole

write_whole(Path(sys.argv[1]) / "log.json", "{}")
with temporary_folder():
    pass
"""


def test_the_next_process_that_writes_there_cleans_up(tmp_path):
    def python(program: str) -> int:
        environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
        return subprocess.run(
            [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "out")], env=environment, timeout=120
        ).returncode

    (tmp_path / "temporary").mkdir()
    assert python(KILLED) == -signal.SIGKILL
    assert len(names(tmp_path / "out")) == 2
    assert len(names(tmp_path / "temporary")) == 1
    assert python(NEXT) == 0
    assert names(tmp_path / "out") == ["log.json"]
    assert names(tmp_path / "temporary") == []


def test_names_of_temporary_files_say_host_and_process(tmp_path):
    with written_whole(tmp_path / f"{80 * '空'}.png") as temporary, temporary_folder(tmp_path / "x.onnx") as folder:
        temporary.write_bytes(b"")
        host = socket.gethostname().lower()[:5]
        for path in (temporary, folder):
            assert f".semask-{host}" in path.name
            assert f"-{os.getpid()}-" in path.name
        remove_leftovers(tmp_path)  # by this process itself
        assert temporary.exists()
        assert folder.exists()
    assert names(tmp_path) == [f"{80 * '空'}.png"]


def test_two_writers_of_one_file_in_one_process(tmp_path):
    path = tmp_path / "a.json"
    with written_whole(path) as one, written_whole(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"
    assert names(tmp_path) == ["a.json"]


def test_the_file_of_before_is_kept(tmp_path):
    path, earlier = tmp_path / "state", tmp_path / "earlier"
    for number in range(3):
        with written_whole(path, keep=earlier) as temporary:
            temporary.write_text(str(number))
        assert earlier.exists() == (number > 0)
    assert (path.read_text(), earlier.read_text()) == ("2", "1")
    with pytest.raises(ValueError, match="could not be written"), written_whole(path, keep=earlier):
        pass  # nothing was written
    assert (path.read_text(), earlier.read_text()) == ("2", "1")


@pytest.mark.parametrize("limit", [0, 1, 5, 9, 10, 11, 14])
def test_lines_are_added_whole_or_not_at_all(tmp_path, limit):
    path = tmp_path / "log.csv"
    append_whole(path, "step,loss\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"log\.csv: could not be written"):
            append_whole(path, "1,0.5\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "step,loss\n"
    append_whole(path, "1,0.5\n")
    assert path.read_text() == "step,loss\n1,0.5\n"


@pytest.mark.parametrize("limit", [0, 1, 4095, 4096, 99_999])
def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path, limit):
    path = tmp_path / "map.png"
    write_whole(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(ValueError, match=r"map\.png: could not be written"):
            write_whole(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["map.png"]


@pytest.mark.parametrize("write", [write_whole, append_whole])
@pytest.mark.parametrize("inner", [".", "deep"])
def test_space_is_no_advice_where_a_file_is_in_the_way(tmp_path, write, inner):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="could not be written") as refusal:
        write(tmp_path / "file" / inner / "a.txt", "text")
    assert "choose another folder" in str(refusal.value)
    assert "free some space" not in str(refusal.value)
    assert "Errno" not in str(refusal.value)


def test_a_full_disk_asks_for_space_and_names_no_temporary_file(tmp_path):
    match = "free some space or choose another folder"
    with pytest.raises(ValueError, match=match) as refusal, written_whole(tmp_path / "a.txt") as temporary:
        raise OSError(28, "No space left on device", str(temporary))
    assert "a.txt: could not be written (No space left on device): " in str(refusal.value)
    assert ".part" not in str(refusal.value)
