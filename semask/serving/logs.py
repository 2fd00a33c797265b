"""Logs: a line of JSON for each event, on the standard error stream."""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import Any

from semask.files.text import one_line

LOGGER = logging.getLogger("semask.serving")
MOST_TEXT = 4000
"""Characters of a text in a line."""


class JsonLines(logging.Formatter):
    """Writes records as JSON; those of other libraries too."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record on one line of ASCII, so that nothing in it is taken for a line of its own."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {"time": at, "level": record.levelname.lower()}
        fields = getattr(record, "fields", None)
        if fields is None:
            line |= {"event": "message", "logger": record.name, "message": record.getMessage()[:MOST_TEXT]}
        else:
            line |= {"event": record.getMessage(), **fields}
        if record.exc_info and record.exc_info[1] is not None:
            line["traceback"] = "".join(traceback.format_exception(record.exc_info[1]))[-4 * MOST_TEXT :]
        return json.dumps(line, default=str)


def set_up() -> None:
    """Let this room and the server's library log as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for logger, level in ((LOGGER, logging.INFO), (logging.getLogger("uvicorn"), logging.WARNING)):
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)


def log(event: str, *, level: int = logging.INFO, error: BaseException | None = None, **fields: Any) -> None:
    """Write an event.

    Args:
        event: A word or two.
        level: As `logging` has them.
        error: What was raised, for a stack trace in the log.
        fields: What is to be known of it; texts are cut.
    """
    plain = {name: one_line(x, longest=MOST_TEXT) if isinstance(x, str) else x for name, x in fields.items()}
    LOGGER.log(level, event, extra={"fields": plain}, exc_info=error)
