"""Writing files whole or not at all, and removing what killed processes left half-written."""

import contextlib
import errno
import functools
import itertools
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError

from semask.files.text import one_line, reason


@contextlib.contextmanager
def written_whole(path: Path, *, keep: Path | None = None, durable: bool = True) -> Iterator[Path]:
    """Give a temporary path next to `path`, and move it there when it was written without an error.

    What killed processes left half-written in that folder is removed first.

    Args:
        path: File to write.
        keep: Name that the file of before gets, in the same folder; null replaces it. A kill between the two moves
            leaves `keep` only.
        durable: Wait until the disk has it; without, a loss of power may leave a file that is not whole.

    Raises:
        ValueError: If writing failed; `path` is then what it was before.
    """
    temporary = path.with_name(f".{path.name[:_MOST_OF_NAME]}.{_tag()}{next(_numbers)}.part")
    _written.add(temporary.name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _tidy_once(path.parent.resolve())
        yield temporary
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # safetensors makes files that only their owner can read
        _replace(temporary, path, keep)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{not_written(path, error)}; what was there before is untouched") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        _written.discard(temporary.name)


def not_written(path: Path, error: Exception) -> str:
    """Say that a file could not be written, and what to do: more space helps only where there is too little."""
    said = error.strerror if isinstance(error, OSError) else None  # without the name of the temporary file
    full = said is None or (isinstance(error, OSError) and error.errno in _FULL)
    hint = "free some space or choose another folder" if full else "choose another folder"
    return f"{one_line(path)}: could not be written ({said or reason(error)}): {hint}"


def _replace(temporary: Path, path: Path, keep: Path | None) -> None:
    """Move a file to its place, after what was there got another name."""
    kept = keep is not None and path.is_file()
    if kept:
        os.replace(path, str(keep))
    try:
        os.replace(temporary, path)
    except OSError:
        if kept:
            os.replace(str(keep), path)
        raise


def write_whole(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all; text in UTF-8.

    Encode pictures and documents in memory and hand them over here: a library that writes for itself may not notice
    that the disk is full.

    Raises:
        ValueError: If writing failed; `path` is then what it was before.
    """
    with written_whole(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def append_whole(path: Path, text: str) -> None:
    """Add text to the end of a file: all of it, or nothing.

    Raises:
        ValueError: If it could not be written.
    """
    content = memoryview(text.encode())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                while content:
                    content = content[file.write(content) :]
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise ValueError(not_written(path, error)) from error


def sync(path: Path) -> None:
    """Let the system put a file, or the names in a folder, on the disk now; where it can't, nothing happens."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def temporary_folder(beside: Path | None = None) -> Iterator[Path]:
    """Give an empty folder, and remove it in the end; what killed processes left in its place is removed first.

    Args:
        beside: File that is to be moved out of the folder in the end, which is then on the same disk; null for a folder
            in the system's place for temporary files.

    Raises:
        OSError: If there can't be one.
    """
    parent = Path(tempfile.gettempdir()) if beside is None else beside.parent
    prefix = "" if beside is None else f".{beside.name[:_MOST_OF_NAME]}."
    parent.mkdir(parents=True, exist_ok=True)
    _tidy_once(parent.resolve())
    with tempfile.TemporaryDirectory(dir=parent, prefix=f"{prefix}{_tag()}") as folder:
        _written.add(Path(folder).name)
        try:
            yield Path(folder)
        finally:
            _written.discard(Path(folder).name)


def move_folder(source: Path, path: Path, *, keep: Path | None = None) -> None:
    """Move a folder to its place; what was there gets another name, or is moved to where the source was.

    Args:
        source: A folder on the same disk, in a folder of its own that is removed later.
        path: Its place.
        keep: Name that what is at `path` gets; what has that name is moved away. A kill between the moves leaves
            `keep` only.

    Raises:
        OSError: If it could not be moved; everything is then where it was.
    """
    moves = [(source, path)]
    if os.path.lexists(path):
        moves.insert(0, (path, keep or source.with_name("replaced")))
        if keep is not None and os.path.lexists(keep):
            moves.insert(0, (keep, source.with_name("older")))
    done: list[tuple[Path, Path]] = []
    try:
        for old, new in moves:
            os.replace(old, new)
            done.append((old, new))
    except OSError:
        for old, new in reversed(done):
            os.replace(new, old)
        raise
    sync(path.parent)


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


_MOST_OF_NAME = 40
"""Characters of a name that are repeated in the name of its temporary file; a name has 255 bytes at most."""


_DAY = 86_400.0


_TEMPORARY = re.compile(r"(?:^|\.)semask-(?P<host>\w+)-(?P<pid>\d+)-\w+(?:\.part)?$")


_OF_0_1 = re.compile(r"^\..+\.safetensors\.\d+\.part$")  # which says no host


_numbers = itertools.count()


_written: set[str] = set()
"""Names of what this process is writing now."""


def _tag() -> str:
    """Beginning of the name of what this process writes for a time: semask-HOST-PROCESS-."""
    return f"semask-{_host()}-{os.getpid()}-"


@functools.cache
def _host() -> str:
    """Name of the space in which the number of a process says which it is: the machine, or a container on it."""
    name = re.sub(r"[^a-z0-9]+", "_", socket.gethostname().lower())[:32]
    try:
        return f"{name}_{os.stat('/proc/self/ns/pid').st_ino:x}"
    except OSError:  # not on Linux
        return name


@functools.cache
def _tidy_once(folder: Path) -> None:
    remove_leftovers(folder)


def remove_leftovers(folder: Path) -> None:
    """Remove what dead processes left half-written in a folder; what can't be removed stays.

    Whether a process lives can only be told on its own host: what another host began has to be older than a day.
    """
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if not _is_left(entry.name, entry.stat(follow_symlinks=False)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    os.unlink(entry.path)


def _is_left(name: str, status: os.stat_result) -> bool:
    """Whether an entry of a folder is what a dead process of this user left."""
    found = _TEMPORARY.search(name)
    if found is None and not _OF_0_1.search(name):
        return False
    if hasattr(os, "getuid") and status.st_uid != os.getuid():
        return False
    if found is None or found["host"] != _host() or os.name != "posix":
        return time.time() - status.st_mtime > _DAY
    pid = int(found["pid"])
    return name not in _written if pid == os.getpid() else not _is_alive(pid)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # asks, and sends nothing
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # of another user
        return True
    return True
