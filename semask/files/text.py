"""Text from outside (file names, class names, libraries' messages) made safe to show, and short enough to read."""

import os
import re
import unicodedata
from pathlib import Path

LONGEST = 300
"""Characters of somebody else's message that are worth showing."""
_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # control, direction and format characters, half pairs, line separators


def one_line(text: object, *, longest: int = LONGEST) -> str:
    r"""Return text on one line, without what a terminal would obey, cut to `longest` characters.

    >>> one_line("bad\x1b[31m news:\n  \u202eevil")
    'bad?[31m news: ?evil'
    """
    words = " ".join(str(text)[: 4 * longest].split())
    shown = "".join("?" if unicodedata.category(c) in _HIDDEN else c for c in words)
    return shown if len(shown) <= longest else shown[: longest - 4].rstrip() + " ..."


def reason(error: BaseException, *, longest: int = LONGEST) -> str:
    """Return what an exception says as one short line; the name of its class if it says nothing."""
    return one_line(error, longest=longest) or type(error).__name__


def shown(text: object, *, longest: int = 4 * LONGEST) -> str:
    r"""Return text from outside for a console or table of rich, where [brackets] would be markup.

    >>> shown("class [/b]")
    'class \\[/b]'
    """
    from rich.markup import escape  # only what is printed needs rich

    return escape(one_line(text, longest=longest))


def number_of(count: int, noun: str) -> str:
    """Return a number and what it is of.

    >>> number_of(1, "film"), number_of(1200, "frame")
    ('1 film', '1,200 frames')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def without_folder(text: str, file: Path) -> str:
    """Return a message in which a file is called by its name: its folder is nobody's business.

    >>> without_folder("/srv/x 1/a.png: is damaged", Path("/srv/x  1/a.png"))
    'a.png: is damaged'
    """
    for folder in (str(file.parent), one_line(file.parent)):
        text = text.replace(f"{folder}{os.sep}", "")
    return text


def for_xml(text: str) -> str:
    r"""Return text with "?" for what XML can't hold: most control characters, and bytes that are no text.

    >>> for_xml("a\x01b\ufffe <c>")
    'a?b? <c>'
    """
    return re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "?", text)


def out_of_memory(error: Exception) -> bool:
    """Whether an exception says that a device or the system had no memory left."""
    words = ("out of memory", "can't allocate memory", "bad_alloc", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)
