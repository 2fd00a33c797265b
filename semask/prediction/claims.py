"""Folders of unfinished results: one run at a time works in one, and the next goes on with what it finds."""

import shutil
import sys
from pathlib import Path

from filelock import FileLock, Timeout

from semask.files.text import one_line, reason


def claim(folder: Path) -> FileLock:
    """Make a folder, if it is not there, and keep other runs out of it; the system lets go when a run is killed.

    Raises:
        ValueError: If it can't be written, or another run is using it.
    """
    lock = FileLock(folder / "lock", blocking=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"{one_line(folder)}: another run is writing this result: wait for it, or choose another --out"
        ) from error
    except OSError as error:
        raise ValueError(
            f"{one_line(folder)}: could not be written ({error.strerror or reason(error)}): choose another folder"
        ) from error
    return lock


def remove(folder: Path, lock: FileLock) -> None:
    """Delete a folder that was claimed, while no other run can begin to use it."""
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()
    if sys.platform == "win32":  # where the lock's own file could not be deleted before
        shutil.rmtree(folder, ignore_errors=True)
