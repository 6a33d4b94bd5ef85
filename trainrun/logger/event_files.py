"""TensorBoard's event files: read back, and written anew without the points that are computed again."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.tensorflow_stub.errors import DataLossError, OutOfRangeError
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New
from tensorboard.summary.writer.record_writer import RecordWriter


def rewrite(folder: Path, is_kept: Callable[[Event], bool]) -> BinaryIO:
    """Put all events that are kept into one new file, empty the others, and return the file to append to.

    It begins with a restart at step 0, by which a server that is running forgets what it has read. The
    new file is whole before the old ones go.
    """
    old = sorted(folder.glob("events.out.tfevents.*"))  # the order in which TensorBoard reads them
    events = [event for event in _events(old) if is_kept(event)]
    path, temporary = folder / _name_after(old), folder / ".tmp-events"
    now, restart = time.time(), SessionLog(status=SessionLog.START)
    version = Event(file_version="brain.Event:2", wall_time=now)
    try:
        with temporary.open("wb") as file:
            writer = RecordWriter(file)
            for event in (version, Event(session_log=restart, step=0, wall_time=now), *events):
                writer.write(event.SerializeToString())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    for past in old[:-1]:
        past.unlink()
    for last in old[-1:]:
        os.truncate(last, 0)  # a server that reads it waits for ever where it is gone
    return path.open("ab")


def _name_after(old: list[Path]) -> str:
    """A name that TensorBoard reads last: it orders files by the second in their names."""
    seconds = [int(match[1]) for file in old if (match := re.search(r"tfevents\.(\d+)", file.name))]
    second = max(int(time.time()), *(stamp + 1 for stamp in seconds), 0)
    return f"events.out.tfevents.{second:010d}.{socket.gethostname()}.{os.getpid()}.0"


def _events(files: list[Path]) -> list[Event]:
    """All points as they stand after restarts, which take back those from their step on."""
    events: list[Event] = []
    for reader in (PyRecordReader_New(str(file)) for file in files):
        with suppress(OutOfRangeError, DataLossError):  # at the end, or what a kill left damaged
            while True:
                reader.GetNext()
                event = Event.FromString(reader.record())
                if event.HasField("session_log"):
                    events = [point for point in events if point.step < event.step]
                elif not event.HasField("file_version"):
                    events.append(event)
    return events
