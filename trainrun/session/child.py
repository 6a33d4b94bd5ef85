"""A fork for each piece of work, so that its threads, flags, memory and crashes reach no other."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Collection

from trainrun.session.exit_code import guarded

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def in_child(
    function: Callable[[], int], words: list[str], signal_before: Callable[[], int | None] | None = None
) -> int:
    """The exit code of a fork that calls `function`, negative for the signal that killed it.

    `signal_before` tells of a signal that came before the fork could hear of it.
    `words` are the command line that its mistakes are explained by. This process has torch imported
    and never computes with it: a fork after that could hang.
    """
    import torch  # noqa: F401  once, for all children

    sys.stdout.flush()
    sys.stderr.flush()
    # Python forgets in a fork what came before it has begun there: the system keeps it until then.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    child = os.fork()
    if child:
        return _wait(child, signal_before, mask)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if callable(signal.getsignal(number)) or number == signal.SIGTERM:  # until the run has its own
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = guarded(function, words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, signal_before: Callable[[], int | None] | None, mask: Collection[int]) -> int:
    """Signals are the child's business: it saves, and says with its code why it ended.

    What a terminal tells both it hears twice, and takes as one.
    """

    def forward(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.signal(number, forward) for number in _ENDING}
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    if number := signal_before and signal_before():
        forward(number, None)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
