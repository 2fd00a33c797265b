"""What the processes of a server say to each other: a line of JSON, then blocks of bytes. Nothing is pickled.

The process that decodes images of anybody may have been taken over by one: what it sends is data, of bounded size.
"""

import json
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

MOST_HEAD = 2**20
"""Bytes of a line of JSON."""
MOST_PARTS = 1024
"""Blocks of a message."""
MOST_PART = 2**35
"""Bytes of a block, where nothing smaller is expected."""
Block = bytes | memoryview
"""Bytes that are sent; what has other items is sent as bytes."""


class Message(NamedTuple):
    """What came."""

    head: dict[str, Any]
    parts: list[bytes]


def send(connection: Connection, head: dict[str, Any], parts: Sequence[Block] = ()) -> None:
    """Send a message.

    Raises:
        OSError: If the other process is gone.
    """
    connection.send_bytes(json.dumps({**head, "parts": len(parts)}).encode())
    for part in parts:
        connection.send_bytes(part)


def receive(connection: Connection, *, most: int = MOST_PART) -> Message:
    """Wait for a message.

    Args:
        connection: Where from.
        most: Bytes that a block may have.

    Raises:
        OSError: If a block is larger.
        EOFError: If the other process is gone.
        ValueError: If it is no message.
    """
    head = json.loads(connection.recv_bytes(MOST_HEAD))
    count = head.pop("parts", None) if isinstance(head, dict) else None
    if not isinstance(count, int) or not 0 <= count <= MOST_PARTS:
        raise ValueError("no message of a process of the server")
    return Message(head, [connection.recv_bytes(most) for _ in range(count)])
