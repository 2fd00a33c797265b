"""Facts that were found out before, in a file next to the report: a doctor that was stopped goes on where it was."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from semask.data.dataset import label_path
from semask.doctor.facts import MOST_VALUES, Facts, Header, ImageFacts, MaskFacts
from semask.doctor.kinds import KINDS
from semask.doctor.samples import Sample
from semask.files.atomic import append_whole
from semask.files.reading import parse_json, require_file

VERSION = 1
"""Of the facts: those of another version are found out again."""
LONGEST_LINE = 2**16
_LARGEST = 2**63
_HEX = re.compile(r"[0-9a-f]*")


class Cache:
    """Facts of pairs in a file of JSON lines, by path, size and time of the last change of both files.

    The file may be anybody's: a line that is not as it should be is ignored.

    Args:
        path: The file; None keeps nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._places: dict[str, int] = {}
        self._lines: list[str] = []
        self._hits: set[str] = set()
        if path is not None and path.exists():
            with open(require_file(path), "rb") as file:
                place = 0
                for line in iter(lambda: file.readline(LONGEST_LINE), b""):
                    if line.startswith(b'["') and len(line) > 40:
                        self._places[line[2:34].decode("ascii", "replace")] = place
                    place += len(line)

    def get(self, sample: Sample) -> Facts | None:
        """Facts of a pair, if they are known and its files have not changed."""
        key = key_of(sample)
        place = self._places.get(key)
        if place is None or self.path is None:
            return None
        try:
            with open(self.path, "rb") as file:
                file.seek(place)
                _, version, values = parse_json(file.readline(LONGEST_LINE).decode())
            facts = facts_from(values) if version == VERSION else None
        except (ValueError, TypeError, KeyError, OSError):
            return None
        if facts is not None:
            self._hits.add(key)
        return facts

    def put(self, sample: Sample, facts: Facts) -> None:
        """Note the facts of a pair, if they did not come from here."""
        if self.path is not None and (key := key_of(sample)) not in self._hits:
            self._lines.append(json.dumps([key, VERSION, as_plain(facts)]) + "\n")
            if len(self._lines) >= 64:
                self.flush()

    def flush(self) -> None:
        """Write what was noted."""
        if self.path is not None and self._lines:
            append_whole(self.path, "".join(self._lines))
            self._lines = []


def key_of(sample: Sample) -> str:
    """Digest of the paths of a pair, and of size and time of its files."""
    parts: list[Any] = [type(sample.label).__name__]
    for path in (sample.image, label_path(sample.label)):
        parts.append(str(path))
        try:
            status = path.stat()
        except (OSError, ValueError):
            continue
        parts += [status.st_size, status.st_mtime_ns]
    return hashlib.sha256(repr(parts).encode(errors="surrogatepass")).hexdigest()[:32]


def as_plain(facts: Facts) -> dict[str, Any]:
    """Facts as JSON can hold them."""
    return {name: vars(part) if part is not None else None for name, part in vars(facts).items()}


def facts_from(values: Any) -> Facts:
    """Facts of what `as_plain` gave, checked.

    Raises:
        ValueError, TypeError, KeyError: If they are something else.
    """
    image, mask = _made(Header, values["image"]), _made(Header, values["mask"])
    image_pixels, mask_pixels = values["image_pixels"], values["mask_pixels"]
    facts = Facts(
        image,
        mask,
        _made(ImageFacts, image_pixels) if image_pixels is not None else None,
        _made(MaskFacts, mask_pixels) if mask_pixels is not None else None,
    )
    for header in (image, mask):
        if header.kind not in ("", *KINDS) or not 1 <= header.orientation <= 8 or min(header.stored) < 0:
            raise ValueError("a header is wrong")
    pixels = facts.image_pixels
    if pixels is not None and (len(pixels.thumbnail) != 512 or not _HEX.fullmatch(pixels.thumbnail)):
        raise ValueError("a thumbnail is wrong")
    return facts


def _made(kind: Any, values: Any) -> Any:
    hints = get_type_hints(kind)
    if not isinstance(values, dict) or values.keys() != hints.keys():
        raise ValueError("fields are wrong")
    return kind(**{name: _checked(values[name], hint) for name, hint in hints.items()})


def _checked(value: Any, hint: Any) -> Any:
    """A value of a field, if it is of its type."""
    if hint is str and isinstance(value, str) and len(value) <= 2000:
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is int and type(value) is int and abs(value) < _LARGEST:
        return value
    if hint is float and type(value) in (int, float) and 0 <= value <= 1:
        return float(value)
    if get_origin(hint) is dict and isinstance(value, dict) and len(value) <= MOST_VALUES:
        return {_checked(int(key), int): _checked(count, int) for key, count in value.items()}
    if get_origin(hint) is tuple and isinstance(value, list) and len(value) <= MOST_VALUES:
        return tuple(_checked(each, get_args(hint)[0]) for each in value)
    raise ValueError("a value is wrong")
