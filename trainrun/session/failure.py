"""How a failed run ends: its error in plain words, its exit code and reason in status.json."""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import nn

from trainrun import ranks
from trainrun.assembly.build import Parts
from trainrun.data.workers import workers_error
from trainrun.loop.loop import Loop
from trainrun.model.blocks import blocks_of
from trainrun.ranks.launcher import starts_again
from trainrun.run.files import read_json
from trainrun.run.lock import lock
from trainrun.run.record import write_status
from trainrun.runtime.allocations import recorded_allocations, write_allocations
from trainrun.runtime.machine import is_out_of_memory
from trainrun.session.sinks import Sink
from trainrun.vocabulary.errors import (
    ConfigError,
    EvaluationOutOfMemoryError,
    OutOfMemoryError,
    RankFailedError,
    TrainrunError,
)
from trainrun.vocabulary.events import Failed

_NOTHING = "take a smaller model, or precision=bf16"


@contextlib.contextmanager
def reported(report: Callable[[BaseException], None], parts: Parts, run_dir: Path) -> Iterator[None]:
    """Within, an error is reported before it leaves; what torch has no type for becomes an error of ours."""
    weight_bytes = sum(parameter.nbytes for parameter in parts.state.model.parameters())
    with recorded_allocations(parts.runtime.device, weight_bytes):
        try:
            yield
        except BaseException as error:
            failure = _as_trainrun_error(error, parts, run_dir)
            report(failure)
            if failure is not error:
                raise failure from error
            raise


def _as_trainrun_error(error: BaseException, parts: Parts, run_dir: Path) -> BaseException:
    """Out of memory, a dead worker or a lost rank in our words; any other error stays."""
    if isinstance(error, RankFailedError) and ranks.verdict().missing and not starts_again():
        line = shlex.join([*ranks.command(), "resume", str(run_dir)])
        return RankFailedError(*error.args, "", "to go on:", f"  {line}")
    if isinstance(error, EvaluationOutOfMemoryError):
        return _out_of_memory(parts, run_dir, evaluating=True)
    if isinstance(error, TrainrunError):
        return error
    if (worker_error := workers_error(error)) is not None:
        return worker_error
    return _out_of_memory(parts, run_dir, evaluating=False) if is_out_of_memory(error) else error


def send_failure(error: BaseException, loop: Loop, sinks: Sequence[Sink], step: int) -> None:
    """Send every sink the event of a failed run."""
    loop.checkpoints.close()  # a half-written one may fill the disk, and the status needs room
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


def record_for_main_process(run_dir: Path, error: BaseException) -> None:
    """Write into a run's status why it ended, if this is the lowest rank that lives.

    A main process that died left its lock free; one that has stopped holds it, and writes no more.
    """
    if not isinstance(error, RankFailedError) or not ranks.is_lowest_living():
        return
    verdict = ranks.verdict()
    has_stopped = 0 in verdict.missing and not verdict.has_died
    with (
        contextlib.suppress(TrainrunError, OSError),
        contextlib.nullcontext() if has_stopped else lock(run_dir),
    ):
        if read_json(run_dir / "status.json").get("state") == "running":
            write_status(run_dir, state="failed", exit_code=error.exit_code, reason=error.args[0])


def _exit_of(error: BaseException) -> tuple[int, str]:
    """(exit code, reason in one line)."""
    code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)
    if not isinstance(error, TrainrunError):
        return code, f"{type(error).__name__}: {error}".splitlines()[0]
    return code, " ".join(str(next(iter(error.args), "")).split())  # without the advice below it


def _out_of_memory(parts: Parts, run_dir: Path, evaluating: bool) -> OutOfMemoryError:
    """The error with commands that go on with less memory and train the same, if there are any."""
    if evaluating:
        size = parts.settings["data"].get("eval_batch_size")
        text = f"out of memory with data.eval_batch_size={size} while evaluating"
        words = [f"data.eval_batch_size={size // 2}"] if isinstance(size, int) and size > 1 else []
        answers = [("the same in smaller pieces", words)]
    else:
        text = f"out of memory with batch_size={parts.batch_spec.batch_size} while training"
        answers = _with_less_memory(parts)
    answers = [(what, words) for what, words in answers if words]
    text += f"; {'trainrun find-batch looks for the largest that fits' if answers else _NOTHING}"
    lines = []
    file = run_dir / "failures" / (f"memory-{ranks.rank()}.pickle" if ranks.rank() else "memory.pickle")
    if write_allocations(parts.runtime.device, file):
        lines = ["", f"what took the memory, for pytorch.org/memory_viz: {file}"]
    for what, words in answers:
        lines += ["", f"{what}:", f"  {shlex.join([*ranks.command(), 'resume', str(run_dir), *words])}"]
    return OutOfMemoryError(text, *lines)


def _with_less_memory(parts: Parts) -> list[tuple[str, list[str]]]:
    """What trains the same with less memory, in words and as settings, none where it is not possible."""
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    has_norm = any(isinstance(module, norms) for module in parts.state.model.modules())
    caution = ", except for batch norm, which sees each piece alone" if has_norm else ""
    answers = [(f"the same in smaller pieces{caution}", _smaller_batches(parts))]
    if parts.runtime.activation_checkpointing is None:
        key = "runtime.activation_checkpointing"
        with contextlib.suppress(ConfigError):
            blocks_of(parts.state.model, "auto", key)
            text = "with activations computed again in the backward pass, some third slower"
            answers.append((text, [f"{key}=auto"]))
    if ranks.size() > 1 and not parts.parallel.shards:
        answers.append(("with the weights divided among the ranks", ["parallel=fsdp"]))
    return answers


def _smaller_batches(parts: Parts) -> list[str]:
    """The same window in smaller micro-batches; none where one holds a single sample."""
    batch_spec, size = parts.batch_spec, parts.info.sizes["train"]
    if batch_spec.batch_size == 1:
        return []
    pieces = 2
    if size is None or batch_spec.window < size:  # else the window is the whole data set, however it is cut
        pieces = next(n for n in range(2, batch_spec.batch_size + 1) if batch_spec.batch_size % n == 0)
    smaller = math.ceil(batch_spec.batch_size / pieces)
    return [f"batch_size={smaller}", f"loop.accumulate={batch_spec.accumulate * pieces}"]
