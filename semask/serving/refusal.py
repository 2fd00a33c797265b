"""Why a request is not answered, in the one form that all errors have."""

from collections.abc import Mapping
from typing import Any

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "body_too_slow",
    413: "too_large",
    415: "unsupported_media_type",
    421: "wrong_host",
    422: "invalid",
    429: "overloaded",
    499: "client_gone",
    500: "internal_error",
    502: "not_fetched",
    503: "unavailable",
    504: "deadline_exceeded",
}
"""Status of an answer -> the code of its error, where nothing more exact is known."""


class Refusal(Exception):
    """A request is answered with an error.

    Args:
        status: HTTP status.
        message: One line for the client: what came, what was expected, what to do. No path of this machine.
        code: A word for programs; None for that of the status.
        headers: Further headers of the answer.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})
        self.code = code or CODES.get(status, "error")


def error_body(code: str, message: str, request_id: str) -> dict[str, Any]:
    """What the body of an answer with an error says."""
    return {"error": {"code": code, "message": message, "request_id": request_id}}


def late(seconds: float) -> Refusal:
    """The deadline of a request has passed."""
    return Refusal(504, f"not done within {seconds:g} s: send a smaller image, ask for more time, or try again later")
