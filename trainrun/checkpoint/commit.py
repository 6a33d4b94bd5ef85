"""A directory that appears whole or not at all: files, manifest last, folder, rename, parent."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from trainrun import ranks
from trainrun.run.files import fsync

Body = memoryview | bytes
_AT_ONCE = 1 << 26  # bytes: one call never exceeds what a system writes at once
_UNSYNCED = 1 << 30  # bytes that wait in memory for the disk at most, so that no wait for it is long


def write(file: Path, bodies: Iterable[Body]) -> int:
    """Write one body after another, and have them on the disk; returns their bytes. Raises OSError."""
    count, synced = 0, 0
    with file.open("wb", buffering=0) as opened:
        for body in bodies:
            rest = memoryview(body)
            while len(rest):
                written = os.write(opened.fileno(), rest[:_AT_ONCE])
                count, rest = count + written, rest[written:]
                if count - synced >= _UNSYNCED:
                    os.fdatasync(opened.fileno())
                    synced = count
                ranks.progressed()
        os.fsync(opened.fileno())
    return count


def digest_of(bodies: Iterable[Body]) -> str:
    """SHA-256; in a thread it goes on beside what writes the same bodies."""
    digest = hashlib.sha256()
    for body in bodies:
        digest.update(body)
    return digest.hexdigest()


def commit(final: Path, files: Mapping[str, Body | Callable[[Path], Body]]) -> int:
    """Write `files`, in order, into the new directory `final`; returns its bytes.

    A function is called when its turn has come, with the temporary directory. Files and directory are on
    the disk before the rename, and that before this returns. Raises what fails and then leaves
    nothing behind; the run's folder itself is never made.
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
            write(temporary / name, [body(temporary) if callable(body) else body])
        num_bytes = sum(file.stat().st_size for file in temporary.iterdir())
        fsync(temporary)
        temporary.rename(final)
    except Exception:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    fsync(parent)
    return num_bytes
