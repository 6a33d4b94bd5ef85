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
    code = 1
    try:
        code = guarded(function, words)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int) -> int:
    """Signals are the child's business: it saves, and says with its code why it ended."""

    def forward(number: int, frame: object) -> None:
        os.kill(child, number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGHUP)}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal tells the child itself
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
