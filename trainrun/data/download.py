"""Download one file from the network, whole and with the published MD5, or not at all."""

from __future__ import annotations

import hashlib
import urllib.request
from http.client import HTTPException
from pathlib import Path

from trainrun.vocabulary.errors import DataError

_LARGEST_BYTES = 1 << 30  # five times the largest archive of a data set here; it passes through memory


def download_file(name: str, url: str, md5: str, path: Path) -> None:
    """Write the content of `url` to `path`. Raises DataError for another content than `md5` says."""
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            body = response.read(_LARGEST_BYTES)
    except (OSError, HTTPException) as error:
        raise DataError(f"data.download: cannot fetch {name}: {error}") from None
    if hashlib.md5(body, usedforsecurity=False).hexdigest() != md5:
        file = url.rpartition("/")[2]
        raise DataError(
            f"data.download: {file} of {name} does not have the published MD5: it is damaged or has changed"
        )
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(body)
        part.rename(path)
    except OSError as error:
        raise DataError(f"data.root: cannot write {path}: {error}") from None
