"""What a command imports, seen in a process of its own."""

import json
import subprocess
import sys

CODE = """
import json, sys
from semask.cli import main
code = 0
try:
    {code}
except SystemExit as stop:
    code = stop.code or 0
print(json.dumps([sorted(sys.modules), code]))
"""


def imported(code: str) -> tuple[set[str], int]:
    """Run code that may call `main`; gives the names of the modules that are loaded after it, and the exit code."""
    run = subprocess.run(
        [sys.executable, "-c", CODE.format(code=code)], capture_output=True, text=True, check=True, timeout=240
    )
    modules, status = json.loads(run.stdout.splitlines()[-1])
    return set(modules), status
