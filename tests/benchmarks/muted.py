"""Keeps what contestants print out of the results."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def muted(log: Path) -> Iterator[None]:
    """Within, all that the process prints goes to `log`, whose end is shown where something fails."""
    sys.stdout.flush()
    before = [os.dup(number) for number in (1, 2)]
    with log.open("wb", buffering=0) as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    try:
        yield
    except Exception:
        os.write(before[1], log.read_bytes()[-2000:])
        raise
    finally:
        sys.stdout.flush()
        for number, kept in zip((1, 2), before, strict=True):
            os.dup2(kept, number)
            os.close(kept)
