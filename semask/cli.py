"""The command line: the name of a command -> its function in commands/; imports no torch, and only what is called.

A command is a file in commands/ with a function of the same name: commands/options.py makes its options from the
signature and the docstring. A new command is a new file.
"""

import ast
import difflib
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from semask.files.text import one_line, out_of_memory, reason

if TYPE_CHECKING:
    from semask.commands.options import Options

COMMANDS = Path(__file__).parent / "commands"
LONGEST_ERROR = 2000
"""Characters of an error line: what it quotes is cut before."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; a user's mistake is one line on the standard error stream and exit code 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()
        sys.exit(code)
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError) and reader_has_gone():
            sys.exit(1)
        fail(reason(error, longest=LONGEST_ERROR))
    except ImportError as error:
        from semask.extras import explained

        message = explained(error)
        if message is None:
            raise
        fail(message)
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        hint = "use a smaller --scale, --tile or batch, or --precision bf16"
        fail(f"there is not enough memory ({reason(error)}): {hint}")
    except KeyboardInterrupt:
        print("semask: stopped; training goes on with --resume, tiles and films with the same command", file=sys.stderr)
        sys.exit(130)


def reader_has_gone() -> bool:
    """Whether nobody reads the output any more, as of `semask --help | head -1`; what is left of it is dropped then."""
    try:
        print(flush=True)  # a flush that failed has thrown away what would fail again
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def fail(message: str) -> NoReturn:
    """End with the one line of an error; with SEMASK_TRACEBACK set, raise the exception that is being handled."""
    if os.environ.get("SEMASK_TRACEBACK"):
        raise
    print(f"semask: error: {message}", file=sys.stderr)
    sys.exit(2)


def run(arguments: list[str]) -> int:
    """Find the command, parse its options and call it; returns the exit code.

    Raises:
        ValueError: If there is no such command, or an option is unknown, missing or not admitted.
    """
    known = commands()
    name, *rest = arguments or [""]
    if name in ("-h", "--help"):
        print(overview(known))
        return 0
    if name == "--version":
        from semask import __version__

        print(f"semask {__version__}")
        return 0
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        said = f"{one_line(name, longest=80)} is no command" if name else "no command was given"
        hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(known)}"
        raise ValueError(f"{said}: {hint} (see semask --help)")
    return describe(name)(rest)


def commands() -> dict[str, str]:
    """The commands and what they do, by the names of the files; nothing is imported."""
    found = {}
    for path in sorted(COMMANDS.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == path.stem for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def overview(known: dict[str, str]) -> str:
    """Text of `semask --help`."""
    lines = [f"  {name:<10}{summary.rstrip('.')}" for name, summary in known.items()]
    return "\n".join(
        [
            "usage: semask COMMAND ...",
            "",
            "Semantic segmentation with SeMask.",
            "",
            "commands:",
            *lines,
            "",
            "options:",
            "  --help    Show this, or with a command its options",
            "  --version Show the version",
        ]
    )


def describe(name: str) -> "Options":
    """Import a command, and describe its options.

    Raises:
        ValueError: If several processes were started, and the command does not share its work with others.
    """
    from semask.commands.options import Options
    from semask.prediction.processes import require_one

    module = import_module(f"semask.commands.{name}")
    if not getattr(module, "SHARED", False):
        require_one(name)
    return Options(getattr(module, name), name)


if __name__ == "__main__":
    main()
