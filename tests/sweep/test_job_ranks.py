"""The ranks of a sweep's job: they meet, the first one's end is the job's, and none is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import wait_until

from trainrun import ranks
from trainrun.session.child import in_child
from trainrun.sweep import job_ranks
from trainrun.sweep.job_ranks import in_ranks


def code_of(size: int, work: Callable[[], int]) -> int:
    """What a sweep sees of a job, which is a fork of its own."""
    return in_child(lambda: in_ranks(size, work), [])


def test_one_rank_is_this_process_whatever_started_the_sweep(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")  # such as a step that starts a cluster of Ray's
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")

    def work() -> int:
        (tmp_path / "size").write_text(f"{ranks.launched().size} {os.environ.get('RANK')}")
        return 3

    assert code_of(1, work) == 3
    assert (tmp_path / "size").read_text() == "1 None"


def test_three_ranks_meet(tmp_path: Path) -> None:
    def work() -> int:
        ranks.join()
        (total,) = ranks.add_numbers([ranks.rank() + 1.0])
        (tmp_path / str(ranks.rank())).write_text(f"{total} {' '.join(ranks.command())}")
        ranks.leave(clean=True)
        return 0

    assert code_of(3, work) == 0
    texts = [(tmp_path / str(rank)).read_text() for rank in range(3)]
    assert texts == ["6.0 torchrun --nproc-per-node 3 -m trainrun"] * 3


@pytest.mark.parametrize(("end", "code"), [(7, 7), (signal.SIGKILL, -9), (signal.SIGTERM, -15)])
def test_the_first_ranks_end_is_the_jobs(end: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_ranks, "_LAST_S", 0.1)  # the other one hangs

    def work() -> int:
        if os.environ["RANK"] == "1":
            time.sleep(600)
        if isinstance(end, signal.Signals):
            os.kill(os.getpid(), end)
        return end

    assert code_of(2, work) == code


def test_a_signal_reaches_the_first_rank_alone(tmp_path: Path) -> None:
    def work() -> int:
        rank = os.environ["RANK"]
        received: list[int] = []
        if rank == "0":
            signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
        (tmp_path / rank).write_text(str(os.getppid()))
        wait_until(lambda: received or (tmp_path / "done").exists())
        (tmp_path / "done").touch()
        return 5 if rank == "0" and received else 0

    child = os.fork()
    if child == 0:
        os._exit(in_child(lambda: in_ranks(2, work), []))
    wait_until(
        lambda: len(list(tmp_path.glob("[01]"))) == 2 and all(f.read_text() for f in tmp_path.glob("?"))
    )
    os.kill(child, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
