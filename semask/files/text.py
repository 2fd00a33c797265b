"""Text from outside (file names, class names, libraries' messages) made safe to show, and short enough to read."""

import unicodedata

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


def for_xml(text: str) -> str:
    """Return text with "?" for the characters that XML can't hold: most control characters, and what is no text."""
    return "".join(c if c in "\t\n\r" or " " <= c < "\ud800" or "\ue000" <= c and c not in "\ufffe\uffff" else "?" for c in text)


def out_of_memory(error: Exception) -> bool:
    """Whether an exception says that a device or the system had no memory left."""
    words = ("out of memory", "can't allocate memory", "bad_alloc", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)
