"""A digest of every byte of an exported file, kept in the file's own description, so that damage is noticed."""

import hashlib
import json
import mmap
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from semask.files.text import one_line

NAME = "weights_digest"
BLANK = b"0" * 64
"""What stands for the digest while it is computed."""
STORED = re.compile(NAME.encode() + rb'(?:"|&quot;): (?:"|&quot;)([0-9a-f]{64})(?:"|&quot;)')
"""The digest in JSON, as it is or as XML has it."""


class Sealed(NamedTuple):
    """What a file says and what it is: both in hexadecimal digits, and where the first lies."""

    stored: bytes
    computed: bytes
    offset: int


def blank(described: str) -> str:
    """Return the JSON of a description with room for the digest that `seal` writes."""
    return json.dumps({**json.loads(described), NAME: BLANK.decode()}, ensure_ascii=False)


def seal(files: Sequence[Path]) -> None:
    """Write the digest of new files into the first of them, whose description has room for it.

    Raises:
        ValueError: If it has none.
    """
    sealed = _read(files)
    if sealed is None:
        raise ValueError(f"{one_line(files[0])}: its description has no room for a digest: describe it with `blank`")
    with open(files[0], "rb+") as file:
        file.seek(sealed.offset)
        file.write(sealed.computed)


def check(files: Sequence[Path]) -> None:
    """Compare files with the digest that the first of them has; one without, as version 0.1 wrote it, passes.

    Args:
        files: As they were sealed, in the same order.

    Raises:
        ValueError: If a byte differs.
    """
    sealed = _read(files)
    if sealed is not None and sealed.stored != sealed.computed:
        names = ", ".join(one_line(file.name) for file in files)
        raise ValueError(
            f"{one_line(files[0])}: damaged, or changed after its export (the digest of {names} is not the stored "
            "one): copy or export it again"
        )


def _read(files: Sequence[Path]) -> Sealed | None:
    """Find and compute the digest; None where there is no place for one."""
    if files[0].stat().st_size == 0:
        return None
    with open(files[0], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = STORED.match(content, max(content.rfind(NAME.encode()), 0))
        if found is None:
            return None
        start, end = found.span(1)
        digest = hashlib.sha256()
        with memoryview(content) as view, view[:start] as before, view[end:] as after:
            for part in (before, BLANK, after):
                digest.update(part)
        stored = found[1]
        del found  # it holds on to the file
    for path in files[1:]:
        with open(path, "rb") as file:
            while part := file.read(2**20):
                digest.update(part)
    return Sealed(stored, digest.hexdigest().encode(), start)
