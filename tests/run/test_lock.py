"""One process owns a run's folder; what dies lets go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from trainrun.run.lock import is_held, lock
from trainrun.vocabulary.errors import FolderBusyError, StorageError

HOLD = """
import sys
import threading
from pathlib import Path
from trainrun.run.lock import lock
held = lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_by_name_and_death_lets_go(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(FolderBusyError, match=f"in use by process {holder.pid}$"):
            lock(tmp_path)
        holder.kill()
    with lock(tmp_path):
        pass


def test_the_holder_is_named_again_after_it_changed(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("99999999 and a longer text than any pid")
    with lock(tmp_path), pytest.raises(FolderBusyError, match=f"in use by process {os.getpid()}$"):
        lock(tmp_path)


def test_closing_lets_go(tmp_path: Path) -> None:
    lock(tmp_path).close()
    lock(tmp_path).close()


def test_what_the_holder_forked_does_not_hold_on_after_its_death(tmp_path: Path) -> None:
    """Loader workers notice only after seconds that they are orphans; a resume must not wait for them."""
    fork = "import os, time\nif os.fork():\n    time.sleep(60)\n"  # it is the child that goes on
    with subprocess.Popen(
        [sys.executable, "-c", HOLD.replace("print(", f"{fork}print(", 1), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        holder.kill()
        holder.wait()
        try:
            lock(tmp_path).close()
        finally:
            os.killpg(holder.pid, signal.SIGKILL)


def test_looking_tells_whether_the_folder_is_held_and_changes_nothing(tmp_path: Path) -> None:
    assert not is_held(tmp_path)
    assert not list(tmp_path.iterdir())
    with lock(tmp_path):
        before = (tmp_path / ".lock").read_text(), (tmp_path / ".lock").stat().st_mtime_ns
        assert is_held(tmp_path)
        assert before == ((tmp_path / ".lock").read_text(), (tmp_path / ".lock").stat().st_mtime_ns)
    assert not is_held(tmp_path)


def test_whoever_looks_does_not_keep_a_run_from_starting(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.001):
            is_held(tmp_path)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(300):
            lock(tmp_path).close()
    finally:
        done.set()
        for looker in lookers:
            looker.join()


def test_the_lock_is_a_file_and_no_way_to_write_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").symlink_to(tmp_path / "precious")
    with pytest.raises(StorageError, match=r"cannot open its \.lock"):
        lock(run)
    assert is_held(run)  # not ours to judge
    assert (tmp_path / "precious").read_text() == "kept"
    (run / ".lock").unlink()
    os.mkfifo(run / ".lock")
    assert not is_held(run)  # and nobody waits for the pipe's other end
