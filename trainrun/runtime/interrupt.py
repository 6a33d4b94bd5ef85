"""Ctrl-C while a command starts: there is nothing to save, so the process ends at once, with 130."""

from __future__ import annotations

import os
import signal
from types import FrameType


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
