"""Bytes kept on a local disk up to a limit: those that were not used for longest go first. Any process may share it.

An entry is written whole or not at all, and read only if its digest is right. The total is changed before a file is
written and after it is removed, under a lock: a killed process leaves it too high, never too low, until it is counted
again. A disk that fails only makes the cache forget.
"""

import contextlib
import hashlib
import os
import re
from pathlib import Path

from filelock import FileLock

from semask.files.atomic import written_whole
from semask.files.text import one_line

KEPT = 0.9
"""Fraction of the limit that is left when entries are removed."""
_KEY = re.compile(r"[0-9a-f]{64}")
_DIGEST = 32


class DiskCache:
    """A folder of entries by key, a SHA-256 digest as hexadecimal text.

    Args:
        folder: The folder; it is made.
        most: Bytes that all entries may take together.

    Raises:
        ValueError: If there can't be such a folder, or it holds something else.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self.folder, self.most = folder, most
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._require_own()
            with self._lock():
                if not self._total_file.exists():
                    self._write(self._total_file, str(self._total()).encode())
        except OSError as error:
            raise ValueError(f"{one_line(folder)}: cannot be a cache: {error.strerror}: give another folder") from error

    @property
    def _total_file(self) -> Path:
        return self.folder / "total"

    def _lock(self) -> FileLock:
        return FileLock(self.folder / "lock")

    def _require_own(self) -> None:
        """Refuse a folder of anything else: files would be removed from it one day."""
        for entry in os.scandir(self.folder):
            if entry.name not in ("total", "lock") and not re.fullmatch(r"[0-9a-f]{2}|\..*", entry.name):
                raise ValueError(f"{one_line(self.folder)}: holds {one_line(entry.name)}: give a folder of its own")

    def get(self, key: str) -> bytes | None:
        """What was put there; None if it is not there, or not whole."""
        path = self._path(key)
        try:
            if path.stat().st_size > self.most:
                return None
            with open(path, "rb") as file:
                content = file.read(self.most + 1)
            os.utime(path)  # used now
        except OSError:
            return None
        kept, digest = content[:-_DIGEST], content[-_DIGEST:]
        return kept if hashlib.sha256(kept).digest() == digest else None

    def put(self, key: str, content: bytes) -> None:
        """Keep an entry, if it fits and the disk allows it."""
        path, size = self._path(key), len(content) + _DIGEST
        if size > self.most:
            return
        with contextlib.suppress(OSError, ValueError), self._lock():
            total = self._total()
            if total + size > self.most:
                total = self._remove(int(KEPT * self.most) - size)
            before = path.stat().st_size if path.exists() else 0
            self._write(self._total_file, str(total + size).encode())
            self._write(path, content + hashlib.sha256(content).digest())
            if before:
                self._write(self._total_file, str(total + size - before).encode())

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file whole or not at all; waiting for the disk would take longer than fetching it again."""
        with written_whole(path, durable=False) as temporary:
            temporary.write_bytes(content)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"{one_line(key)} is no key: expected 64 hexadecimal digits")
        return self.folder / key[:2] / key

    def _total(self) -> int:
        """Bytes of all entries; they are counted if nobody wrote it down."""
        try:
            return int(self._total_file.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return sum(size for _, size, _ in self._entries())

    def _entries(self) -> list[tuple[int, int, Path]]:
        """When each was used, its size, and its path."""
        found = []
        for folder in self.folder.iterdir():
            if re.fullmatch(r"[0-9a-f]{2}", folder.name) and not folder.is_symlink():
                for path in folder.iterdir():
                    if _KEY.fullmatch(path.name):
                        status = path.lstat()
                        found.append((status.st_mtime_ns, status.st_size, path))
        return found

    def _remove(self, most: int) -> int:
        """Remove what was not used for longest, until the rest has no more than so many bytes; returns how many."""
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= most:
                break
            path.unlink()
            total -= size
        return total
