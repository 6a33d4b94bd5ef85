"""The always-written records of a run: metrics.jsonl, timing.jsonl, status.json and result.json."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainrun.run.files import (
    as_json,
    fsync,
    overwrite_text,
    read_json,
    replace_json,
    storage_errors,
    without_half_line,
)
from trainrun.run.history import records
from trainrun.runtime.signals import exit_code
from trainrun.vocabulary import events
from trainrun.vocabulary.errors import ResumeError

RESULT = "result.json"
_NOT_METRICS = {"event", "step", "epoch", "split", "weights", "nonfinite"}
_NOT_LEARNED = _NOT_METRICS | {"lr", "grad_norm", "grad_norm_after", "clipped", "skipped", "spikes"}
_NOT_LEARNED |= {"update_ratio", "dead_units"}
_Line = Mapping[str, Any]  # of metrics.jsonl


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
        with storage_errors(run_dir):
            self._metrics = (run_dir / "metrics.jsonl").open("ab")
            without_half_line(run_dir / "timing.jsonl")
            self._timing = (run_dir / "timing.jsonl").open("a", encoding="utf-8")

    def cut(self, num_bytes: int) -> None:
        """Forget the lines written after the checkpoint that training continues from."""
        if num_bytes > self._metrics.tell():
            path = self.run_dir / "metrics.jsonl"
            raise ResumeError(f"{path} has {self._metrics.tell()} bytes, {num_bytes} were saved; restore it")
        with storage_errors(self.run_dir):
            self._metrics.truncate(num_bytes)
            self._metrics.seek(0, os.SEEK_END)

    def metrics_bytes(self) -> int:
        """The length of metrics.jsonl."""
        return self._metrics.tell()

    def sync(self) -> None:
        """Have metrics.jsonl, as far as it is written, on the disk, and the views of it beside.

        May be called from another thread. A view that cannot be synced costs no more than itself.
        """
        os.fsync(self._metrics.fileno())
        views = ("tensorboard", "metrics.csv", "timing.jsonl", "trainrun.log")
        for path in (*map(self.run_dir.joinpath, views), *self.run_dir.glob("tensorboard/*")):
            with contextlib.suppress(OSError):
                fsync(path)

    def __call__(self, event: events.Event) -> None:
        with storage_errors(self.run_dir):
            if (record := events.metrics_record(event)) is not None:
                self._metrics.write(events.to_line(record).encode())
                self._metrics.flush()
            if isinstance(event, events.Started):
                (self.run_dir / RESULT).unlink(missing_ok=True)  # what goes on has no final numbers
            if isinstance(event, events.Finished):  # before the status, by which a run has come to its end
                content = result_of(event, records(self.run_dir / "metrics.jsonl"))
                replace_json(self.run_dir / RESULT, events.without_nonfinite(content))
            if changes := _status_changes(event):
                write_status(self.run_dir, **changes)
            if (timing := events.timing_record(event)) is not None:
                self._timing.write(events.to_line({"time": round(time.time(), 3)} | timing))
                self._timing.flush()

    def close(self) -> None:
        """What could not be written was told when it could not."""
        for file in (self._metrics, self._timing):
            with contextlib.suppress(OSError):
                file.close()


def _status_changes(event: events.Event) -> dict[str, Any]:
    """What an event changes in status.json."""
    match event:
        case events.Started():
            changes = {"state": "running", "name": event.name, "monitor": event.monitor, "pid": os.getpid()}
            changes |= {"step": event.step, "total_steps": event.total_steps}
            return changes | {"exit_code": None, "reason": None, "resumable": True}
        case events.Replanned():  # each write waits for the disk: the first and the last are enough
            is_written = event.is_first or event.step == event.total_steps
            return {"total_steps": event.total_steps} if is_written else {}
        case events.Evaluated(split="test"):
            return {"test": dict(event.metrics)}
        case events.Evaluated():
            metrics = dict(event.metrics)
            best = {"best": {"step": event.step, "metrics": metrics}} if event.is_best else {}
            return {"step": event.step, "metric": metrics} | best
        case events.Interrupted():
            changes = {"state": "interrupted", "step": event.step, "reason": event.signal, "resumable": True}
            return changes | {"exit_code": exit_code(event.signal), "seconds": round(event.seconds, 3)}
        case events.Finished():
            changes = {"state": "completed", "step": event.step, "reason": event.reason, "exit_code": 0}
            changes |= {"total_steps": event.step} if event.reason == "budget" else {}  # the clock's, at last
            return changes | {"resumable": False, "seconds": round(event.seconds, 3)}
        case events.Failed():
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
    content = events.without_nonfinite(empty | read_json(path) | changes)
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
    _, last, best, _ = _latest(records(run_dir / "metrics.jsonl"), best_step)
    metrics = [_metrics(record, _NOT_METRICS) if record else None for record in (last, best)]
    evaluations = {"metric": metrics[0], "best": {"step": best_step, "metrics": metrics[1]} if best else None}
    started = next(records(run_dir / "timing.jsonl"), {}).get("time")
    is_lost = not isinstance(read_json(run_dir / "status.json").get("started"), float)
    first = {"started": started} if is_lost and isinstance(started, float) else {}
    write_status(run_dir, **evaluations, **first)


def result_of(finished: events.Finished, lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The content of result.json. `lines` are the records of metrics.jsonl, in order.

    All of it but the seconds follows from what was computed, however often the run was interrupted.
    `kept` are the weights that the run ended with. `best`, `last` and `test` are evaluations with the
    step whose weights were evaluated; `train` are means over the steps since the log before. None: there
    was none.
    """
    train, last, best, test = _latest(lines, finished.best_step)
    return {
        "reason": finished.reason,
        "steps": finished.step,
        "epochs": train.get("epoch") if train else None,
        "samples": finished.samples,
        "skipped_steps": finished.skipped,
        "spikes": train.get("spikes", 0) if train else 0,
        "parameters": finished.parameters,
        "monitor": finished.monitor or None,
        "best_value": finished.best,
        "kept": {"step": finished.kept_step, "weights": finished.kept_weights},
        "best": _evaluation(best),
        "last": _evaluation(last),
        "test": _evaluation(test),
        "train": _metrics(train, _NOT_LEARNED) if train else None,
        "seconds": round(finished.seconds, 3),
        "seconds_by_part": dict(finished.seconds_by_part),
    }


def _latest(lines: Iterable[_Line], best_step: int | None) -> tuple[_Line | None, ...]:
    """The last line on training, on the validation split, on that at the best step, and on the test split."""
    train = last = best = test = None
    for record in lines:
        if record.get("event") == "train":
            train = record
        elif record.get("split") == "val":
            last = record
            best = record if record.get("step") == best_step else best
        elif record.get("split") == "test":
            test = record
    return train, last, best, test


def _evaluation(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if record is None:
        return None
    about = {"step": record.get("step"), "weights": record.get("weights")}
    return about | {"metrics": _metrics(record, _NOT_METRICS)}


def _metrics(record: Mapping[str, Any], others: set[str]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in others}
