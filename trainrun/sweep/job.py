"""Train one job of a sweep, as a launcher calls it: started or resumed, retried, in a child process."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import os
import signal
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from trainrun import ranks
from trainrun.config.overrides import key_of
from trainrun.run.lock import is_held
from trainrun.run.record import write_status
from trainrun.runtime.slurm import STARTER
from trainrun.session.child import end_with_starter, handled, in_child
from trainrun.sweep.identity import identity, is_left_out
from trainrun.sweep.job_ranks import in_ranks
from trainrun.sweep.outcome import PAUSED, PRUNED, JobOutcome, first_clause, outcome
from trainrun.terminal.lines import say
from trainrun.vocabulary import errors

if TYPE_CHECKING:
    from trainrun.config.compose.composer import Composition
    from trainrun.session.session import ShouldStop
    from trainrun.sweep.plugins import Search

STOP = ".stop"  # in the sweep's folder, with the reason: no further job is begun
_LATE = {  # what is imported only at first use: by every run, and by these modules
    "": ("torch.profiler._cupti_monitor", "torch.utils.serialization"),
    "trainrun.logger.tensorboard": ("PIL.ImageDraw", "PIL.PngImagePlugin"),
}
_LOOK_S = 0.2  # between looks for a free slot: nothing beside a job's start of seconds
OWNER_S = 10.0  # time for a job of an earlier start, which its sweep's end interrupts, to save and leave


@dataclass(frozen=True)
class Job:
    """The settings that all jobs of one launch share; called with the run and folder of each."""

    sweep: Path
    heads: Mapping[str, str]  # by key: how lines about a job begin
    trials: Mapping[str, int]  # by key: the trial of a search
    options: Mapping[str, Any]  # the group `sweep`
    search: Search
    quiet: bool  # only how each job ended is printed
    share: float | None = None  # of the budget: where jobs stop and wait
    starter: int = field(default_factory=os.getpid)

    def __call__(self, composition: Composition, folder: Path) -> None:
        """Train a job; an error in it is not raised but recorded in its folder."""
        if os.getpid() != self.starter:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the starter and the job
            if self.search.is_local:
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # and so does who signals a whole group
                end_with_starter(signal.SIGKILL)
        if (self.sweep / STOP).exists():
            return
        _warm(composition.settings)
        head = self.heads[folder.name]
        if not self.quiet:
            say("", head)
        retries = self.options["retries"]
        for attempt in range(1 + retries):
            _wait_for_owner(folder)
            with _saved_first() as starter:
                work = partial(self._work, composition, folder, head, starter)
                code = in_child(work, [], self._signal_before)
            _record_exit(folder, code, head)
            if outcome(folder).state != "failed" or (self.sweep / STOP).exists():
                break
            if attempt < retries:
                say(f"{head} is tried again, {attempt + 1} of {retries}")
        self._after(outcome(folder), head)

    def _signal_before(self) -> int | None:
        """The signal that came while the job was prepared, and did not reach it."""
        reason = stop_reason(self.sweep)
        return getattr(signal, reason) if reason in errors.INTERRUPTED else None

    def _after(self, ended: JobOutcome, head: str) -> None:
        """Stop the others where this one's end says so; print how it ended where nothing else did."""
        if ended.state == "interrupted" and self.search.is_local and ended.reason in errors.INTERRUPTED:
            stop(self.sweep, ended.reason)
        if ended.state == "failed" and self.options["fail_fast"]:
            stop(self.sweep, "sweep.fail_fast")
        if ended.state != "failed" and (self.quiet or ended.state in (PRUNED, PAUSED)):
            value = "" if ended.value is None else f": {ended.monitor} {ended.value:.4g}"
            say(f"{head} {ended.state} at step {ended.step}{value}")

    def _work(self, composition: Composition, folder: Path, head: str, starter: str | None) -> int:
        with contextlib.suppress(OSError):  # when memory runs out the system kills this job before the sweep
            Path("/proc/self/oom_score_adj").write_text("500")
        end_with_starter(signal.SIGTERM)  # saves first
        if starter:
            os.environ[STARTER] = starter
        if self.search.threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(self.search.threads)  # all the cores that the run finds
        with _own_gpus(self.sweep, self.search.gpus):
            return in_ranks(self.options["ranks"], partial(self._tried, composition, folder, head))

    def _tried(self, composition: Composition, folder: Path, head: str) -> int:
        """Train, in each rank; an error becomes the job's end."""
        try:
            ranks.join()
            with ranks.silence_other_ranks():
                code = self._train(composition, folder)
            ranks.leave(clean=True)
            return code
        except Exception as error:
            code, cause = _exit_of(error)
            log = folder / "trainrun.log"
            if ranks.report_failure(error):
                with contextlib.suppress(OSError), log.open("a", encoding="utf-8") as file:
                    file.write(traceback.format_exc())
            if ranks.is_main_process():
                say(f"{head} failed: {first_clause(cause)}", f"  its traceback: {log}")
                if not isinstance(error, errors.FolderBusyError):
                    _write_end(folder, state="failed", exit_code=code, reason=cause)
            return code

    def _train(self, composition: Composition, folder: Path) -> int:
        from trainrun.session.resume import resumed
        from trainrun.session.train import train_one

        command = [*ranks.command(), *composition.overrides]
        if identity(composition.settings) != folder.name:
            text = "conf/ or an experiment's file has changed since the sweep began; issue its line again"
            raise errors.ConfigError.of(folder.name, text)
        should_stop = self._should_stop(folder, composition.settings["monitor"].removeprefix("val/"))
        if ranks.broadcast_object((folder / "config.yaml").is_file()):
            words, typed = _free(composition.overrides), composition.settings  # checked with the sweep's line
            result = resumed(folder, words, self.quiet, command, should_stop, typed).result
            return result.exit_code if result else 0
        return train_one(composition, command, self.quiet, False, folder, should_stop).exit_code

    def _should_stop(self, folder: Path, metric: str) -> ShouldStop | None:
        """Asked after every evaluation: whether the run pauses for others, or is pruned."""
        if (share := self.share) is not None:
            return lambda event, total: PAUSED if event.step >= share * total else None
        if self.search.pruner is None:
            return None
        from trainrun.sweep.optuna import Pruner

        is_hopeless = Pruner(self.sweep, self.trials[folder.name], **self.search.pruner)
        return lambda event, total: PRUNED if is_hopeless(event.step / total, event.metrics[metric]) else None


@contextlib.contextmanager
def _own_gpus(sweep: Path, slots: Sequence[str]) -> Iterator[None]:
    """Within, this process, which must not have asked CUDA yet, sees only the GPUs of a free slot, if any."""
    while slots:
        for number, names in enumerate(slots):
            with (sweep / f".gpu-{number}").open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue  # another job's
                os.environ["CUDA_VISIBLE_DEVICES"] = names
                yield
                return
        time.sleep(_LOOK_S)  # there are as many slots as jobs at once: one is just leaving
    yield


def _warm(settings: Mapping[str, Any]) -> None:
    """Import once, for all jobs of this process, what every run imports: three seconds of each."""
    from trainrun.session.provenance import packages

    nodes = [*settings.values(), *(settings["logger"] or {}).values()]
    targets = [str(node["_target_"]) for node in nodes if isinstance(node, dict) and "_target_" in node]
    modules = [target.rpartition(".")[0] for target in targets if target.startswith("trainrun.")]
    for name in (*modules, *(f"trainrun.session.{name}" for name in ("resume", "open_run", "session"))):
        importlib.import_module(name)
    for name in [name for module in ("", *modules) for name in _LATE.get(module, ())]:
        with contextlib.suppress(ModuleNotFoundError):  # another version's
            importlib.import_module(name)
    packages()
    gc.collect()
    gc.freeze()  # no garbage that every job's collector looks through, or that its end waits for


def _free(words: Sequence[str]) -> list[str]:
    """The line's words on folders, loggers and cadence, which a resumed run takes from it."""
    from trainrun.session.resume import may_change

    return [word for word in words if may_change(key := key_of(word)) and is_left_out(key) and key != "name"]


def stop(sweep: Path, reason: str) -> None:
    """Let no further job begin. The file alone says so, even where the disk has no room for its reason."""
    with contextlib.suppress(OSError), (sweep / STOP).open("x", encoding="utf-8") as file:
        file.write(reason)


def stop_reason(sweep: Path) -> str:
    """Why no further job begins; empty where they may."""
    file = sweep / STOP
    return file.read_text() if file.exists() else ""


@contextlib.contextmanager
def _saved_first() -> Iterator[str | None]:
    """Under submitit, at its signal, the run saves and ends before its restart. Yields who restarts it."""
    number = getattr(signal, f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}")
    handler = signal.getsignal(number)
    if "SUBMITIT_EXECUTOR" not in os.environ or not callable(handler):
        yield None
        return
    received: list[int] = []

    def save(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.raise_signal(signal.SIGTERM)  # which is passed on to the run

    with handled([number], save):
        yield "submitit"
    if received:
        handler(number, None)


def _wait_for_owner(folder: Path) -> None:
    """Wait for a job whose sweep was killed: it saves and ends, which takes a moment."""
    until = time.monotonic() + OWNER_S
    while is_held(folder) and time.monotonic() < until:
        time.sleep(0.05)


def _record_exit(folder: Path, code: int, head: str) -> None:
    """Write into a job's status what ended it before it could do so itself."""
    if is_held(folder):
        return  # another process's
    name = signal.Signals(-code).name if code < 0 else "SIGINT" if code == 130 else ""
    ended = outcome(folder)
    is_unexplained = ended.state in ("pending", "interrupted") and not ended.reason
    if is_unexplained or (code < 0 and ended.state != "completed"):  # a reason may be of an earlier start
        if name in errors.INTERRUPTED:
            _write_end(folder, state="interrupted", exit_code=errors.INTERRUPTED[name], reason=name)
        elif code:
            reason = f"killed by {name}" if name else "failed before training"
            _write_end(folder, state="failed", exit_code=128 - code if code < 0 else code, reason=reason)
            say(f"{head} failed: {reason}{' (out of memory?)' * (name == 'SIGKILL')}")


def _write_end(folder: Path, **changes: Any) -> None:
    """Write how a job ended, where the disk has room; the sweep itself goes by sweep.json."""
    with contextlib.suppress(OSError):
        write_status(folder, **changes)


def _exit_of(error: Exception) -> tuple[int, str]:
    """(exit code, cause in one line)."""
    from trainrun.runtime.machine import is_out_of_memory

    if isinstance(error, errors.TrainrunError):
        return error.exit_code, " ".join(str(error).partition("\n")[0].split()).rstrip(":")
    if is_out_of_memory(error):
        return errors.OutOfMemoryError.exit_code, "out of memory before training began"
    return 1, " ".join(f"{type(error).__name__}: {error}".split())
