"""Sizes as typed, what a machine and its control groups have to spare, and a process that is ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trainrun.tune.memory import available_bytes, parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2 * 1024**3),
        ("800MB", 800_000_000),
        ("1.5 G", 1_500_000_000),
        ("64kib", None),
        ("64KiB", 65536),
        ("1e9", 10**9),
        ("0", None),
        ("-1GB", None),
        ("2 apples", None),
        ("", None),
    ],
)
def test_sizes_are_read_in_both_kinds_of_units(text: str, size: int | None) -> None:
    if size is None and text != "64kib":
        with pytest.raises(ValueError, match="must be a size such as 2GiB"):
            parse_bytes(text)
    else:
        assert parse_bytes(text) == (size or 65536)


def machine(root: Path, available_kb: int, group: str = "") -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal:  999999 kB\nMemAvailable:  {available_kb} kB\n")
    (root / "proc/self/cgroup").write_text(group)
    return root


def put(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_without_a_limited_group_it_is_what_the_machine_has(tmp_path: Path) -> None:
    root = machine(tmp_path, 1000, "4:memory:/job\n0::/job\n")
    put(root / "sys/fs/cgroup/job", memory__max="max\n", memory__current="1\n", memory__stat="")
    assert available_bytes(root) == 1000 * 1024


def test_a_group_of_version_2_counts_with_those_above_it_and_its_cache_is_free(tmp_path: Path) -> None:
    root = machine(tmp_path, 1000, "0::/slice/job\n")
    place = root / "sys/fs/cgroup/slice"
    put(
        place / "job",
        memory__max="900000",
        memory__current="1000",
        memory__stat="file 7\ninactive_file 500\n",
    )
    assert available_bytes(root) == 900000 - 1000 + 500
    put(place, memory__max="400000", memory__current="100000", memory__stat="inactive_file 0\n")
    assert available_bytes(root) == 300000
    put(place, memory__max="100", memory__current="100000", memory__stat="inactive_file 0\n")
    assert available_bytes(root) == 0


def test_a_group_of_version_1_counts_too(tmp_path: Path) -> None:
    root = machine(tmp_path, 1000, "5:cpu,memory:/docker/1\n1:name=systemd:/x\n")
    put(
        root / "sys/fs/cgroup/memory",  # as a container sees its own group
        memory__limit_in_bytes="500000",
        memory__usage_in_bytes="200000",
        memory__stat="inactive_file 9\ntotal_inactive_file 1000\n",
    )
    assert available_bytes(root) == 500000 - 200000 + 1000


def test_this_machine_has_something_to_spare() -> None:
    available = available_bytes(Path("/"))
    assert available is not None and available > 10_000_000


HOLDS = """
import os
from trainrun.runtime.usage import held_bytes
from trainrun.tune.memory import taken_bytes
before = held_bytes()
block = bytearray(os.urandom(1000) * 60_000)
assert held_bytes() >= before + 50_000_000
del block
assert taken_bytes() >= before + 50_000_000
"""


def test_the_most_that_was_held_stays_when_it_is_given_back() -> None:
    subprocess.run([sys.executable, "-c", HOLDS], check=True)  # a process whose heap has no room from before


TAKES = """
import time
from trainrun.runtime.usage import held_bytes
from trainrun.tune.memory import watched
room = int(%s)
with watched(held_bytes() + room):
    block = bytearray(b"x") * 80_000_000
    time.sleep(%s)
print("lived")
"""


@pytest.mark.parametrize(("room", "code", "wait_s"), [(30_000_000, 8, 600), (200_000_000, 0, 0.5)])
def test_a_process_that_holds_more_than_its_limit_is_ended(room: int, code: int, wait_s: float) -> None:
    done = subprocess.run([sys.executable, "-c", TAKES % (room, wait_s)], capture_output=True, text=True)
    assert (done.returncode, "lived" in done.stdout) == (code, not code), done.stderr
