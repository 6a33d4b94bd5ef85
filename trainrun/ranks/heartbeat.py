"""Each rank's heartbeat: ranks wait for those that make progress, and name one that died or hangs.

A thread of each rank writes a line into the store that all reach, twice a second. A rank that waits in
a collective reads those of the ranks that have not come to it. It goes on waiting as long as they
count progress: pieces written, or while they are busy with a task the time of a processor. A process
that waits for hung storage counts neither.
"""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from trainrun.ranks.launcher import has_store

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Work
    from torch.distributed.distributed_c10d import Store

PATIENCE = timedelta(days=1)  # of gloo itself, where heartbeats tell how long to wait
BEAT_S = 0.5
SILENT_S = 3.0  # without a beat: a process that is dead or stopped
LINGER_S = 5.0  # for all to say that they failed; a launcher ends them 30 s after the first
LEAST_SHARE = 0.005  # of a processor's time; a slow download takes as much, a sleeping process less
VERDICT = "verdict"  # a key in the store
_HOST = os.uname().nodename
_Since = dict[tuple[int, int, int], float]  # when (rank, its collective, its progress) was first seen
_WATCHED = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "3", "TORCH_NCCL_DUMP_ON_TIMEOUT": "1"}
_RECORDED = "TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_TRACE_BUFFER_SIZE"  # the latter is its name of before


@dataclass(frozen=True)
class Beat:
    """What a rank says of itself."""

    host: str
    count: int
    progress: int
    collective: int  # the number of the last one that it came to
    task: str
    has_failed: bool


@dataclass(frozen=True)
class Verdict:
    """Why the ranks cannot meet, as all of them say it."""

    text: str
    missing: Sequence[int] = ()
    has_died: bool = False
    cause: str = ""  # where a rank failed by itself, in its own words


class OverdueError(RuntimeError):
    """Ranks, which are its argument, made no progress within the time."""


class Heartbeat:
    """This rank's heartbeat, and what it reads of the others'."""

    def __init__(self, store: Store, rank: int, size: int, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.verdict = Verdict("")
        # A connection of its own: waits elsewhere hold theirs.
        self._store, self._rank = store.clone(), rank  # type: ignore[attr-defined]
        self._keys = [f"heartbeat {number}" for number in range(size)]
        self.progress = 0  # pieces of work, counted by whoever does them
        self._count = self._collective = 0
        self._tasks: list[str] = []
        self._pending: list[Work] = []
        self._has_failed, self._ended = False, threading.Event()
        self._beat()
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def close(self) -> None:
        self._ended.set()

    def set_timeout(self, timeout_s: float | None) -> None:
        """Wait so long; NCCL, and torch's own engines on hosts, whatever progress there is."""
        from torch.distributed.distributed_c10d import _set_pg_timeout, _world

        self.timeout_s = timeout_s or self.timeout_s
        for group in _world.pg_map:
            _set_pg_timeout(timedelta(seconds=self.timeout_s), group)

    @contextmanager
    def working(self, task: str) -> Iterator[None]:
        """Within, the time that this process computes counts as progress."""
        self._tasks.append(task)
        try:
            yield
        finally:
            self._tasks.remove(task)

    def begin(self, tensor: Tensor, operation: str | None, source: int, group: Any) -> Callable[[], Any]:
        """Begin to join a contiguous tensor, in place; without an operation all get that of `source`.

        What is returned waits for it: on hosts as this class does, on GPUs in their stream.
        """
        from torch.distributed import AllreduceOptions, BroadcastOptions, GroupMember, ReduceOp

        world: Any = group or GroupMember.WORLD
        options: Any = AllreduceOptions() if operation else BroadcastOptions()
        options.asyncOp = True
        if not tensor.is_cuda:
            options.timeout = PATIENCE
        if operation:
            options.reduceOp = getattr(ReduceOp, operation)
            work = world.allreduce([tensor], options)
        else:
            options.rootRank = source
            work = world.broadcast([tensor], options)
        return work.wait if tensor.is_cuda else partial(self.wait, work, self.come(work))

    def come(self, work: Work) -> int:
        """Count a collective that this rank has begun; all ranks begin them in one order."""
        self._collective += 1
        self._pending.append(work)
        return self._collective

    @property
    def has_pending(self) -> bool:
        """Whether gloo still waits in a collective, which only the end of the process can end."""
        return not all(work.is_completed() for work in self._pending)

    def wait(self, work: Work, number: int) -> None:
        """Wait for a collective on hosts as long as the ranks that have not come make progress.

        Raises RuntimeError where it failed, or others failed meanwhile, or ranks are overdue.
        """
        since: _Since = {}
        pause_s = self._every_s * max(1, len(self._keys) / 64)  # a thousand ranks keep the store busy
        while not _is_complete(work, pause_s):
            since = self._look(since, lambda rank, beat: beat.collective < number)
        self._pending.remove(work)

    def post(self, to: int, text: str) -> None:
        """Leave another rank a text, which it collects."""
        self._store.queue_push(f"letters {self._rank} {to}", text)

    def collect(self, source: int) -> str:
        """The next text of another rank, waited for as a collective is."""
        key, since, pause_s = f"letters {source} {self._rank}", _Since(), 0.001
        while not self._store.queue_len(key):
            since = self._look(since, lambda rank, _: rank == source)
            time.sleep(pause_s)
            pause_s = min(self._every_s, 1.5 * pause_s)
        text: str = self._store.queue_pop(key).decode()
        return text

    def _look(self, since: _Since, is_late: Callable[[int, Beat], bool]) -> _Since:
        """When each rank that is waited for made progress. Raises where others failed or are overdue."""
        beats, now = self._beats(), time.monotonic()
        if any(beat.has_failed for beat in beats) or self._store.check([VERDICT]):
            raise RuntimeError("another rank has failed")
        late = [rank for rank, beat in enumerate(beats) if is_late(rank, beat)]
        others = late or [rank for rank in range(len(beats)) if rank != self._rank]
        seen = [(rank, beats[rank].collective, beats[rank].progress) for rank in others]
        since = {state: since.get(state, now) for state in seen}
        if overdue := [rank for (rank, *_), first in since.items() if now - first > self.timeout_s]:
            raise OverdueError(overdue)
        return since

    def judge(self, error: RuntimeError) -> str:
        """Why a collective failed, in words that all ranks share; waits a moment for what the others say."""
        try:
            self.verdict = self._judge(error)
        except RuntimeError:
            holder = f"torchrun on {os.environ['MASTER_ADDR']}" if has_store() else "rank 0 or its machine"
            self.verdict = Verdict(f"{holder} died", () if has_store() else (0,), has_died=True)
        return self.verdict.text

    def publish(self, verdict: Verdict) -> Verdict:
        """The first verdict that any rank came to, which is that of all."""
        text = self._store.compare_set(VERDICT, "", json.dumps(asdict(verdict)))
        return Verdict(**json.loads(text))

    @property
    def living(self) -> set[int]:
        """The ranks that the verdict does not call dead or late; this one at least."""
        return set(range(len(self._keys))) - set(self.verdict.missing) or {self._rank}

    @property
    def _every_s(self) -> float:
        return min(BEAT_S, self.timeout_s / 20)

    def _run(self) -> None:
        spent, looked = 0.0, 0.0
        while not self._ended.wait(self._every_s):
            now, used = time.monotonic(), time.process_time() - time.thread_time()
            if self._tasks and used - spent > LEAST_SHARE * (now - looked):
                self.progress += 1
            spent, looked = used, now
            try:
                self._beat()
            except RuntimeError:
                return  # whoever held the store is gone

    def _beat(self) -> None:
        self._count += 1
        task = next(reversed(self._tasks), "")  # other threads add and remove
        beat = Beat(_HOST, self._count, self.progress, self._collective, task, self._has_failed)
        self._store.set(self._keys[self._rank], json.dumps(asdict(beat)))

    def _beats(self) -> list[Beat]:
        return [Beat(**json.loads(text)) for text in self._store.multi_get(self._keys)]

    def _judge(self, error: RuntimeError) -> Verdict:
        self._has_failed = True
        self._beat()
        if isinstance(error, OverdueError):
            return self.publish(self._verdict_on(error.args[0], self._beats(), error))
        deadline, heard = time.monotonic() + LINGER_S, dict[tuple[int, int], float]()
        while True:
            beats, now = self._beats(), time.monotonic()
            heard = {(r, beat.count): heard.get((r, beat.count), now) for r, beat in enumerate(beats)}
            away = [rank for rank, beat in enumerate(beats) if not beat.has_failed]
            silent = [r for (r, _), first in heard.items() if r in away and now - first > SILENT_S]
            if self._store.check([VERDICT]) or len(silent) == len(away) or now > deadline:
                return self.publish(self._verdict_on(silent or away, beats, error))
            time.sleep(self._every_s / 2)

    def _verdict_on(self, missing: Sequence[int], beats: Sequence[Beat], error: RuntimeError) -> Verdict:
        if not missing:
            # Without C++'s lines.
            reason = re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).partition(". ")[0]
            return Verdict(f"the ranks lost their connection: {reason}")
        is_overdue = isinstance(error, OverdueError) or "Timed out" in str(error)
        hosts = {beat.host for beat in beats}
        names = [f"{r} ({beats[r].host})" if len(hosts) > 1 else str(r) for r in missing[:8]]
        who = f"rank{'s' if len(missing) > 1 else ''} {', '.join(names)}"
        who += f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        if not is_overdue:
            return Verdict(f"{who} died", missing, has_died=True)
        task, limit = beats[missing[0]].task, f"within {_in_words(self.timeout_s)} (runtime.timeout)"
        text = f"made no progress {limit} while {task}" if task else f"did not come {limit}"
        return Verdict(f"{who} {text}", missing)


def watch_nccl() -> None:
    """Have NCCL end a process whose collective hangs, with a record; before NCCL begins."""
    for name, value in _WATCHED.items():
        os.environ.setdefault(name, value)
    if not any(name in os.environ for name in _RECORDED):
        os.environ[_RECORDED[0]] = "2000"  # collectives


def _is_complete(work: Work, limit_s: float) -> bool:
    """Whether a collective is complete after so long; raises what went wrong with it."""
    with suppress(RuntimeError):
        return work.wait(timedelta(seconds=limit_s))
    return work.is_completed() and work.wait()


def _in_words(seconds: float) -> str:
    value, unit = (seconds / 60, "minute") if seconds >= 60 else (seconds, "second")
    return f"{value:g} {unit}{'' if value == 1 else 's'}"
