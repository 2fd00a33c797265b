"""Recipes: YAML files of settings, read as what they may be from anybody: text with numbers, and no more."""

import re
from pathlib import Path
from typing import Any

import yaml

from semask.files.reading import read_text, require_shallow
from semask.files.text import one_line, reason

MOST = 2**18
"""Bytes of a recipe; ours have 1,500."""
DEEPEST = 8
"""Levels of nesting: a section, a setting, its own names and values."""


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which reads 1e-4 as the number that it is, and takes no name twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Make a dictionary of a node.

        Raises:
            ValueError: If a name is given twice, or is no text.
        """
        names = [key.value if isinstance(key, yaml.ScalarNode) else None for key, _ in node.value]
        if None in names:
            raise ValueError("a name of a setting is no text")
        seen: set[str | None] = set()
        for name in names:
            if name in seen:
                raise ValueError(f"{one_line(name, longest=80)} is given twice")
            seen.add(name)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        return mapping


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)|[-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*)"),
    list("-+0123456789."),
)


def read_recipe(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read the sections of a recipe.

    Args:
        path: YAML file; without anchors, aliases and tags, none of which a recipe needs.

    Returns:
        Section -> name of a setting -> value, as plain YAML values.

    Raises:
        ValueError: If it can't be read, is no such YAML, or is nested too deeply.
    """
    text = read_text(path, most=MOST, otherwise="give the path of a recipe (.yaml)")
    try:
        require_plain(text)
        values = yaml.load(text, Loader)
        require_shallow(values, DEEPEST)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{one_line(path)}: not a readable recipe ({reason(error)})") from error
    if not isinstance(values, dict):
        raise ValueError(f"{one_line(path)}: not a recipe: expected sections such as model and data")
    return {str(name): {} if section is None else section for name, section in values.items()}


def require_plain(text: str) -> None:
    """Refuse YAML that would be built into more than its text, before anything of it is built.

    Raises:
        ValueError: If it has aliases or tags, several documents, or is nested too deeply.
    """
    depth = documents = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise ValueError(f"it has an anchor or alias in line {line}: write the value out")
        if getattr(event, "tag", None):
            raise ValueError(f"it has a tag in line {line}: leave it out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if depth > DEEPEST or documents > 1:
            raise ValueError("it is nested too deeply" if depth > DEEPEST else "it is more than one document")
