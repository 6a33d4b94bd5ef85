"""Signals set a flag: the first one ends the run after its step, the second ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

from trainrun.errors import INTERRUPTED


class StopSignal:
    """Called, returns the name of the signal that asked to stop, or None."""

    def __init__(self) -> None:
        self.name: str | None = None
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Only the main thread of a process may do this; elsewhere (notebooks' threads) it does nothing."""
        if threading.current_thread() is threading.main_thread():
            for name in INTERRUPTED:
                number = getattr(signal, name)
                self._before[number] = signal.signal(number, self._received)

    def restore(self) -> None:
        """Give the signals back: after a run in a notebook Ctrl-C interrupts again."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _received(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.name is not None:
            os._exit(INTERRUPTED[name])
        self.name = name

    def __call__(self) -> str | None:
        return self.name
