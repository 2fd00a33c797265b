"""Published weights: from Google Drive into the usual cache, and converted there.

A file lies in the cache under its name only when it is complete. What was downloaded when a process ended is next to
it and is continued by the next one.
"""

import os
import zipfile
from pathlib import Path

from filelock import FileLock
from huggingface_hub import cached_assets_path, constants

from semask.checkpoints.published import Published
from semask.files.network import unreachable
from semask.files.text import reason

TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as broken."""
RETRIES = 3
"""How often a broken connection is made again."""


def cache() -> Path:
    """Folder of the published models, in the cache of huggingface_hub: HF_ASSETS_CACHE or HF_HOME choose another."""
    return cached_assets_path("semask", namespace="published")


def published_checkpoint(published: Published) -> Path:
    """Find the converted checkpoint of a published model in the cache; download and convert it first if need be.

    Raises:
        ValueError: If it can't be downloaded, or the file is not what was published.
    """
    path = cache() / f"{published.name}.safetensors"
    if not path.is_file():
        from semask.checkpoints.official import convert_published

        with FileLock(f"{path}.lock"):
            if not path.is_file():
                convert_published(fetch(published), published, out=path)
    return path


def fetch(published: Published) -> Path:
    """Find the original file of a published model in the cache; download it first if need be.

    Raises:
        ValueError: If it can't be downloaded; what has arrived is kept and the next call goes on from there.
    """
    path = cache() / f"{published.name}.pth"
    if path.is_file():
        return path
    if constants.HF_HUB_OFFLINE:
        raise ValueError(by_hand(published, "HF_HUB_OFFLINE is set"))
    with FileLock(f"{path}.lock"):
        if not path.is_file():
            arriving = path.with_suffix(".arriving")
            download(published, arriving)
            if not is_checkpoint(arriving):
                arriving.unlink()
                raise ValueError(by_hand(published, "what came is no weight file but probably a page of Google Drive"))
            os.replace(arriving, path)
    return path


def download(published: Published, file: Path) -> None:
    """Download the original file, going on where an earlier download ended.

    Raises:
        ValueError: If that failed.
    """
    if (fault := unreachable(published.url)) is not None:  # gdown would try again for minutes
        raise ValueError(by_hand(published, fault))
    import gdown
    from gdown.exceptions import DownloadError

    def attempt() -> None:
        start = f"Downloading {published.name}, licence {published.licence}\n"
        gdown.download(
            published.url,
            str(file),
            use_cookies=False,
            resume=True,
            timeout=TIMEOUT,
            retries=RETRIES,
            log_messages={"start": start},
        )

    before = arrived(file)
    try:
        try:
            attempt()
        except DownloadError:
            # A server may refuse to go on: it can't, the file is another one now, or nothing was missing any more.
            if not before or arrived(file) != before:
                raise
            for part in before:
                part.unlink()
            attempt()
    except (DownloadError, OSError) as error:
        raise ValueError(by_hand(published, reason(error))) from error


def arrived(file: Path) -> dict[Path, int]:
    """Unfinished downloads of a file, which gdown names FILE????????.part, and their sizes in bytes."""
    return {part: part.stat().st_size for part in file.parent.glob(f"{file.name}????????.part")}


def is_checkpoint(file: Path) -> bool:
    """Tell weights (a torch archive to its end, or a pickle) from the page that Drive shows when it refuses."""
    with open(file, "rb") as opened:
        return zipfile.is_zipfile(file) or opened.read(1) == b"\x80"


def by_hand(published: Published, reason: str) -> str:
    """Say why there is no file, and how to get it all the same."""
    return (
        f"{published.name}: not downloaded ({reason}): try again later, or open {published.page} in a browser and run "
        f"semask convert FILE --published {published.name} --out {published.name}.safetensors"
    )
