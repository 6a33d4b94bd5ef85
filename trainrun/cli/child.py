"""A fork for each piece of work, so that its threads, flags, memory and crashes reach no other."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from trainrun.cli.main import guarded


def in_child(function: Callable[[], int], words: list[str]) -> int:
    """The exit code of a fork that calls `function`, negative for the signal that killed it.

    `words` are the command line that its mistakes are explained by. This process has torch imported
    and never computes with it: a fork after that could hang.
    """
    import torch  # noqa: F401  once, for all children

    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return _wait(child)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        if callable(signal.getsignal(number)):  # the starter's own, until the run has its
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    code = 1
    try:
        code = guarded(function, words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int) -> int:
    """Signals are the child's business: it saves, and says with its code why it ended.

    What a terminal tells both it hears twice, and takes as one.
    """

    def forward(number: int, frame: object) -> None:
        os.kill(child, number)

    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = {number: signal.signal(number, forward) for number in numbers}
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
