"""Memory: how much a process may take, how much it has taken, and an end to one that takes more."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from trainrun.vocabulary.errors import OutOfMemory

SPARED = 0.1  # of the memory that is available: a machine without any to spare swaps
_EVERY_S = 0.01
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_bytes(text: str) -> int:
    """`2GiB`, `800MB`, `1e9` -> bytes. Raises ValueError for what is no size."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?(?:e\d+)?)\s*([kKMGT]?)(i?)[bB]?", text.strip())
    if not found or not float(found[1]):
        raise ValueError(f"wants a size such as 2GiB or 800MB, got {text}")
    unit: int = (1024 if found[3] else 1000) ** _UNITS[found[2].upper()]
    return round(float(found[1]) * unit)


def available_bytes(root: Path) -> int | None:
    """What a new process could take without swapping: of the machine, or of this process's control group
    where that has less. None where the system does not say. `root` is that of the file system.
    """
    found = [_of_machine(root), *_of_groups(root)]
    return min((one for one in found if one is not None), default=None)


def _of_machine(root: Path) -> int | None:
    with contextlib.suppress(OSError):
        if match := re.search(r"^MemAvailable:\s+(\d+) kB", (root / "proc/meminfo").read_text(), re.M):
            return int(match[1]) * 1024
    with contextlib.suppress(OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _of_groups(root: Path) -> Iterator[int]:
    """What is left to each control group that this process is in, of both versions."""
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
            for one in (place, *place.parents):
                yield from _left(files[0] / one, *files[1:])


def _left(folder: Path, limit: str, usage: str, cached: str) -> Iterator[int]:
    """Nothing where the group has no limit, which version 1 writes as a huge one."""
    with contextlib.suppress(OSError, ValueError):
        most, used = int((folder / limit).read_text()), int((folder / usage).read_text())
        found = re.search(rf"^{cached} (\d+)", (folder / "memory.stat").read_text(), re.M)
        yield max(0, most - used + (int(found[1]) if found else 0))


def taken_bytes() -> int:
    """The most that this process has held at once, and what its loader processes hold beside it."""
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    own = most if sys.platform == "darwin" else most * 1024
    return own + sum(_share(child.pid) for child in multiprocessing.active_children())


def _share(pid: int | None) -> int:
    """What a process holds, of what it shares with others its part; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        if match := re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M):
            return int(match[1]) * 1024
    return 0


def held_bytes() -> int:
    """What this process holds now; 0 where the system does not say."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


@contextlib.contextmanager
def watched(limit_bytes: int | None) -> Iterator[None]:
    """Within, this process ends itself, with the exit code of OutOfMemory, when it holds more.

    Where the system runs out of memory before, it is the one that is killed.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_EVERY_S):
            if limit_bytes is not None and held_bytes() > limit_bytes:
                for child in multiprocessing.active_children():
                    child.kill()
                os._exit(OutOfMemory.exit_code)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
