"""What goes wrong inside a process: its operations on a folder are counted, and one of them is struck.

Python's audit events, patched calls and watched files show every operation before it happens:

    open PATH | write PATH | fsync PATH | truncate PATH | mkdir PATH | rename FROM TO | remove PATH
    rmdir PATH | train | judge        (the last two: forward passes of project/parts.py)

Paths are relative to the folder. The package under test has no part in this.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_AUDITED = {
    "open": "open",
    "os.mkdir": "mkdir",
    "os.remove": "remove",
    "os.rmdir": "rmdir",
    "os.truncate": "truncate",
}


class Strike:
    """Does `what` at the `nth`-th operation (from 0) that matches `of`, and at the `times - 1` after it.

    `what` is a signal, sent to the process itself, the name of a system error, raised, or "vanish":
    the folder is moved to another name.
    """

    def __init__(self, what: str, of: str = "", nth: int = 0, times: int = 1) -> None:
        self.what, self.of, self.nth, self.times, self.matches = what, re.compile(of), nth, times, 0

    def hits(self, operation: str) -> bool:
        if not self.of.search(operation):
            return False
        self.matches += 1
        return self.nth < self.matches <= self.nth + self.times


class Watch:
    """Sees every operation of this process, and of none forked from it, below `folder`.

    Operations are written to the file `trace`, one a line.
    """

    def __init__(self, folder: Path, strikes: Sequence[Mapping[str, Any]], trace: str | None) -> None:
        self.folder, self.pid = f"{folder.absolute()}/", os.getpid()
        self.strikes = [Strike(**strike) for strike in strikes]
        self.trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if trace else None

    def begin(self) -> None:
        """From here on; there is no end."""
        self.open, self.fsync, self.write = io.open, os.fsync, os.write
        io.open = builtins.open = self._open
        os.fsync = os.fdatasync = self._fsync
        os.write = self._write
        sys.addaudithook(self._audit)

    def operation(self, text: str, torn: Any = None) -> None:
        """`torn()` does half of the operation, for a strike to leave behind."""
        if os.getpid() != self.pid:
            return
        if self.trace is not None:
            self.write(self.trace, f"{text}\n".encode())
        for strike in self.strikes:
            if strike.hits(text):
                if strike.what == "vanish":
                    os.rename(self.folder, f"{self.folder[:-1]}-moved")
                    continue
                if torn is not None and strike.what != "SIGTERM":
                    torn()
                if strike.what.startswith("SIG"):
                    os.kill(self.pid, getattr(signal, strike.what))
                else:
                    number = getattr(errno, strike.what)
                    raise OSError(number, os.strerror(number), text.split()[-1])

    def relative(self, path: Any, parent: int = -1) -> str | None:
        """The path below the folder; None outside. `parent`: the descriptor it is relative to."""
        if isinstance(path, int):
            return None
        start = _path_of(parent) if parent != -1 else os.getcwd()
        text = os.path.join(start, os.fsdecode(path), "")
        return text.removeprefix(self.folder).rstrip("/") or "." if text.startswith(self.folder) else None

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "torture.point":
            self.operation(arguments[0])
        elif event == "os.rename":
            paths = self.relative(arguments[0], arguments[2]), self.relative(arguments[1], arguments[3])
            if any(paths):
                self.operation(f"rename {paths[0]} {paths[1]}")
        elif name := _AUDITED.get(event):
            is_change = event != "open" or (isinstance(arguments[2], int) and arguments[2] & _CHANGING)
            path = self.relative(arguments[0], -1 if event in ("open", "os.truncate") else arguments[-1])
            if is_change and path:
                self.operation(f"{name} {path}")

    def _fsync(self, file: Any) -> None:
        if path := self.relative(_path_of(file if isinstance(file, int) else file.fileno())):
            self.operation(f"fsync {path}")
        self.fsync(file)

    def _write(self, descriptor: int, data: Any) -> int:
        if path := self.relative(_path_of(descriptor)):
            half = memoryview(data).cast("B")[: len(data) // 2]
            self.operation(f"write {path}", lambda: self.write(descriptor, half))
        return self.write(descriptor, data)

    def _open(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        path = self.relative(file) if set(mode) & set("wax+") else None
        if path is None or opener is not None:
            return self.open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = _WatchedFile(file, "".join(letter for letter in mode if letter in "rwax+"))
        raw.tell_of = lambda what, torn=None: self.operation(f"{what} {path}", torn)
        if buffering == 0:
            return raw
        binary = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return binary
        return io.TextIOWrapper(binary, encoding or "utf-8", errors, newline, line_buffering=buffering == 1)


class _WatchedFile(io.FileIO):
    tell_of: Any

    def write(self, data: Any) -> int:
        self.tell_of("write", lambda: io.FileIO.write(self, memoryview(data).cast("B")[: len(data) // 2]))
        return super().write(data)

    def truncate(self, size: int | None = None) -> int:
        self.tell_of("truncate")
        return super().truncate(size)


def _path_of(descriptor: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:  # not Linux
        return ""
