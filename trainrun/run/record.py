"""The always-written records of a run: metrics.jsonl, timing.jsonl, status.json and result.json."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trainrun.run.files import (
    as_json,
    fsync,
    overwrite_text,
    read_json,
    replace_json,
    storage_failed,
    without_half_line,
)
from trainrun.run.history import last_evaluations, records
from trainrun.run.result import forget_result, write_result
from trainrun.runtime.signals import exit_code
from trainrun.vocabulary.errors import ResumeError
from trainrun.vocabulary.events import (
    Evaluated,
    Event,
    Failed,
    Finished,
    Interrupted,
    Replanned,
    Started,
    metrics_record,
    timing_record,
    to_line,
    without_nonfinite,
)


class Record:
    """Writes events to a run's folder. metrics.jsonl is the truth; everything else is a view.

    Raises ResumeError for a folder with links or pipes in it: what is written there would end up
    elsewhere, or nowhere. Raises StorageError where the files cannot be opened.
    """

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        for path in run_dir.iterdir():
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise ResumeError(f"{path} is a link or a pipe, which a run's folder never has; remove it")
        try:
            self._metrics = (run_dir / "metrics.jsonl").open("ab")
            without_half_line(run_dir / "timing.jsonl")
            self._timing = (run_dir / "timing.jsonl").open("a", encoding="utf-8")
        except OSError as error:
            raise storage_failed(run_dir, error) from None

    def cut(self, num_bytes: int) -> None:
        """Forget the lines written after the checkpoint that training continues from."""
        if num_bytes > self._metrics.tell():
            path = self.run_dir / "metrics.jsonl"
            raise ResumeError(f"{path} has {self._metrics.tell()} bytes, {num_bytes} were saved; restore it")
        try:
            self._metrics.truncate(num_bytes)
            self._metrics.seek(0, os.SEEK_END)
        except OSError as error:
            raise storage_failed(self.run_dir, error) from None

    def metrics_bytes(self) -> int:
        """The length of metrics.jsonl."""
        return self._metrics.tell()

    def sync(self) -> None:
        """Have metrics.jsonl, as far as it is written, on the disk, and the views of it beside.

        May be called from another thread. A view that cannot be synced costs no more than itself.
        """
        os.fsync(self._metrics.fileno())
        for path in (self.run_dir / "tensorboard", *self.run_dir.glob("tensorboard/*"), *self._views()):
            with contextlib.suppress(OSError):
                fsync(path)

    def _views(self) -> Iterator[Path]:
        return (self.run_dir / name for name in ("metrics.csv", "timing.jsonl", "trainrun.log"))

    def __call__(self, event: Event) -> None:
        try:
            if (record := metrics_record(event)) is not None:
                self._metrics.write(to_line(record).encode())
                self._metrics.flush()
            if isinstance(event, Started):
                forget_result(self.run_dir)
            if isinstance(event, Finished):  # before the status, by which a run has come to its end
                write_result(self.run_dir, event)
            self._update_status(event)
            if (timing := timing_record(event)) is not None:
                self._timing.write(to_line({"time": round(time.time(), 3)} | timing))
                self._timing.flush()
        except OSError as error:
            raise storage_failed(self.run_dir, error) from None

    def close(self) -> None:
        """What could not be written was told when it could not."""
        for file in (self._metrics, self._timing):
            with contextlib.suppress(OSError):
                file.close()

    def _update_status(self, event: Event) -> None:
        if changes := _status_changes(event):
            write_status(self.run_dir, **changes)


def _status_changes(event: Event) -> dict[str, Any]:
    """What an event changes in status.json."""
    match event:
        case Started():
            changes = {"state": "running", "name": event.name, "monitor": event.monitor, "pid": os.getpid()}
            changes |= {"step": event.step, "total_steps": event.total_steps}
            return changes | {"exit_code": None, "reason": None, "resumable": True}
        case Replanned():  # each write waits for the disk: the first and the last are enough
            is_written = event.is_first or event.step == event.total_steps
            return {"total_steps": event.total_steps} if is_written else {}
        case Evaluated(split="test"):
            return {"test": dict(event.metrics)}
        case Evaluated():
            metrics = dict(event.metrics)
            changes = {"step": event.step, "metric": metrics}
            return changes | ({"best": {"step": event.step, "metrics": metrics}} if event.is_best else {})
        case Interrupted():
            changes = {"state": "interrupted", "step": event.step, "reason": event.signal}
            changes |= {"resumable": True, "exit_code": exit_code(event.signal)}
            return changes | {"seconds": round(event.seconds, 3)}
        case Finished():
            changes = {"state": "completed", "step": event.step, "reason": event.reason, "exit_code": 0}
            changes |= {"total_steps": event.step} if event.reason == "budget" else {}  # the clock's, at last
            return changes | {"resumable": False, "seconds": round(event.seconds, 3)}
        case Failed():
            changes = {"state": "failed", "step": event.step, "reason": event.reason}
            return changes | {"exit_code": event.exit_code}
        case _:  # the others change nothing in it
            return {}


def write_status(run_dir: Path, **changes: Any) -> None:
    """Change some entries of status.json; the rest stay. A number that is not finite becomes null.

    That a run has failed is also written where there is no room for another file.
    """
    empty: dict[str, Any] = {"state": "running", "name": None, "step": 0, "metric": None, "best": None}
    empty |= {"exit_code": None, "reason": None, "resumable": True, "started": time.time()}
    path = run_dir / "status.json"
    content = without_nonfinite(empty | read_json(path) | changes)
    try:
        replace_json(path, content)
    except OSError:
        if changes.get("state") != "failed" or not path.is_file():
            raise
        overwrite_text(path, as_json(content))


def restore_status(run_dir: Path, best_step: int | None) -> None:
    """Bring status.json into line with metrics.jsonl as a resume has cut it; raises OSError.

    `best_step`: of the state that training goes on from.
    """
    started = next(records(run_dir / "timing.jsonl"), {}).get("time")
    is_lost = not isinstance(read_json(run_dir / "status.json").get("started"), float)
    first = {"started": started} if is_lost and isinstance(started, float) else {}
    write_status(run_dir, **last_evaluations(run_dir, best_step), **first)
