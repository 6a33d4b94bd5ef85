"""SIGTERM, Ctrl-C and other signals: the first ends the run after its step, saved; the second at once.

TERM, INT, HUP       save and exit with 143, 130, 129; the second one exits at once
USR1                 save and go on
`preemption_signal`  save, ask the scheduler to start the job again, and exit

With several ranks a signal to one is a signal to all: they learn of it in the next step, whose numbers
they add up anyway. While a command starts there is nothing to save, so Ctrl-C ends it at once, with 130.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

from trainrun import ranks
from trainrun.vocabulary.errors import INTERRUPTED

ECHO_S = 0.3  # a launcher often passes a signal of its process group on: within this time it is the same
ECHO_OF_RANKS_S = 5.0  # torchrun passes a signal on when it next looks, and again when a rank has ended
AGAIN_S = 0.02  # where an exception would be lost, it is tried again after this time
SWALLOWED_S = 2.0  # after this time one that was raised has been lost nevertheless
GROUP_S = 0.1  # a signal to a whole group reaches all its processes within this time

_is_guest = False


@contextlib.contextmanager
def guest() -> Iterator[None]:
    """Within, a second Ctrl-C interrupts the caller's Python, such as a notebook, and does not end it."""
    global _is_guest
    _is_guest = True
    try:
        yield
    finally:
        _is_guest = False


class Stopped(BaseException):
    """The run was asked to stop. Not an Exception: a data set's own `except` must not swallow it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason  # a signal's name, or "time_limit"


class Signals:
    """What the outside asked of a run.

    `preemption` is the name of a further signal that stops, such as USR2; `time_limit_s` stops the
    process that long after `install`.
    """

    def __init__(self, preemption: str | None = None, time_limit_s: float | None = None) -> None:
        self.preemption = f"SIG{preemption.removeprefix('SIG')}" if preemption else None
        self.time_limit_s = time_limit_s
        self._asked: str | None = None
        self._asked_at = 0.0
        self._save = False
        self._may_raise = False
        self._deadline: float | None = None
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Only the main thread of a process may do this; elsewhere (notebooks' threads) it does nothing."""
        if self.time_limit_s is not None:
            self._deadline = time.monotonic() + self.time_limit_s
        if threading.current_thread() is not threading.main_thread():
            return
        handlers = {name: self._stop for name in (*INTERRUPTED, self.preemption) if name}
        for name, handler in {"SIGUSR1": self._ask_to_save, **handlers}.items():
            number = getattr(signal, name)
            self._before[number] = signal.signal(number, handler)

    def restore(self) -> None:
        """Give the signals back: after a run in a notebook Ctrl-C interrupts again."""
        ranks.forget_asked()
        while self._before:
            signal.signal(*self._before.popitem())

    def ask(self, reason: str) -> None:
        """Stop for a reason of the run's own, saved, as if the outside had asked."""
        self._asked = self._asked or reason
        ranks.ask(stop=True)

    def check(self) -> None:
        """Raise Stopped where a stop was asked for or the time is up."""
        if self._asked is None and self._deadline is not None and time.monotonic() >= self._deadline:
            self.ask("time_limit")
        if self._asked is not None:
            raise Stopped(self._asked)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Within, a signal raises Stopped at once: for waiting and for evaluating, which change nothing.

        Of several ranks all raise it or none does, at the end, where they meet; nothing within may wait
        for another rank.
        """
        with contextlib.suppress(Stopped) if ranks.size() > 1 else contextlib.nullcontext():
            self._may_raise = True
            try:
                self.check()
                yield
            except Exception:
                if self._asked is None:  # the death of a loader process may be the first sign of a stop
                    time.sleep(GROUP_S)
                self.check()
                raise
            finally:
                self._may_raise = False
                if signal.SIGALRM in self._before:
                    signal.setitimer(signal.ITIMER_REAL, 0)
        if ranks.size() > 1:
            ranks.add_numbers([])
            self.check_agreed()

    def check_agreed(self) -> None:
        """Raise Stopped, on all of several ranks, where any was asked to stop before they last met."""
        with contextlib.suppress(Stopped):
            self.check()  # whether the time is up
        if ranks.agreed_to_stop():
            reason = next(filter(None, ranks.gather(self._asked)), "")
            self._asked = self._asked or reason
            raise Stopped(reason)

    def take_save(self) -> bool:
        """Whether a save was asked for since the last call; of several ranks by any, before they last met."""
        asked, self._save = ranks.take_agreed_save() if ranks.size() > 1 else self._save, False
        return asked

    def _stop(self, number: int, frame: FrameType | None) -> None:
        echo_s = ECHO_S if ranks.size() == 1 else ECHO_OF_RANKS_S
        if self._asked is None:
            self.ask(signal.Signals(number).name)
            self._asked_at = time.monotonic()
            self._interrupt(number, frame)
        elif time.monotonic() - self._asked_at > echo_s:
            if _is_guest and number == signal.SIGINT:
                raise KeyboardInterrupt
            os._exit(exit_code(self._asked))

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Raise Stopped if that is allowed now, and have the alarm do so again until it has arrived."""
        if not self._may_raise or self._asked is None:
            return
        is_lost = _is_lost_in(frame)
        self._before.setdefault(signal.SIGALRM, signal.signal(signal.SIGALRM, self._interrupt))
        signal.setitimer(signal.ITIMER_REAL, AGAIN_S if is_lost else SWALLOWED_S)
        if not is_lost:
            raise Stopped(self._asked)

    def _ask_to_save(self, number: int, frame: FrameType | None) -> None:
        self._save = True
        ranks.ask(save=True)


def _is_lost_in(frame: FrameType | None) -> bool:
    """Whether an exception raised here would be lost, or do harm.

    It would be printed and forgotten in the hooks of a fork, which also hold locks, and in a finalizer.
    It would leave a loader that has started some of its processes, which its finalizer cannot end. None
    of these waits for long.
    """
    while frame is not None:
        module, function = frame.f_globals.get("__name__", ""), frame.f_code.co_name
        if function == "__del__" or module.startswith("multiprocessing.popen_"):
            return True
        if function == "__init__" and module == "torch.utils.data.dataloader":
            return True
        frame = frame.f_back
    return False


def exit_code(reason: str) -> int:
    """What a run that was stopped exits with: 124 at its time limit, 128 + the signal's number, else 0."""
    return 124 if reason == "time_limit" else 128 + number if (number := getattr(signal, reason, 0)) else 0


def end_at_once() -> None:
    """Have SIGINT end this process, until a command has something to save.

    An exception in the middle of an import can be swallowed there, or come out as another error.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # a background job ignores it
        signal.signal(signal.SIGINT, _end)


def raise_again() -> None:
    """Have SIGINT raise KeyboardInterrupt as usual: there is something to clean up from here on."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)
