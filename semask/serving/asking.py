"""What a request asks for besides its image: the form of the answer, the deadline, tiles."""

import re
from typing import NamedTuple

from semask.serving.formats import FORMS, Form
from semask.serving.refusal import Refusal
from semask.settings.serving import Serving

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Names of requests that are taken from the client."""
TIMEOUT = "x-request-timeout"
"""Header with the seconds that a request has; `?timeout=` says the same."""
NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")


class Asked(NamedTuple):
    """What a request asks for."""

    form: str
    tile: int | None
    seconds: float
    """Until the answer."""


def form_of(name: str | None, accept: str) -> str:
    """Choose the form of an answer.

    Args:
        name: What `?format=` says; it counts more.
        accept: The header Accept.

    Raises:
        Refusal: 406 if there is no such form, 422 if its name is unknown.

    >>> form_of(None, "image/png, */*;q=0.1"), form_of("npy", "*/*"), form_of(None, "*/*")
    ('png', 'npy', 'json')
    """
    if name is not None:
        if name not in FORMS:
            raise Refusal(422, f"there is no such format: ask for one of {', '.join(FORMS)}")
        return installed(name, FORMS[name])
    for media, _ in sorted(weights(accept).items(), key=lambda entry: -entry[1]):
        for known, form in FORMS.items():
            if media in ("*/*", form.media) or media == f"{form.media.partition('/')[0]}/*":
                return installed(known, form)
    offered = ", ".join(form.media for form in FORMS.values())
    raise Refusal(406, f"Accept names no form that there is: {offered}")


def installed(name: str, form: Form) -> str:
    """Refuse a form that needs what the server does not have.

    Raises:
        Refusal: 406.
    """
    if not form.installed:
        raise Refusal(406, f"this server can't answer {name}: it lacks {' or '.join(form.packages)}")
    return name


def weights(accept: str) -> dict[str, float]:
    """Media types that a header Accept names, with their weights; what is damaged or unwanted is left out."""
    found: dict[str, float] = {}
    for entry in accept[:2000].split(",") if accept.strip() else ["*/*"]:
        media, *parameters = (part.strip().lower() for part in entry.split(";"))
        weight = next((x.removeprefix("q=") for x in parameters if x.startswith("q=")), "1")
        if NUMBER.fullmatch(weight) and float(weight) > 0:
            found[media] = min(float(weight), 1.0)
    return found


def seconds_of(query: float | None, header: str | None, settings: Serving) -> float:
    """Seconds that a request has.

    Args:
        query: What the request asks for.
        header: What its client waits for; more than it may be counts as that.
        settings: What it may be.

    Raises:
        Refusal: 422 if it is no number, 0, or what is asked for more than it may be.
    """
    if query is None and header is not None:
        if not NUMBER.fullmatch(header.strip()):
            raise Refusal(422, "X-Request-Timeout is no number of seconds: give one such as 2.5")
        query = min(float(header), settings.max_deadline)
    if query is None:
        return settings.deadline
    if not 0 < query <= settings.max_deadline:
        raise Refusal(422, f"timeout has to be above 0 and up to {settings.max_deadline:g} s")
    return query


def tile_of(asked: int | None, size: tuple[int, int], *, scaled: bool, able: bool, settings: Serving) -> int | None:
    """Side of the tiles in which an image is segmented; None for one piece.

    Args:
        asked: What the request says; None: nothing.
        size: Height and width of the image.
        scaled: Whether the model makes every image fit into a size of its own.
        able: Whether the model can be used in tiles.
        settings: When tiles are used without being asked for.

    Raises:
        Refusal: 422 if the tile can't be, or the model can't be used in tiles.
    """
    large = not scaled and size[0] * size[1] > settings.tile_above
    tile = asked if asked is not None else settings.tile if large else 0
    if tile == 0:
        return None
    if tile < 2 * settings.overlap:
        raise Refusal(422, f"tile is {tile}: give {2 * settings.overlap} or more, twice what tiles share")
    if not able:
        if asked is None:
            return None
        raise Refusal(422, "this model gives labels only and can't be used in tiles: leave out tile")
    return tile
