"""One owner of a run's folder: an flock that dies with its process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO

from trainrun.errors import FolderBusy


def lock(run_dir: Path) -> IO[str]:
    """Hold the folder until the returned file is closed; raises FolderBusy naming the holder's pid."""
    file = (run_dir / ".lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise FolderBusy(f"{run_dir} is in use by process {holder}") from None
    os.register_at_fork(after_in_child=file.close)  # else loader processes hold it when this one is killed
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file
