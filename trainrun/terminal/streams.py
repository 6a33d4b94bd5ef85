"""Standard streams (stdin, stdout, stderr) that always exist: `2>&-` and cron start without them."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

_NAMES = ("stdin", "stdout", "stderr")


def open_streams() -> None:
    """Give this process every standard stream, and a stderr that never fails.

    A closed descriptor would be taken by the next file that is opened, and what C code writes to stderr
    would then end up in that file. A full disk or a reader that left is no error of the run.
    """
    for number, name in enumerate(_NAMES):
        if not _is_open(number):
            opened = os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            os.set_inheritable(opened, True)
        if getattr(sys, name) is None:
            mode = "r" if number == 0 else "w"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr.fileno() == 2:
        sys.stderr = io.TextIOWrapper(
            _Unfailing(2, "w", closefd=False),  # raw, as with `python -u`
            sys.stderr.encoding,
            "backslashreplace",
            write_through=True,
        )


@contextlib.contextmanager
def present() -> Iterator[None]:
    """Within, streams that a host program set to None are there and lead nowhere."""
    missing = [name for name in _NAMES if getattr(sys, name) is None]
    with contextlib.ExitStack() as opened:
        for name in missing:
            setattr(sys, name, opened.enter_context(open(os.devnull, "r+", encoding="utf-8")))
        try:
            yield
        finally:
            for name in missing:
                setattr(sys, name, None)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def show_sign(text: str) -> None:
    """Show on a terminal that the command has begun, until the next line is printed.

    `import torch` takes seconds, during which nothing else can be shown.
    """
    file = getattr(sys.stderr, "buffer", None)
    if isinstance(file, _Unfailing) and file.isatty():
        sys.stderr.write(f"{text} ...")
        file.is_sign_shown = True


def clear_sign() -> None:
    """Clear the sign where nothing was printed after it."""
    file = getattr(sys.stderr, "buffer", None)
    if isinstance(file, _Unfailing) and file.is_sign_shown:
        file.write(b"")


def stop_before(stop: Callable[[], object]) -> Callable[[], None]:
    """Have `breakpoint()` call `stop` before it opens the debugger; returns what undoes this."""
    current = sys.breakpointhook
    debugger = getattr(current, "debugger", current)  # one that stands in a hook of ours is not wrapped twice

    def hook(*args: Any, **keywords: Any) -> Any:
        chosen = os.environ.get("PYTHONBREAKPOINT", "")
        if chosen == "0":
            return None
        stop()
        if chosen or debugger is not sys.__breakpointhook__:
            return debugger(*args, **keywords)  # begins in this frame: `up` leads to the user's
        import pdb

        pdb.Pdb(nosigint=True).set_trace(sys._getframe(1))
        return None

    hook.debugger = debugger  # type: ignore[attr-defined]
    sys.breakpointhook = hook
    return lambda: setattr(sys, "breakpointhook", current)


class _Unfailing(io.FileIO):
    """A file whose writes never raise: what cannot be written is lost."""

    is_sign_shown = False

    def write(self, data: Any, /) -> int:
        cleared = b"\r\x1b[K" if self.is_sign_shown else b""
        self.is_sign_shown = False
        with contextlib.suppress(OSError):
            super().write(cleared + bytes(data))
        return len(data)
