"""Whether there is a network: known in seconds, where the libraries that download try again for minutes."""

import contextlib
import socket
import threading
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

from huggingface_hub import constants

PATIENCE = 5.0
"""Seconds that a server, or the proxy before it, may take to answer that it is there."""


def unreachable(address: str) -> str | None:
    """Say why nobody answers at an address, or None. Only a connection is made, nothing is sent."""
    url = urlsplit(address)
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and not urllib.request.proxy_bypass(url.hostname or ""):
        url = urlsplit(proxy if "//" in proxy else f"//{proxy}", scheme="http")
    place = (url.hostname or "", url.port or {"https": 443}.get(url.scheme, 80))
    said = [f"no answer in {PATIENCE:.0f} s"]

    def connect() -> None:
        try:
            socket.create_connection(place, timeout=PATIENCE).close()
            said.clear()
        except (OSError, ValueError) as error:  # ValueError: a name that can't be one
            said[:] = [str(error)]

    attempt = threading.Thread(target=connect, daemon=True)  # looking up a name can take longer than any limit
    attempt.start()
    attempt.join(PATIENCE)
    return f"{place[0]} can't be reached: {said[0]}" if said else None


@contextlib.contextmanager
def hub() -> Iterator[None]:
    """Ask the Hugging Face Hub for something; if it can't be reached only what was downloaded before is there.

    Raises:
        ConnectionError: If it can't be reached, and what was asked for is not there.
    """
    if constants.HF_HUB_OFFLINE or (fault := unreachable(constants.ENDPOINT)) is None:
        yield
        return
    constants.HF_HUB_OFFLINE = True  # or each file is asked for again and again
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and not isinstance(error, OSError):
            raise  # a name that can't be one, or a file that was there and is no good
        raise ConnectionError(fault) from error
    finally:
        constants.HF_HUB_OFFLINE = False
