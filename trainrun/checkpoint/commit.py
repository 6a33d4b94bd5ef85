"""A directory that appears whole or not at all: files, manifest last, folder, rename, parent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from trainrun import ranks
from trainrun.run.files import fsync


def commit(final: Path, files: Mapping[str, memoryview | bytes]) -> int:
    """Write `files`, in order, into the new directory `final`; returns its bytes.

    Every file and the directory are on the disk before the rename, and the rename before this
    returns. Raises OSError and then leaves nothing behind; the run's folder itself is never made.
    """
    parent = final.parent
    if not parent.is_dir():
        parent.mkdir()
        fsync(parent.parent)
    temporary = parent / f".tmp-{final.name}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        for name, body in files.items():
            with (temporary / name).open("wb", buffering=0) as file:
                rest = memoryview(body)
                while len(rest):  # in pieces, so that one call never exceeds what a system writes at once
                    rest = rest[os.write(file.fileno(), rest[: 1 << 26]) :]
                    ranks.progressed()
                os.fsync(file.fileno())
        fsync(temporary)
        temporary.rename(final)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync(parent)
    return sum(len(body) for body in files.values())
