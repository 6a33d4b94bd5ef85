"""One owner of a run's folder: an flock that dies with its process."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import IO

from trainrun.run.files import open_no_link
from trainrun.vocabulary.errors import FolderBusyError, StorageError


def lock(run_dir: Path) -> IO[str]:
    """Hold the folder until the returned file is closed; raises FolderBusyError naming the holder's pid."""
    try:
        file = open(run_dir / ".lock", "a+", opener=open_no_link)  # noqa: SIM115  held for the process's life
    except OSError as error:
        raise StorageError(f"{run_dir}: cannot open its .lock: {error.strerror}") from None
    if not _taken(file):
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise FolderBusyError(f"{run_dir} is in use by process {holder}")
    os.register_at_fork(after_in_child=file.close)  # else loader processes hold it when this one is killed
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def is_held(run_dir: Path) -> bool:
    """Whether a process owns the folder. Looks without writing, for a moment that `lock` waits out."""
    try:
        with open(run_dir / ".lock", opener=open_no_link) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # held, or not ours to look at
    return False


def _taken(file: IO[str]) -> bool:
    """Take the lock; tries again for half a second, because `is_held` may be looking."""
    until = time.monotonic() + 0.5
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
