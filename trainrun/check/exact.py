"""Train straight, twice; train, kill and resume; and compare what there is after every step."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainrun.assembly.build import build
from trainrun.check.context import leaves_in
from trainrun.checkpoint.state import TrainState
from trainrun.config.compose.composer import Composer, Composition
from trainrun.config.suggest import hydra_value
from trainrun.session import session
from trainrun.session.child import in_child
from trainrun.session.open_run import open_run, targets_of
from trainrun.session.session import RunOptions
from trainrun.session.teacher import with_teacher
from trainrun.vocabulary.duration import CLOCK_UNITS, parse
from trainrun.vocabulary.errors import ConfigError, TrainrunError
from trainrun.vocabulary.events import CheckpointSaved, Evaluated, Event, Started, StepsLogged

_REACHED, _KILLED = 0, 137
# What the comparison sets itself; it changes no weight.
_SET_HERE = ("logger", "loop.log_every", "loop.eval_every", "checkpoint.every", "run_dir", "resume", "name")

_NOT_REPEATABLE = """no run of this configuration is repeated exactly: kernels that add in any order, which
runtime.deterministic=true forbids, or randomness that does not come from torch, random or numpy"""
_NOT_STORED = """it is changed by loading: a state_dict or load_state_dict that leaves something out"""
_OUTSIDE = """the data or the forward pass depend on what no checkpoint holds: an attribute that is neither
parameter nor buffer, a buffer with persistent=False, a counter or cache in the data set, an own generator"""
_OPTIMIZER = """the loss was the same and the update was not: the optimizer, schedule or average keeps
something outside its state_dict"""


@dataclass(frozen=True)
class ExactResult:
    """Whether all steps were the same, and what to tell."""

    is_exact: bool
    lines: Sequence[str]


# What there was after each step: the loss it had, None before the first one of a process, and a digest of
# all that the next step computes with.
Trace = Mapping[int, tuple[float | None, Mapping[str, str]]]


class FailedTrainingError(TrainrunError):
    """A process of the comparison ended with an error, which it has printed."""

    def __init__(self, code: int) -> None:
        super().__init__("the comparison ended with this run's error")
        self.exit_code = code


def prove_resumed(words: Sequence[str], steps: int) -> ExactResult:
    """Compare `steps` steps of a run, or all of a shorter one, with the same run killed half way.

    Raises ConfigError for a budget by the clock, FailedTrainingError with the exit code of a process that
    ended with an error.
    """
    theirs = [word for word in words if word.partition("=")[0].lstrip("+") not in _SET_HERE]

    def killed_at(half: int) -> Composition:
        """The run with a save at that step."""
        ours = ["logger=none", "loop.log_every=1step", f"checkpoint.every={half}step"]
        ours += [f"loop.eval_every={max(1, half // 2)}step", "resume=never"]
        return Composer().checked([*theirs, *ours])

    if parse(killed_at(1).settings["budget"]).unit in CLOCK_UNITS:
        raise ConfigError.of("budget", "by the clock no run is twice the same; give steps", "budget=2ep")
    with tempfile.TemporaryDirectory(prefix="trainrun-exact-") as name:
        folder = Path(name)

        def start(run: str, half: int, dies_at: int | None = None) -> int:
            watch = Watch(folder / f"{run}.jsonl", steps, dies_at)
            return _run_in_child(lambda: _start(killed_at(half), folder / run, watch))

        start("straight", steps // 2)
        start("again", steps // 2)
        straight, again = _read(folder / "straight.jsonl"), _read(folder / "again.jsonl")
        half = min(steps, max(straight)) // 2
        if not half:
            return ExactResult(False, ["the run has a single step: there is nothing to resume"])
        resumed = folder / "resumed.jsonl"
        if start("killed", half, dies_at=half) == _KILLED:
            settings = killed_at(half).settings
            _run_in_child(lambda: _resume(folder / "killed", settings, Watch(resumed, steps)))
        return _verdict(straight, again, _read(resumed) if resumed.exists() else {})


class Watch:
    """A sink that writes down what there is after every step, and ends the process where it is told to."""

    def __init__(self, file: Path, last: int, dies_at: int | None = None) -> None:
        self.file, self.last, self.dies_at = file, last, dies_at
        self.state: TrainState | None = None
        self.loss: float | None = None  # of the step before

    def __call__(self, event: Event) -> None:
        evaluated = isinstance(event, Evaluated) and event.split == "val"  # which may settle an average anew
        if (evaluated or isinstance(event, (Started, StepsLogged))) and self.state is not None:
            self.loss = event.loss if isinstance(event, StepsLogged) else self.loss
            record = {"step": event.step, "loss": self.loss, "digests": dict(_digests(self.state))}
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        if isinstance(event, CheckpointSaved) and self.dies_at is not None and event.step >= self.dies_at:
            os._exit(_KILLED)  # as a power cut would: nothing is closed, nothing is said
        if isinstance(event, StepsLogged) and event.step >= self.last and self.dies_at is None:
            os._exit(_REACHED)


def _start(composition: Composition, run_dir: Path, watch: Watch) -> int:
    run_dir.mkdir()
    parts = with_teacher(build(composition.settings))
    watch.state = parts.state
    process = RunOptions(["trainrun", *composition.overrides], quiet=True, watch=watch)
    return session.start(composition, parts, process, run_dir).exit_code


def _resume(run_dir: Path, settings: Mapping[str, Any], watch: Watch) -> int:
    """Resume what `settings` began; all that they name was typed by the user."""
    trust, typed = settings["runtime"]["trust"], {target for _, target in targets_of(settings)}
    stored = open_run(run_dir, [f"runtime.trust={hydra_value(trust)}"] if trust else [], typed)
    parts = with_teacher(stored.parts, run_dir)
    watch.state = parts.state
    process = RunOptions(["trainrun", "resume", str(run_dir)], quiet=True, watch=watch)
    return session.continue_run(parts, run_dir, stored.composition.storable, process).exit_code


def _run_in_child(function: Callable[[], int]) -> int:
    """How a process that calls `function` ended. Raises FailedTrainingError where it was with an error."""
    code = in_child(function, [])
    if code not in (_REACHED, _KILLED):
        raise FailedTrainingError(code if code > 0 else 128 - code)
    return code


def _digests(state: TrainState) -> Iterator[tuple[str, str]]:
    """(name, digest) of what the next step computes with: weights, averages, the optimizer's memory."""
    parts = state.state_dict()
    names = [name for name, _, _ in parts["optimizer"]["parameters"]]
    memory = parts["optimizer"]["state"]["state"]
    parts["optimizer"] = {names[index]: values for index, values in memory.items()}
    stored = {name: parts[name] for name in ("model", "optimizer", "averager") if name in parts}
    for name, value in leaves_in(stored):
        plain = value.detach().cpu().contiguous() if isinstance(value, Tensor) else None
        body = bytes(plain.view(-1).view(torch.uint8).numpy()) if plain is not None else repr(value).encode()
        yield name, hashlib.blake2b(body, digest_size=8).hexdigest()


def _verdict(straight: Trace, again: Trace, resumed: Trace) -> ExactResult:
    def different(where: str, cause: str) -> ExactResult:
        return ExactResult(False, [*lines, where, f"different; likely {' '.join(cause.split())}"])

    last, lines = max(straight), list[str]()
    if difference := _difference(straight, again):
        return different(f"straight  two runs differ {difference[-1]}", _NOT_REPEATABLE)
    lines = [f"straight  {last} steps, twice: the same {len(straight[last][1])} values after each"]
    if not resumed:
        text = "resumed   the run ended before its save was on the disk; give a longer budget"
        return ExactResult(False, [*lines, text])
    begun = min(resumed)
    if difference := _difference(straight, resumed):
        step, loss_differs, where = difference
        cause = _NOT_STORED if step == begun else _OUTSIDE if loss_differs else _OPTIMIZER
        return different(f"resumed   from step {begun} on, it differs {where}", cause)
    text = f"resumed   killed, and gone on from step {begun}: the same"
    return ExactResult(True, [*lines, text, "identical"])


def _difference(trace: Trace, other: Trace) -> tuple[int, bool, str] | None:
    """(first step after which two runs are not the same, whether its loss differs, what differs)."""
    for step in sorted(trace.keys() & other.keys()):
        (loss, ours), (other_loss, theirs) = trace[step], other[step]
        names = [key for key in dict.fromkeys([*ours, *theirs]) if ours.get(key) != theirs.get(key)]
        loss_differs = loss is not None and other_loss is not None and loss != other_loss
        if names or loss_differs:
            first = names[0] if names else "the loss"
            others = f" and {len(names) - 1} others" if len(names) > 1 else ""
            losses = f"; its loss is {loss} and {other_loss}" if loss_differs else ""
            return step, loss_differs, f"after step {step} in {first}{others}{losses}"
    return None


def _read(file: Path) -> Trace:
    records = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {record["step"]: (record["loss"], record["digests"]) for record in records}
