"""A contest: every loop is set up in this process, then they take turns; what they print is kept away."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import commands
from turns import Contestant, Turn, race

Loops = Mapping[str, Callable[[Contestant], object]]


def contest(loops_in: Callable[[Path], Loops], steps: int, turns: int, warm_up: int) -> dict[str, list[Turn]]:
    """The turns of each loop; `loops_in` is given a folder for their files."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        commands.enter(folder)
        with muted(folder / "contestants.log"):
            contestants = {name: Contestant(loop) for name, loop in loops_in(folder).items()}
            return race(contestants, steps, turns, warm_up)


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
        sys.stdout.flush()
        os.write(before[1], log.read_bytes()[-2000:])
        raise
    finally:
        sys.stdout.flush()
        for number, kept in zip((1, 2), before, strict=True):
            os.dup2(kept, number)
            os.close(kept)
