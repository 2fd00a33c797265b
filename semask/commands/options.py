"""One way to describe the options of a command: the signature and the docstring of its function.

- A parameter before the * is positional; `list[str]` takes one or more words, `list[int]` numbers, with a default any
  number of them.
- A parameter after the * is an --option with the type of its annotation.
- A dataclass of settings, such as `training: Training`, is a section of a recipe: --training.FIELD for each field, and
  --config reads all sections from a file.
- `Annotated[dict[str, Any], Inference]` is an --option for each field of `Inference`; the dictionary has those given.
- A parameter `given` is no option: it gets the names of the settings, SECTION.FIELD, that are on the line, and `config`
  next to it the recipe. The positional `folder` takes the place of --data.root then.
"""

import argparse
import dataclasses
import difflib
import inspect
import itertools
import json
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import docstring_parser
import yaml
from jsonargparse import ArgumentError, ArgumentParser, DefaultHelpFormatter

from semask.files.schema import expected, field_hints, from_plain, quoted, require
from semask.files.text import one_line, reason
from semask.settings.recipe import Dumper, find_recipe, read_recipe

GIVEN = "given"
"""Parameter that gets the names of the settings on the line."""
CONFIG = "config"
"""Parameter that gets the recipe on the line."""
SWITCH_VALUES = ("true", "false", "null", "yes", "no", "on", "off")


class Options:
    """The options of a command.

    Args:
        function: The command; keyword arguments of its call are the options.
        name: What messages and the help call the command.

    Attributes:
        parser: What parses the line.
        sections: Parameters that are sections of a recipe, and their dataclasses.
        groups: Parameters that get the fields of a dataclass that were given, and the dataclasses.
        plans: Whether the command chooses settings for a folder by itself.
    """

    def __init__(self, function: Callable[..., int | None], name: str) -> None:
        self.function, self.name = function, name
        self.hints: dict[str, Any] = {}
        document = docstring_parser.parse(function.__doc__ or "")
        texts = [document.short_description, document.long_description]
        self.parser = ArgumentParser(
            prog=f"semask {name}",
            description="\n\n".join(text for text in texts if text),
            exit_on_error=False,
            print_config=None,
            formatter_class=self._formatter(),
        )
        self.explained = texts_of(document)
        hints = get_type_hints(function, include_extras=True)
        self.sections: dict[str, Any] = {x: hint for x, hint in hints.items() if dataclasses.is_dataclass(hint)}
        self.groups: dict[str, Any] = {x: kind for x, hint in hints.items() if (kind := fields_given(hint)) is not None}
        self.plans = GIVEN in inspect.signature(function).parameters
        if self.sections:
            self._add_recipe()
        for parameter in inspect.signature(function).parameters.values():
            if parameter.name in self.sections:
                self._add_section(parameter.name)
            elif parameter.name in self.groups:
                self._add_fields(parameter.name)
            elif parameter.name not in (GIVEN, CONFIG):
                self._add(parameter, hints[parameter.name])

    def __call__(self, arguments: list[str]) -> int:
        """Parse the words after the name of the command, and call it; returns the exit code.

        Raises:
            ValueError: If a word is unknown, missing or not admitted.
        """
        try:
            values = self.parser.parse_args(self.with_values(arguments)).as_dict()
        except ArgumentError as error:
            said = self._wrong_value(reason(error, longest=1500), arguments)
            raise ValueError(f"{said}{self._hint(arguments, said)}") from error
        if values.pop("print_config", False):
            sections = {name: values[name] for name in self.sections}
            plain = json.loads(json.dumps(sections))
            print(yaml.dump(plain, Dumper=Dumper, sort_keys=False, default_flow_style=None), end="")
            return 0
        if self.plans:
            values[GIVEN] = frozenset(self._named(arguments))
            root, folder = values["data"]["root"], values["folder"]
            if folder is not None and "data.root" in values[GIVEN] and root != folder:
                raise ValueError(
                    f"two folders are given, {one_line(folder)} and --data.root {one_line(root)}: give one"
                )
            values["data"]["root"] = root if folder is None else folder
            if values["data"]["root"] is None:
                hint = self._hint(arguments)
                raise ValueError(f"which data? give a folder, semask {self.name} FOLDER, or --data.root FOLDER{hint}")
        for name, kind in self.sections.items():
            values[name] = kind(**values[name])
        for name, kind in self.groups.items():
            fields = {field.name: values.pop(field.name) for field in dataclasses.fields(kind)}
            values[name] = {field: value for field, value in fields.items() if value is not None}
            for field, value in values[name].items():
                require(value, self.hints[field], f"--{field}")  # in the words of the line, not as Python calls it
        if self.sections:
            config = values.pop("config")
            if self.plans:
                values["config"] = config
        return self.function(**values) or 0

    def _named(self, arguments: list[str]) -> set[str]:
        """Settings, SECTION.FIELD, that are on the line itself."""
        options = {name: action.dest for action in self.parser._actions for name in action.option_strings}
        words = (word.partition("=")[0] for word in arguments)
        return {options[word] for word in words if word in options and "." in options[word]}

    def with_values(self, arguments: list[str]) -> list[str]:
        """Read a bare switch as true: --resume is --resume true."""
        completed: list[str] = []
        for argument, following in itertools.pairwise([*arguments, ""]):
            completed.append(argument)
            if argument in self._switches() and following.lower() not in SWITCH_VALUES:
                completed.append("true")
        return completed

    def _switches(self) -> set[str]:
        """Options that take true or false."""
        actions = [action for action in self.parser._actions if "{true,false" in str(action.metavar)]
        return {name for action in actions for name in action.option_strings}

    def _add(self, parameter: inspect.Parameter, hint: Any) -> None:
        """Add a parameter with a plain value."""
        positional = parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        required = parameter.default is inspect.Parameter.empty
        words: dict[Any, type[str] | type[int]] = {list[str]: str, list[int]: int}
        several = next((words[kind] for kind in (hint, *get_args(hint)) if kind in words), None)
        settings: dict[str, Any] = {"help": self.explained[parameter.name]}
        settings |= {"nargs": "+", "type": several} if several else {"type": hint}
        if not required:
            settings |= {"default": parameter.default} | ({"nargs": "*" if several else "?"} if positional else {})
        elif not positional:
            settings["required"] = True
        self.hints[parameter.name] = several or hint
        self.parser.add_argument(parameter.name if positional else f"--{parameter.name}", **settings)

    def _add_recipe(self) -> None:
        self.parser.add_argument(
            "--config",
            action=ReadRecipe,
            sections=self.sections,
            help="Recipe to start from: a .yaml file, or the name of an installed one such as ade20k/semask_tiny_fpn; "
            "options on the command line override it.",
        )
        self.parser.add_argument(
            "--print_config", type=bool, default=False, help="Print the complete recipe of these options, and stop."
        )

    def _add_section(self, name: str) -> None:
        """Add the fields of a dataclass as options --NAME.FIELD."""
        kind = self.sections[name]
        document = docstring_parser.parse(kind.__doc__)
        section = self.parser.add_argument_group(f"{name}: {document.short_description}")
        for field, hint, text in fields_of(kind):
            needed = field.default is dataclasses.MISSING
            default: dict[str, Any] = {"required": True} if needed else {"default": field.default}
            if needed and self.plans:  # the folder on the line may be it
                default, hint = {"default": None}, hint | None
            self.hints[f"{name}.{field.name}"] = hint
            section.add_argument(f"--{name}.{field.name}", type=hint, help=text, **default)

    def _add_fields(self, name: str) -> None:
        """Add the fields of a dataclass as options --FIELD, which may be left out."""
        group = self.parser.add_argument_group(self.explained[name].rstrip("."))
        for field, hint, text in fields_of(self.groups[name]):
            self.hints[field.name] = hint
            group.add_argument(f"--{field.name}", type=hint | None, default=None, help=text)

    def _formatter(self) -> type[DefaultHelpFormatter]:
        """Show the types of options in words, and not as annotations."""
        hints = self.hints

        class Formatter(DefaultHelpFormatter):
            def _get_type_str(self, action: argparse.Action) -> str | None:
                return expected(hints[action.dest]) if action.dest in hints else super()._get_type_str(action)

        return Formatter

    def _wrong_value(self, message: str, arguments: list[str]) -> str:
        """Say which values an option or word takes, where the parser says it as annotations of Python."""
        found = re.match(r'Parser key "([\w.]+)":', message)
        if found is None or found[1] not in self.hints:
            return message
        name, needs = f"--{found[1]}", expected(self.hints[found[1]])
        for word, following in itertools.pairwise([*arguments, ""]):
            option, equals, value = word.partition("=")
            if option == name:
                return f"{name} is {quoted(value if equals else following)}: give {needs}"
        return f"{found[1]}: give {needs}"

    def _hint(self, arguments: list[str], said: str = "") -> str:
        """Say what may have been meant, where options came from, and where they are explained."""
        options = [name for action in self.parser._actions for name in action.option_strings]
        unknown = [x for word in arguments if (x := word.partition("=")[0]).startswith("--") and x not in options]
        taken = [
            f"; {switch} takes true or false, not {quoted(word)}"
            for switch, word in itertools.pairwise(arguments)
            if switch in self._switches() and f"unrecognized arguments: {word}" in said
        ]
        close = [match for word in unknown for match in difflib.get_close_matches(word, options, n=1, cutoff=0.7)]
        meant = f"; did you mean {' and '.join(close)}?" if close else ""
        recipes = [one_line(file) for option, file in itertools.pairwise(arguments) if option == "--config"]
        origin = "".join(f"in {file} or on the command line; " for file in recipes)
        return f"{''.join(taken)}{meant} ({origin}see semask {self.name} --help)"


def fields_given(hint: Any) -> Any:
    """The dataclass K of a parameter that is annotated `Annotated[dict[str, Any], K]`; None for others."""
    kinds = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((kind for kind in kinds if dataclasses.is_dataclass(kind)), None)


def fields_of(kind: Any) -> list[tuple[Any, Any, str]]:
    """Fields of a dataclass with their annotations, and how its docstring explains them."""
    explained = texts_of(docstring_parser.parse(kind.__doc__))
    hints = field_hints(kind)
    return [(field, hints[field.name], explained[field.name]) for field in dataclasses.fields(kind)]


def texts_of(document: docstring_parser.Docstring) -> dict[str, str]:
    """How a docstring explains arguments or attributes, each on one line."""
    return {entry.arg_name: " ".join((entry.description or "").split()) for entry in document.params}


def recipe_values(source: str, sections: Mapping[str, Any]) -> dict[str, Any]:
    """Read a recipe as {"SECTION.FIELD": value}.

    Raises:
        ValueError: If it can't be read, or a setting is unknown or not admitted.
    """
    found: dict[str, Any] = {}
    file = find_recipe(source)
    for name, settings in read_recipe(file).items():
        if name not in sections:
            known = ", ".join(sections)
            raise ValueError(
                f"{one_line(file)}: has a section {one_line(repr(name), longest=80)}: a recipe has {known}"
            )
        try:
            values = from_plain(sections[name], settings, name)
        except ValueError as error:
            raise ValueError(f"{one_line(file)}: {error}") from error
        found |= {f"{name}.{field}": value for field, value in values.items()}
    if "model.encoder" in found:
        from semask.settings.model import require_name

        require_name(found["model.encoder"], file)
    return found


class ReadRecipe(argparse.Action):
    """Put the settings of a recipe where options would have put them.

    Not jsonargparse's own way to read files: that would import what a `class_path` names.
    """

    def __init__(self, *arguments: Any, sections: Mapping[str, Any], **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.sections = sections

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Read the recipe."""
        for name, value in recipe_values(str(values), self.sections).items():
            namespace[name] = value
        namespace[self.dest] = str(values)
