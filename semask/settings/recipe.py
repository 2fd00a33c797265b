"""Recipes: YAML files of settings, read as what they may be from anybody: text with numbers, and no more."""

import difflib
import re
from pathlib import Path
from typing import Any

import yaml

from semask.files.reading import read_text, require_shallow
from semask.files.text import one_line, reason

RECIPES = Path(__file__).parents[1] / "recipes"
"""Folder of the recipes that are installed with the package, DATASET/ENCODER_DECODER.yaml."""
ENDINGS = (".yaml", ".yml")
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


class Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which quotes the texts that `Loader` would read as numbers."""


for part in (Loader, Dumper):
    part.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)|[-+]?(\d[\d_]*\.[\d_]*|\.\d[\d_]*)"),
        list("-+0123456789."),
    )


def recipe_names() -> list[str]:
    """Names of the installed recipes, for example ade20k/semask_tiny_fpn."""
    return sorted(path.relative_to(RECIPES).with_suffix("").as_posix() for path in RECIPES.glob("*/*.yaml"))


def is_recipe(source: str | Path) -> bool:
    """Whether a recipe is meant, by its ending or as one of `recipe_names`."""
    return Path(source).suffix in ENDINGS or (not Path(source).exists() and str(source) in recipe_names())


def find_recipe(source: str | Path) -> Path:
    """Find the file of a recipe.

    Args:
        source: Path of a YAML file, or the name of an installed recipe, for example ade20k/semask_tiny_fpn.

    Raises:
        ValueError: If it is neither.
    """
    path = Path(source)
    name = str(source).removesuffix(".yaml")
    if path.exists():
        return path
    if name in recipe_names():
        return RECIPES / f"{name}.yaml"
    if path.suffix in ENDINGS:
        return path  # reading it says that it is missing
    raise ValueError(
        f"{one_line(source)}: no such recipe: give the path of a .yaml file, or the name of an installed one "
        f"({suggested(name)})"
    )


def suggested(name: str) -> str:
    """Which installed recipes may be meant by a name that none has."""
    known = recipe_names()
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {' or '.join(close)}?" if close else f"the first of {len(known)} names is {known[0]}"


def read_recipe(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read the sections of a recipe.

    Args:
        path: YAML file, or the name of an installed recipe; without anchors, aliases and tags, which no recipe needs.

    Returns:
        Section -> name of a setting -> value, as plain YAML values.

    Raises:
        ValueError: If it can't be read, is no such YAML, or is nested too deeply.
    """
    path = find_recipe(path)
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
