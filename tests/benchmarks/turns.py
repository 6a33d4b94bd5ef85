"""A baton: several training loops in one process, of which one at a time runs a few steps.

Each loop has a thread of its own and goes as far as its first batch. From then on its data wait for the
baton; who holds it runs so many steps, and what the process spends meanwhile is theirs. So set-up is paid
once, and a disturbance of the machine meets all of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")
_QUIET_S = 0.005  # a thread that works for a loop shows within this time
_MOST_WAITS = 400  # a thread that never rests is nobody's work


@dataclass(frozen=True)
class Turn:
    """What a loop spent on one step, as a mean over its turn."""

    cpu_s: float
    wall_s: float


class Contestant:
    """A training loop in a thread. `loop` is given the contestant, whose `feed` its batches pass through."""

    def __init__(self, loop: Callable[[Contestant], object]) -> None:
        self._left = 0
        self._baton, self._returned = threading.Semaphore(0), threading.Semaphore(0)
        self._failure: BaseException | None = None
        threading.Thread(target=self._run, args=(loop,), daemon=True).start()
        self._await_return()

    def feed(self, batches: Iterable[Item]) -> Iterator[Item]:
        """The batches, each made only when a step of this contestant is due."""
        iterator = iter(batches)
        while True:
            self.await_step()
            try:
                yield next(iterator)
            except StopIteration:
                self._left += 1  # the end of an epoch is no step
                return

    def await_step(self) -> None:
        """Return at once while steps are left, else hand the baton back and wait for it."""
        if self._left == 0:
            self._returned.release()
            self._baton.acquire()
        self._left -= 1

    def turn(self, steps: int) -> Turn:
        """Let it run so many steps; with them counts what its other threads do until all is quiet."""
        self._left = steps
        wall, cpu = time.perf_counter(), time.process_time()
        self._baton.release()
        self._await_return()
        wall_s = time.perf_counter() - wall
        _await_quiet()
        return Turn((time.process_time() - cpu) / steps, wall_s / steps)

    def _run(self, loop: Callable[[Contestant], object]) -> None:
        try:
            loop(self)
            raise RuntimeError("the loop ended before its last turn")
        except BaseException as failure:  # a loop may also exit, as commands do
            self._failure = failure
            self._returned.release()

    def _await_return(self) -> None:
        self._returned.acquire()
        if self._failure is not None:
            raise RuntimeError("a contestant failed") from self._failure


def race(
    contestants: Mapping[str, Contestant], steps: int, turns: int, warm_up: int
) -> dict[str, list[Turn]]:
    """The turns of each, taken one after another; those of the warm-up are not among them."""
    taken: dict[str, list[Turn]] = {name: [] for name in contestants}
    for number in range(warm_up + turns):
        for name, contestant in contestants.items():
            turn = contestant.turn(steps)
            if number >= warm_up:
                taken[name].append(turn)
    return taken


def _await_quiet() -> None:
    """Wait until no thread of the process works any more, such as one that writes a checkpoint."""
    for _ in range(_MOST_WAITS):
        before = time.process_time()
        time.sleep(_QUIET_S)
        if time.process_time() - before < _QUIET_S / 10:
            return
