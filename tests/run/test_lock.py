"""One process owns a run's folder; what dies lets go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from trainrun.errors import FolderBusy
from trainrun.run.lock import lock

HOLD = """
import sys
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
        with pytest.raises(FolderBusy, match=f"in use by process {holder.pid}$"):
            lock(tmp_path)
        holder.kill()
    with lock(tmp_path):
        pass


def test_the_holder_is_named_again_after_it_changed(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("99999999 and a longer text than any pid")
    with lock(tmp_path), pytest.raises(FolderBusy, match=f"in use by process {os.getpid()}$"):
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
