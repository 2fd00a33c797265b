"""Places that are not on this machine: which URLs are accepted. Nothing is asked of any of them here."""

import re

from semask.files.text import one_line

PACKAGES = {"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}
"""Scheme of a URL -> the package that reads it."""
_CREDENTIALS = re.compile(r"//[^/?#]*@")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?")
_PART = re.compile(r"[^/\\?#%*\[\]{}]+")


def is_url(text: str) -> bool:
    """Whether a text is meant as a URL, or as one of the chains of URLs that fsspec knows, and not as a path.

    >>> is_url("s3://bucket/scenes"), is_url("scenes/a"), is_url("C:/scenes")
    (True, False, False)
    """
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)", text) is not None


def require_url(url: str) -> str:
    """Return a URL without a / at its end, if it is one that is read.

    Only http, https, s3 and gs are: other schemes of fsspec open archives, or run what a file says. Credentials have no
    place in a URL, which is printed and saved.

    Raises:
        ValueError: If it has another scheme, credentials, a query, or parts that lead elsewhere.
    """
    if _CREDENTIALS.search(url):
        said = one_line(_CREDENTIALS.sub("//***@", url))
        raise ValueError(f"{said}: credentials in a URL would be printed and saved: give them as docs/shards.md says")
    scheme, separator, rest = url.partition("://")
    if scheme not in PACKAGES or not separator:
        raise ValueError(f"{one_line(url)}: give a folder, or a URL that begins with {', '.join(PACKAGES)} and ://")
    if re.search(r"[?#]", rest):
        raise ValueError(f"{one_line(re.sub('[?#].*', '', url))}: give the URL without what follows ? or #")
    parts = rest.rstrip("/").split("/")
    wrong = [part for part in parts[1:] if not _PART.fullmatch(part) or part in (".", "..") or not part.isprintable()]
    if wrong or not _HOST.fullmatch(parts[0]):
        raise ValueError(f"{one_line(url)}: not a URL of a folder: expected {scheme}://HOST-OR-BUCKET/FOLDER")
    return f"{scheme}://{'/'.join(parts)}"
