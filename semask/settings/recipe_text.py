"""A recipe as text, with the reason behind each setting that has one."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from semask.files.text import one_line
from semask.settings.recipe import Dumper

COLUMN = 44
"""Where the reasons begin."""
WIDTH = 160
"""Characters of a line that has a reason."""


def recipe_text(sections: Mapping[str, Mapping[str, Any]], reasons: Mapping[str, str], head: Sequence[str] = ()) -> str:
    """Write a recipe that `read_recipe` reads, with comments.

    Args:
        sections: Section -> setting -> value.
        reasons: SECTION.SETTING -> why it is so.
        head: Lines of comment at the top.
    """
    lines = [f"# {one_line(line, longest=WIDTH)}" for line in head]
    for section, values in sections.items():
        lines.append(f"{section}:")
        for name, value in values.items():
            lines += _setting(name, value, reasons.get(f"{section}.{name}"))
    return "\n".join(lines) + "\n"


def _setting(name: str, value: Any, reason: str | None) -> list[str]:
    plain = json.loads(json.dumps(value))  # tuples as lists
    if isinstance(plain, dict) and plain:
        entries = [f"    {_inline(key)}: {_inline(entry)}" for key, entry in plain.items()]
        lines = [f"  {name}:", *entries]
    else:
        lines = [f"  {name}: {_inline(plain)}"]
    if reason is None:
        return lines
    said = one_line(reason, longest=2 * WIDTH)
    if len(lines) > 1 or len(lines[0]) >= COLUMN or COLUMN + len(said) > WIDTH:
        return [f"  # {said}", *lines]
    return [f"{lines[0]:<{COLUMN}}# {said}"]


class _OneLine(Dumper):
    """Writes line breaks in a text as escapes: a key may not have a break of the file."""

    def represent_scalar(self, tag: str, value: str, style: str | None = None) -> yaml.ScalarNode:
        """Quote a text with line breaks."""
        broken = value.splitlines() not in ([], [value])
        return super().represent_scalar(tag, value, '"' if broken else style)


def _inline(value: Any) -> str:
    """A value of YAML on one line."""
    text = yaml.dump(value, Dumper=_OneLine, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n").removesuffix("...").rstrip("\n")
