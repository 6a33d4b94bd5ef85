"""A disk that is full, read-only or gone is told of, costs nothing older, and repaired changes nothing."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torture.harness import (
    STORAGE_FAILED,
    Run,
    assert_finishes_identical,
    assert_identical,
    assert_storage_failed,
    assert_whole,
)

Straight = Callable[[str], Run]
FOR_EVER = 10**9

# Where it strikes, from which of these operations on, with what, and how many checkpoints are older
FAILURES = {
    "the first checkpoint": ("mkdir checkpoints$", 0, "ENOSPC", 0),
    "a checkpoint's folder": (r"mkdir checkpoints/\.tmp", 2, "EDQUOT", 2),
    "its state": ("write .*state.pt", 2, "ENOSPC", 2),
    "its state, when it is synced": ("fsync .*state.pt", 2, "EIO", 2),
    "its manifest": ("write .*manifest.json", 2, "ENOSPC", 2),
    "its name": (r"rename \S+ checkpoints/step", 2, "ENOSPC", 2),
    "its name, when it is synced": ("fsync checkpoints$", 2, "EIO", 3),
    "the removal of an older one": ("rename .*-old", 1, "EROFS", 4),
    "the record": ("write metrics.jsonl", 9, "ENOSPC", 2),
    "the record, when it is synced": ("fsync metrics.jsonl", 3, "EIO", 2),
    "the record of times": ("write timing.jsonl", 9, "ENOSPC", 2),
}
REASONS = {
    "ENOSPC": "No space left on device",
    "EDQUOT": "Disk quota exceeded",
    "EIO": "Input/output error",
    "EROFS": "Read-only file system",
}


@pytest.mark.parametrize("what", FAILURES)
def test_a_write_that_fails(what: str, straight: Straight, tmp_path: Path) -> None:
    of, nth, error, older = FAILURES[what]
    run = straight("average").new(tmp_path / "run")
    ended = run.go_on(strikes=[{"what": error, "of": of, "nth": nth, "times": FOR_EVER}])
    assert_storage_failed(run, ended, REASONS[error], older)
    assert_finishes_identical(run, straight("average"))


@pytest.mark.parametrize("of", ["mkdir .hydra", "config.yaml", "environment.json", "status.json"])
def test_a_start_that_fails_is_begun_anew(of: str, straight: Straight, tmp_path: Path) -> None:
    run = straight("tiny").new(tmp_path / "run")
    ended = run.go_on(strikes=[{"what": "ENOSPC", "of": of, "times": FOR_EVER}])
    assert ended.code == STORAGE_FAILED and "No space left on device" in ended.err, ended
    assert not run.checkpoints()
    ended = run.go_on()
    assert ended.code == 0, ended
    assert_identical(run, straight("tiny"))


@pytest.mark.parametrize("of", ["open .lock", "open metrics.jsonl", "truncate metrics.jsonl", "config.yaml"])
def test_going_on_fails_before_it_begins(of: str, straight: Straight, tmp_path: Path) -> None:
    run = straight("average").new(tmp_path / "run").killed(r"rename \S+ checkpoints/step", 9)
    checkpoints, settings = run.checkpoints(), (run.folder / "config.yaml").read_bytes()
    ended = run.resume("loop.log_every=2step", strikes=[{"what": "EROFS", "of": of, "times": FOR_EVER}])
    assert ended.code == STORAGE_FAILED and "Read-only file system" in ended.err, ended
    assert (run.checkpoints(), (run.folder / "config.yaml").read_bytes()) == (checkpoints, settings)
    assert_finishes_identical(run, straight("average"))


@pytest.mark.parametrize("nth", [0, 1, 2])
def test_a_sweep_whose_record_finds_no_room_ends_as_a_run_does(
    nth: int, straight: Straight, tmp_path: Path
) -> None:
    run = straight("tiny").new(tmp_path / "sweep")
    strikes = [{"what": "ENOSPC", "of": "open .*sweep.json", "nth": nth, "times": FOR_EVER}]
    words = ("-m", *run.words, "seed=1,2", f"run_dir={run.folder}")
    ended = run.command(*words, strikes=strikes)
    assert ended.code == STORAGE_FAILED and "No space left on device" in ended.err, ended
    ended = run.command(*words)
    assert ended.code == 0, ended


def test_a_file_may_not_grow_so_large(straight: Straight, tmp_path: Path) -> None:
    run = straight("average").new(tmp_path / "run")
    ended = run.go_on(file_limit_bytes=14_000)
    assert_storage_failed(run, ended, "File too large; it needs ", 0)
    assert_finishes_identical(run, straight("average"))


def test_the_folder_vanishes_and_comes_back(straight: Straight, tmp_path: Path) -> None:
    """It is not made anew: half a run would be mistaken for one."""
    run = straight("average").new(tmp_path / "run")
    ended = run.go_on(strikes=[{"what": "vanish", "of": "write .*state.pt", "nth": 3}])
    assert ended.code == STORAGE_FAILED and "No such file or directory" in ended.err, ended
    assert not run.folder.exists()
    (tmp_path / "run-moved").rename(run.folder)
    assert_whole(run)
    assert len(run.checkpoints()) == 2
    assert_finishes_identical(run, straight("average"))


# A disk of our own

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Disk:
    """A file system in memory that can be made larger, smaller and read-only."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "torture", place], check=True, capture_output=True)

    def set(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.place], check=True)

    def used_bytes(self) -> int:
        stat = os.statvfs(self.place)
        return (stat.f_blocks - stat.f_bfree) * stat.f_frsize

    def close(self) -> None:
        subprocess.run(["umount", self.place], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    try:
        disk = Disk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root can mount a disk of its own")
    yield disk
    disk.close()


def test_a_disk_fills_up_while_the_old_checkpoint_is_being_replaced(straight: Straight, disk: Disk) -> None:
    """There is room for those that are kept, and not for one more."""
    run = straight("average").copy(disk.place / "run")
    assert len(run.checkpoints()) == 3
    room_bytes = disk.used_bytes() + 4 * PAGE_BYTES
    run = straight("average").new(disk.place / "again")
    subprocess.run(["rm", "-r", disk.place / "run"], check=True)
    disk.set(f"size={room_bytes}")
    ended = run.go_on()
    assert_storage_failed(run, ended, "No space left on device", older=3)
    older = run.checkpoints()
    ended = run.go_on()
    assert ended.code == STORAGE_FAILED, ended
    assert [path for path in older if path not in run.checkpoints()] == []
    disk.set("size=1g")
    assert_finishes_identical(run, straight("average"))


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    straight: Straight, disk: Disk
) -> None:
    disk.set(f"size={1 << 20}")
    run = straight("tiny").new(disk.place / "run")
    ended = run.start("model.width=10000")
    # (16 + 1) x 10000 + norm 2 x 10000 + 2 x 10000 + 2 weights, each with two moments; the norm's statistics
    weights = 17 * 10_000 + 2 * 10_000 + 2 * 10_000 + 2
    needed_bytes = 4 * (3 * weights + 2 * 10_000) + 8
    assert ended.code == STORAGE_FAILED, ended
    assert f"a checkpoint needs about {needed_bytes:,} bytes, {1 << 20:,} are free" in ended.err
    assert list(disk.place.iterdir()) == []


def test_room_is_looked_for_for_all_checkpoints_that_are_kept(straight: Straight, disk: Disk) -> None:
    """There is room for one or two, and the run keeps two and the best."""
    needed_bytes = 4 * (3 * (17 * 10_000 + 2 * 10_000 + 2 * 10_000 + 2) + 2 * 10_000) + 8
    disk.set(f"size={2 * needed_bytes + (1 << 20)}")
    run = straight("tiny").new(disk.place / "run")
    ended = run.start("model.width=10000", "checkpoint.keep_best=1")
    assert ended.code == STORAGE_FAILED, ended
    assert f"3 checkpoints of about {needed_bytes:,} bytes are kept" in ended.err
    assert list(disk.place.iterdir()) == []
    ended = run.start("model.width=10000", "checkpoint.keep_best=1", "budget=1step")
    assert ended.code == 0, ended  # which comes to a single one


def test_a_disk_becomes_read_only_and_writable_again(straight: Straight, disk: Disk) -> None:
    run = straight("average").new(disk.place / "run").killed("rename.*tmp-step", 3)
    disk.set("ro")
    new = straight("average").new(disk.place / "new")
    for ended in (run.resume(), run.go_on(), new.go_on()):
        assert ended.code == STORAGE_FAILED and "Read-only file system" in ended.err, ended
    disk.set("rw")
    assert_whole(run)
    assert_finishes_identical(run, straight("average"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ours_to_write(straight: Straight, tmp_path: Path) -> None:
    run = straight("average").new(tmp_path / "run").killed("rename.*tmp-step", 3)
    for folder in (run.folder, run.folder / "checkpoints"):
        folder.chmod(0o555)
        ended = run.resume()
        folder.chmod(0o755)
        assert ended.code == STORAGE_FAILED and "Permission denied" in ended.err, ended
    assert_finishes_identical(run, straight("average"))


# Views are not the run

VIEWS = {
    "TensorBoard's folder": ("mkdir tensorboard", "logger.tensorboard"),
    "TensorBoard's file": ("open tensorboard", "logger.tensorboard"),
    "TensorBoard": ("write tensorboard", "logger.tensorboard"),
    "the log": ("trainrun.log", "logger.log"),
    "the table": ("write metrics.csv", "logger.csv"),
}


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_that_fails_is_told_once_and_the_run_goes_on(
    view: str, straight: Straight, tmp_path: Path
) -> None:
    of, name = VIEWS[view]
    run = straight("in memory, all loggers").new(tmp_path / "run")
    ended = run.go_on(strikes=[{"what": "ENOSPC", "of": of, "times": FOR_EVER}])
    assert ended.code == 0, ended
    assert ended.err.count("No space left on device") == 1
    assert ended.err.count(f"{name}: failed and is off from here on") == 1
    views = ("tensorboard", "metrics.csv", "trainrun.log")
    assert_identical(run, straight("in memory, all loggers"), views)
