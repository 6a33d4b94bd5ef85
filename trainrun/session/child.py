"""Run a function in a forked child process, which threads, flags, memory and crashes do not leave."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

from trainrun.session.exit_code import run_guarded

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)  # the signals that end a process, saved


def in_child(
    function: Callable[[], int], words: list[str], signal_before: Callable[[], int | None] | None = None
) -> int:
    """The exit code of a fork that calls `function`, negative for the signal that killed it.

    `words` are the command line that its mistakes are explained by. `signal_before` returns a signal
    that came before the fork could receive it. This process imports torch and never computes with it:
    a fork after that could hang.
    """
    import torch  # noqa: F401  once, for all children

    sys.stdout.flush()
    sys.stderr.flush()
    # Python forgets in a fork a signal that came before the fork began: the system holds it until then.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    child = os.fork()
    if child:
        return _wait(child, signal_before, mask)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if callable(signal.getsignal(number)) or number == signal.SIGTERM:  # until the run has its own
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = run_guarded(function, words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, signal_before: Callable[[], int | None] | None, mask: Collection[int]) -> int:
    """Wait for the child and pass signals on to it: it saves, and its exit code says why it ended.

    A terminal's signal reaches the child twice, which takes it as one.
    """

    def forward(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    with handled(ENDING, forward):
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if number := signal_before and signal_before():
            forward(number, None)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def handled(numbers: Collection[int], handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Within, `handler` handles the signals; afterwards what did before."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def end_with_starter(number: int) -> None:
    """Let the system send a signal to this process when the one that started it is gone."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, number)  # PR_SET_PDEATHSIG
