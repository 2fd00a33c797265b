"""Images that belong together, such as the frames of a video: a regular expression finds the group in each name."""

import json
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from semask.files.text import one_line

LONGEST_PATTERN = 500
SECONDS = 20.0
"""Time that a regular expression may take for all names."""
_SEARCH = """
import json, re, sys
given = json.load(sys.stdin)
try:
    pattern = re.compile(given["pattern"])
    found = [pattern.search(name) for name in given["names"]]
    groups = [None if m is None else m[1 if pattern.groups else 0] for m in found]
    print(json.dumps({"groups": groups}))
except (re.error, OverflowError, RecursionError) as error:
    print(json.dumps({"error": str(error)}))
"""


def group_numbers(names: Sequence[str], pattern: str | None) -> NDArray[np.int64] | None:
    """Number of the group that each image belongs to, [N], from 0 to G - 1; None without a pattern.

    Some patterns take years for some names, and Python cannot stop its search: so a process of its own searches, for
    20 seconds at most.

    Args:
        names: Names of the images.
        pattern: Regular expression; what its first group finds in a name, or the whole of it without groups, names the
            group of the image.

    Raises:
        ValueError: If it is no regular expression, takes too long, or finds nothing in a name.

    >>> group_numbers(["day_1", "day_2", "night_1"], "^([^_]+)_").tolist()
    [0, 0, 1]
    """
    if pattern is None:
        return None
    said = f"groups {one_line(repr(pattern), longest=100)}"
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"{said}: longer than {LONGEST_PATTERN} characters: give a shorter regular expression")
    given = json.dumps({"pattern": pattern, "names": list(names)})
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _SEARCH], input=given, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(
            f"{said}: the search took over {SECONDS:.0f} seconds: give a regular expression without nested repeats"
        ) from error
    answer = json.loads(done.stdout or '{"error": "the search failed"}')
    if "error" in answer:
        raise ValueError(f"{said}: no regular expression ({one_line(answer['error'])}): give one such as '^([^_]+)_'")
    missing = [name for name, group in zip(names, answer["groups"], strict=True) if not group]
    if missing:
        raise ValueError(
            f"{said}: finds nothing in {len(missing)} of {len(names)} names of images, e.g. "
            f"{one_line(missing[0], longest=100)}: give one that finds the group in each"
        )
    numbers: NDArray[np.int64] = np.unique(answer["groups"], return_inverse=True)[1].astype(np.int64)
    return numbers
