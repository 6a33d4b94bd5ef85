"""Memory: how much is available (cgroups included), how much a process took, and a limit on it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

from trainrun.runtime.usage import held_bytes, peak_bytes
from trainrun.vocabulary.errors import OutOfMemoryError

SPARED = 0.1  # of the available memory: a machine without any to spare swaps
_EVERY_S = 0.01  # between looks at the memory: allocations of a step take longer to fill what is spared
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_bytes(text: str) -> int:
    """`2GiB`, `800MB`, `1e9` -> bytes. Raises ValueError for what is no size."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kKMGT]?)(i?)[bB]?", text.strip())
    if not match or not float(match[1]):
        raise ValueError(f"must be a size such as 2GiB or 800MB, got {text}")
    unit: int = (1024 if match[3] else 1000) ** _UNITS[match[2].upper()]
    return round(float(match[1]) * unit)


def available_bytes(root: Path) -> int | None:
    """What a process can take without swapping, of the machine or its control groups (cgroups), if known."""
    limits = [*_of_groups(root)]
    if (available := _number_in(root / "proc/meminfo", "MemAvailable")) is not None:
        limits.append(available)
    else:
        with contextlib.suppress(OSError, ValueError):
            limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)


def _number_in(file: Path, name: str) -> int | None:
    """The bytes that a file of the system gives in kB under a name; None where it does not."""
    with contextlib.suppress(OSError):
        if match := re.search(rf"^{name}:\s+(\d+) kB", file.read_text(), re.M):
            return int(match[1]) * 1024
    return None


def _of_groups(root: Path) -> Iterator[int]:
    """The memory left to each control group of this process, of both versions."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                files = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"
            elif "memory" in controllers.split(","):
                names = "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"
                files = root / "sys/fs/cgroup/memory", *names
            else:
                continue
            place = Path(path.lstrip("/"))
            for group in (place, *place.parents):
                yield from _left(files[0] / group, *files[1:])


def _left(folder: Path, limit: str, usage: str, cached: str) -> Iterator[int]:
    """Nothing where the group has no limit, which version 1 writes as a huge one."""
    with contextlib.suppress(OSError, ValueError):
        most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
        cache = re.search(rf"^{cached} (\d+)", (folder / "memory.stat").read_text(), re.M)
        yield max(0, most - used + (int(cache[1]) if cache else 0))


def taken_bytes() -> int:
    """The most that this process has held at once, and what its loader processes hold now."""
    loaders = [Path(f"/proc/{child.pid}/smaps_rollup") for child in multiprocessing.active_children()]
    return peak_bytes() + sum(
        _number_in(file, "Pss") or 0 for file in loaders
    )  # each its part of what is shared


@contextlib.contextmanager
def watched(limit_bytes: int | None) -> Iterator[None]:
    """Within, this process exits with OutOfMemory's code when it holds more than the limit."""
    with contextlib.suppress(OSError):  # the one to be killed where the system runs out of memory first
        Path("/proc/self/oom_score_adj").write_text("1000")
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY_S):
            if limit_bytes is not None and held_bytes() > limit_bytes:
                for child in multiprocessing.active_children():
                    child.kill()
                os._exit(OutOfMemoryError.exit_code)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
