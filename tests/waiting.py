"""Waiting for another process: as long as a slow machine needs, and no longer than one that hangs."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

HANG_S = 600  # no test asserts a time; whatever takes ten minutes here will never come


def wait_until(is_so: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something is so. Fails when `process`, which would make it so, ends before."""
    deadline = time.monotonic() + HANG_S
    while not is_so():
        if process is not None and process.poll() is not None:
            assert is_so(), process.communicate()
            return
        assert time.monotonic() < deadline, "it hangs"
        time.sleep(0.02)
