"""How a failed run ends: its error in plain words, its exit code and reason in status.json."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainrun.assembly.build import Parts
from trainrun.data.workers import workers_error
from trainrun.run.files import read_json
from trainrun.run.lock import lock
from trainrun.run.record import write_status
from trainrun.runtime.machine import is_out_of_memory
from trainrun.session.out_of_memory import out_of_memory
from trainrun.session.sinks import Sink
from trainrun.vocabulary.errors import EvaluationOutOfMemoryError, RankFailedError, TrainrunError
from trainrun.vocabulary.events import Failed


def as_trainrun_error(error: BaseException, parts: Parts, run_dir: Path) -> BaseException:
    """Translate what torch has no type for (out of memory, a dead worker); any other error stays."""
    if isinstance(error, EvaluationOutOfMemoryError):
        return out_of_memory(parts, run_dir, evaluating=True)
    if isinstance(error, TrainrunError):
        return error
    if (worker_error := workers_error(error)) is not None:
        return worker_error
    return out_of_memory(parts, run_dir, evaluating=False) if is_out_of_memory(error) else error


def send_failure(error: BaseException, sinks: Sequence[Sink], step: int) -> None:
    """Send every sink the event of a failed run."""
    code, reason = _exit_of(error)
    for sink in sinks:
        with contextlib.suppress(Exception):  # the storage may be what failed
            sink(Failed(step=step, reason=reason, exit_code=code))


@contextlib.contextmanager
def failure_recorded(run_dir: Path) -> Iterator[None]:
    """Within, an error that comes before the loop's own records is written into a new run's status."""
    try:
        yield
    except BaseException as error:
        is_run = (run_dir / "config.yaml").exists()  # a folder without one is unused, and may be claimed
        if is_run and read_json(run_dir / "status.json").get("state", "running") == "running":
            code, reason = _exit_of(error)
            with contextlib.suppress(OSError):
                write_status(run_dir, state="failed", exit_code=code, reason=reason)
        raise


def record_for_main_process(run_dir: Path, error: RankFailedError) -> None:
    """Write into a run's status why it ended, where the main process died and left its lock free."""
    with contextlib.suppress(TrainrunError, OSError), lock(run_dir):
        if read_json(run_dir / "status.json").get("state") == "running":
            write_status(run_dir, state="failed", exit_code=error.exit_code, reason=str(error))


def _exit_of(error: BaseException) -> tuple[int, str]:
    """(exit code, reason in one line)."""
    code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
    is_ours = isinstance(error, TrainrunError)
    text = " ".join(str(error).split()) if is_ours else f"{type(error).__name__}: {error}"
    return code, (text.splitlines() or [""])[0]
