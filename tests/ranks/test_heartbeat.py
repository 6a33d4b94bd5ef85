"""Heartbeats: ranks wait for those that make progress, and name one that died or hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

import pytest
import ranked
from ranked import Ranks
from torch.distributed import TCPStore

from trainrun.ranks import heartbeat
from trainrun.ranks.heartbeat import Heartbeat, OverdueError

TIMEOUT_S = 0.6


class Work:
    """A collective that is complete when a time has come, or fails then."""

    def __init__(self, lasts_s: float = 1e9, error: str = "") -> None:
        self.ends, self.error = time.monotonic() + lasts_s, error

    def is_completed(self) -> bool:
        return time.monotonic() >= self.ends

    def wait(self, timeout: timedelta = timedelta(days=1)) -> bool:
        time.sleep(max(0.0, min(timeout.total_seconds(), self.ends - time.monotonic())))
        if not self.is_completed() or self.error:
            raise RuntimeError(self.error or "Operation timed out!")
        return True


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SILENT_S", 0.8)
    monkeypatch.setattr(heartbeat, "LINGER_S", 2.0)
    monkeypatch.setattr(heartbeat, "LEAST_SHARE", 0.15)  # all ranks are this process, which also waits


@pytest.fixture
def hearts() -> Iterator[Callable[[int], list[Heartbeat]]]:
    """Makes the heartbeats of so many ranks, which this one process plays."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    made: list[Heartbeat] = []

    def make(size: int) -> list[Heartbeat]:
        made.extend(Heartbeat(store, rank, size, TIMEOUT_S) for rank in range(size))
        return made

    yield make
    for heart in made:
        heart.close()


@pytest.fixture(scope="module")
def in_ranks() -> Iterator[Ranks]:
    with ranked.serving() as ready:
        yield ready


@contextmanager
def beside(function: Callable[[], Any]) -> Iterator[None]:
    thread = threading.Thread(target=function)
    thread.start()
    yield
    thread.join()


def wait(heart: Heartbeat, work: Any) -> None:
    heart.wait(work, heart.come(work))


def overdue(heart: Heartbeat) -> tuple[list[int], float]:
    """The ranks for which a wait ended, and how long it took."""
    began = time.monotonic()
    with pytest.raises(OverdueError) as raised:
        wait(heart, Work())
    return list(raised.value.args[0]), time.monotonic() - began


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize(
    ("how", "said"),
    [("killed", "rank 1 died\n"), ("hangs", "rank 1 did not come within 2 seconds (runtime.timeout)\n")],
)
def test_the_rank_at_fault_is_named(in_ranks: Ranks, size: int, how: str, said: str) -> None:
    began = time.monotonic()
    ended = in_ranks(size, ranked.fail_alone, 1, how)
    assert time.monotonic() - began < 20
    for rank, end in enumerate(ended):
        if rank != 1:
            assert f"RankFailedError: {said}" in end.error, end.error


def test_letters_come_in_order_and_are_waited_for_as_long_as_the_other_makes_progress(hearts: Any) -> None:
    first, second, _ = hearts(3)
    second.post(0, "a")
    second.post(0, "b")
    assert [first.collect(1), first.collect(1)] == ["a", "b"]

    def work() -> None:
        for _ in range(4):
            time.sleep(TIMEOUT_S / 2)
            second.progress += 1
        second.post(0, "c")

    with beside(work):
        assert first.collect(1) == "c"
    with pytest.raises(OverdueError) as raised:
        first.collect(1)
    assert raised.value.args[0] == [1]


def test_a_collective_that_is_complete_is_not_waited_for(hearts: Any) -> None:
    first, _ = hearts(2)
    wait(first, Work(0))
    wait(first, Work(0.2))
    assert not first.has_pending


def test_who_does_not_come_is_named_in_time_and_nobody_else(hearts: Any) -> None:
    first, second, _ = hearts(3)
    second.come(Work(0))
    missing, seconds = overdue(first)
    assert missing == [2]
    assert TIMEOUT_S < seconds < TIMEOUT_S + 0.5
    assert first.has_pending
    assert first.judge(OverdueError(missing)) == "rank 2 did not come within 0.6 seconds (runtime.timeout)"
    # The others, whose collective breaks when the first one ends, say the same.
    with pytest.raises(RuntimeError, match="another rank has failed"):
        wait(second, Work())
    assert second.judge(RuntimeError("x")) == first.verdict.text
    assert min(first.living) == min(second.living) == 0
    assert not second.verdict.has_died


def test_pieces_of_work_renew_the_wait_and_their_end_ends_it(hearts: Any) -> None:
    first, second = hearts(2)

    def work() -> None:
        for _ in range(6):
            time.sleep(TIMEOUT_S / 2)
            second.progress += 1

    with beside(work):
        missing, seconds = overdue(first)
    assert missing == [1]
    assert 4 * TIMEOUT_S < seconds < 5 * TIMEOUT_S


@pytest.mark.parametrize("is_busy", [True, False])
def test_a_task_is_progress_as_long_as_it_computes(hearts: Any, is_busy: bool) -> None:
    (first, second), ended = hearts(2), threading.Event()

    def work() -> None:
        with second.working("reading data"):
            while not ended.is_set():
                time.sleep(0 if is_busy else 0.1)

    with beside(work), ExitStack() as stack:
        stack.callback(ended.set)
        if is_busy:
            wait(first, Work(2 * TIMEOUT_S))
        else:  # as where storage hangs
            missing, _ = overdue(first)
            text = "rank 1 made no progress within 0.6 seconds (runtime.timeout) while reading data"
            assert first.judge(OverdueError(missing)) == text


def test_ranks_that_all_came_and_do_not_reach_each_other_do_not_wait_for_ever(hearts: Any) -> None:
    first, second = hearts(2)
    second.come(Work(0))
    assert overdue(first)[0] == [1]


def test_a_rank_without_a_heartbeat_died_and_one_that_computes_did_not(hearts: Any) -> None:
    first, second, busy, dead = hearts(4)
    dead.close()
    broken = Work(0, "[a.cc:1] Connection closed by peer [127.0.0.1]:1. This is typically")
    with pytest.raises(RuntimeError, match="closed") as raised:
        wait(first, broken)
    with beside(lambda: second.judge(raised.value)):
        assert first.judge(raised.value) == "rank 3 died"
    assert second.verdict == first.verdict
    assert first.verdict.has_died
    busy.verdict = first.verdict
    assert min(busy.living) == 0


def test_the_lowest_rank_that_lives_speaks_for_the_first(hearts: Any) -> None:
    ranks = hearts(3)
    ranks[0].close()
    error = RuntimeError("[a.cc:1] Connection closed by peer")
    with beside(lambda: ranks[2].judge(error)):
        assert ranks[1].judge(error) == "rank 0 died"
    assert [min(heart.living) for heart in ranks[1:]] == [1, 1]


def test_a_lost_connection_between_ranks_that_live_is_called_so(hearts: Any) -> None:
    first, second = hearts(2)
    error = RuntimeError("[a.cc:1] Connection reset by peer. This is typically caused by x")
    with beside(lambda: second.judge(error)):
        assert first.judge(error) == "the ranks lost their connection: Connection reset by peer"


def test_what_a_rank_says_of_its_own_failure_goes_before(hearts: Any) -> None:
    first, second = hearts(2)
    second.publish(heartbeat.Verdict("rank 1 failed: sample 17 is broken"))
    with pytest.raises(RuntimeError) as raised:
        wait(first, Work())
    assert first.judge(raised.value) == "rank 1 failed: sample 17 is broken"


@pytest.mark.parametrize("has_launcher", [False, True])
def test_where_the_store_is_gone_its_holder_died(has_launcher: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", str(has_launcher))
    monkeypatch.setenv("MASTER_ADDR", "node7")
    code = (
        "from torch.distributed import TCPStore; import time; "
        "s = TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False); print(s.port, flush=True); "
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        store = TCPStore("127.0.0.1", int(holder.stdout.readline()), is_master=False)
        hearts = [Heartbeat(store, rank, 3, 1.0) for rank in range(3)]
        holder.kill()
        holder.wait()
        who = "torchrun on node7" if has_launcher else "rank 0 or its machine"
        assert hearts[1].judge(RuntimeError("x")) == f"{who} died"
        assert min(hearts[1].living) == (0 if has_launcher else 1)
        for heart in hearts:
            heart.close()


def test_many_missing_ranks_are_counted_and_machines_named(hearts: Any) -> None:
    (first,) = hearts(1)
    beats = [heartbeat.Beat(f"node{rank // 8}", 1, 0, 0, "", False) for rank in range(16)]
    text = first._verdict_on(range(4, 16), beats, OverdueError([])).text
    assert text.startswith("ranks 4 (node0), 5 (node0), 6 (node0), 7 (node0), 8 (node1)")
    assert "11 (node1) and 4 more did not come within" in text
    assert heartbeat._in_words(60) == "1 minute" and heartbeat._in_words(5400) == "90 minutes"


def test_a_fork_leaves_the_heartbeat_to_its_parent(hearts: Any) -> None:
    first, _ = hearts(2)
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert first._beats()[0].count >= 1
