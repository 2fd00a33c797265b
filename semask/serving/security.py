"""Who may ask: tokens, the host that a request names, and web pages of other origins."""

import base64
import hmac
import os
import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from semask.files.hosts import is_loopback
from semask.files.reading import read_text, require_file
from semask.files.schema import quoted
from semask.serving.refusal import Refusal
from semask.settings.serving import Serving

VARIABLE = "SEMASK_TOKEN"
"""Environment variable with the token."""
SHORTEST = 16
"""Characters of a token."""
MOST_TOKENS = 32
TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
"""Tokens that a header can carry."""


def read_tokens(settings: Serving, environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Read the tokens that requests may carry.

    Raises:
        ValueError: If none is given and the server can be reached from outside, or one can't be used.
    """
    if settings.token_file is not None:
        path = require_file(settings.token_file, otherwise="give a file with a token")
        tokens = tuple(read_text(path, most=2**16).split())
        if not 1 <= len(tokens) <= MOST_TOKENS:
            raise ValueError(f"{settings.token_file}: has {len(tokens)} tokens: give 1 to {MOST_TOKENS}, a line each")
    else:
        tokens = tuple(environment.get(VARIABLE, "").split()[:1])
    if not all(TOKEN.fullmatch(token) for token in tokens):
        raise ValueError(
            f"a token is shorter than {SHORTEST} characters, or has others than letters, digits and . _ ~ + / = -: "
            "make one with python -c 'import secrets; print(secrets.token_urlsafe(32))'"
        )
    if not tokens and not is_loopback(settings.host):
        raise ValueError(
            f"host is {quoted(settings.host)}, which others can reach: set a token in the environment variable "
            f"{VARIABLE}, or give --token_file FILE"
        )
    return tokens


def check_origins(origins: Sequence[str]) -> None:
    """Refuse what is no origin of web pages.

    Raises:
        ValueError: The first that is none.
    """
    for origin in origins:
        try:
            url = urlsplit(origin)
            right = url.scheme in ("http", "https") and bool(url.hostname) and origin == f"{url.scheme}://{url.netloc}"
            right = right and "@" not in url.netloc and "*" not in origin and (url.port is None or url.port > 0)
        except ValueError:
            right = False
        if not right:
            raise ValueError(
                f"origins has {quoted(origin)}: give addresses such as https://example.org, without a path"
            )


def password_of(credentials: bytes) -> bytes:
    """Password in the header of a Basic authorization; empty if there is none."""
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except ValueError:
        return b""


class Guard:
    """Lets requests pass, or says why not.

    Args:
        settings: Where the server listens.
        tokens: Tokens that requests may carry; none: everybody on this machine may ask.
    """

    def __init__(self, settings: Serving, tokens: Sequence[str]) -> None:
        self.tokens = [token.encode() for token in tokens]
        self.local = is_loopback(settings.host) and not tokens

    def require_host(self, host: str) -> None:
        """Refuse a request that a web page sends under a name of its own for this machine (DNS rebinding).

        Raises:
            Refusal: 421, where no token protects the server.
        """
        if self.local:
            try:
                name = urlsplit(f"//{host}").hostname or ""
            except ValueError:
                name = ""
            if not is_loopback(name):
                raise Refusal(421, "the server is for this machine: call it by localhost or 127.0.0.1")

    def require_token(self, authorization: str | None, *, basic: bool = False) -> None:
        """Refuse a request without a token.

        Args:
            authorization: The header.
            basic: Whether the token may come as the password of a user of any name, for clients that have no other way.

        Raises:
            Refusal: 401.
        """
        if not self.tokens:
            return
        kind, _, token = (authorization or "").partition(" ")
        given = token.strip().encode("latin-1", "replace")
        if basic and kind.lower() == "basic":
            kind, given = "bearer", password_of(given)
        # All are compared, each in a time that does not depend on where they differ.
        right = [hmac.compare_digest(given, known) for known in self.tokens]
        if kind.lower() != "bearer" or not any(right):
            raise Refusal(
                401, "give the token of the server: Authorization: Bearer TOKEN", headers={"WWW-Authenticate": "Bearer"}
            )

    def require_owner(self) -> None:
        """Refuse to change anything where no token says who asks.

        Raises:
            Refusal: 403.
        """
        if not self.tokens:
            raise Refusal(403, "this needs a token: start the server with one")
