"""Resume a stored run: which settings a resume may change, and what it says of each change."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from trainrun import ranks
from trainrun.config.arguments import as_overrides, other_form
from trainrun.config.overrides import key_of
from trainrun.config.suggest import hydra_value, in_our_words
from trainrun.run.files import number_in, read_json
from trainrun.run.history import end_of
from trainrun.session.provenance import Changes, experiment_files
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError, Problem

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts
    from trainrun.session.session import Result, ShouldStop


@dataclass(frozen=True)
class RunEnd:
    """The end of a run. `result` is None where the run in `run_dir` had nothing left to do."""

    result: Result | None
    run_dir: Path
    budget: str


# What a resumed run may change; everything else makes it another run.
FREE = (
    *("batch_size", "loop.accumulate"),  # of these and the ranks the product is the run's, its cut is free
    *("logger*", "checkpoint*", "loop.log_every", "loop.health", "loop.probes"),
    *("data.num_workers", "data.root"),
    *("data.eval_batch_size", "runtime.preemption_signal", "runtime.time_limit", "runtime.trust", "name"),
    *("runtime.profile", "runtime.timeout", "runtime.activation_checkpointing"),
    *("parallel", "parallel._target_", "parallel.bucket_mb"),
    *(f"parallel.{key}" for key in ("blocks", "shard", "reduce", "offload")),  # how fsdp divides, not what
)
TAKES_EFFECT = (
    *("budget", "scheduler*", "optimizer.*", "regularization.*", "loop.eval_every", "loop.stop_at"),
    *("loop.clip.*", "loop.nonfinite*", "loop.rollback_lr", "runtime.threads", "augment.until", "parallel.*"),
)
_PLACE = ("run_dir", "resume")  # say where a run is, not what
PLANS_LR = ("budget", "scheduler*", "optimizer.lr", "optimizer.lr_scaling", "optimizer.base_batch_size")


def refuse_other_forms(name: str, overrides: list[str]) -> None:
    """Raise ConfigError for `--budget 3ep` and the like, with the line that was meant."""
    if (meant := as_overrides(overrides, ())) != overrides:
        line = shlex.join(["trainrun", "resume", name, *map(in_our_words, meant)])
        raise ConfigError([other_form(overrides, meant, line)])


def changes_of_line(run_dir: Path, words: Sequence[str]) -> list[str]:
    """The changes of a line `run_dir=PATH resume=auto` where PATH holds a run already.

    The stored settings are the base, so that changed defaults cannot leak in: a change is what the
    line says now and did not say at the start.
    """
    first, keys = _first_words(run_dir), {key_of(word) for word in words}
    for word in first:
        if key_of(word) not in keys:
            say(f"{word}: kept from the first start")
    return [word for word in words if word not in first and key_of(word) not in _PLACE]


def _first_words(run_dir: Path) -> list[str]:
    """The overrides that a run began with, but for its place."""
    try:
        words = yaml.safe_load((run_dir / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return []  # it is for people alone
    texts = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
    return [word for word in texts if key_of(word) not in _PLACE]


def resumed(
    run_dir: Path,
    overrides: Sequence[str],
    quiet: bool,
    command: Sequence[str],
    should_stop: ShouldStop | None = None,
    typed: Mapping[str, Any] | None = None,
) -> RunEnd:
    """Resume a stored run, where anything is left to do. `typed`: settings whose targets the user names."""
    from trainrun.assembly.build import rates_of
    from trainrun.session.open_run import open_run, targets_of
    from trainrun.session.session import RunOptions, continue_run
    from trainrun.session.teacher import with_teacher

    stored = open_run(run_dir, overrides, {target for _, target in targets_of(typed)})
    budget = stored.composition.settings["budget"]
    status = read_json(run_dir / "status.json")  # after it: another process may have ended meanwhile
    changes = changed_settings(stored.before, stored.composition.settings)
    environment = read_json(run_dir / "environment.json")
    _refuse_identity(changes, run_dir, overrides)
    _refuse_other_window(environment, stored.parts)
    if reason := _nothing_left(run_dir, status, stored.parts, bool(changes)):
        unchanged = f"; {', '.join(changes)} stay{'' if len(changes) > 1 else 's'} as it was"
        say(f"{reason}: nothing to do{unchanged if changes else ''}")
        return RunEnd(None, run_dir, budget)
    classed = {key: (*pair, change_class(key)) for key, pair in changes.items()}
    is_replanned = any(_is(key, PLANS_LR) for key in changes)
    notes = _notes(classed, is_replanned, environment, stored.parts)
    rates = rates_of(stored.before, stored.parts) if is_replanned else None
    options = RunOptions(command, quiet, classed, notes, rates, should_stop=should_stop)
    result = continue_run(with_teacher(stored.parts, run_dir), run_dir, stored.composition.storable, options)
    return RunEnd(result, run_dir, budget)


def changed_settings(
    before: Mapping[str, Any], after: Mapping[str, Any], path: str = ""
) -> dict[str, tuple[Any, Any]]:
    """key -> (old, new) of every value that differs."""
    changes: dict[str, tuple[Any, Any]] = {}
    for name in {**before, **after}:
        key = f"{path}.{name}" if path else str(name)
        old, new = before.get(name), after.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            changes |= changed_settings(old, new, key)
        elif old != new or type(old) is not type(new):
            changes[key] = (old, new)
    return changes


def _notes(changes: Changes, is_replanned: bool, environment: Mapping[str, Any], parts: Parts) -> list[str]:
    """Lines for people on every change, and on what follows from it."""
    from trainrun.runtime.machine import cores

    notes = []
    if (ranks_before := number_in(environment, "ranks") or 1) != ranks.size():
        notes.append(f"ranks: {ranks_before} -> {ranks.size()} (free)")
    notes += [f"{key}: {_shown(old)} -> {_shown(new)} ({kind})" for key, (old, new, kind) in changes.items()]
    if is_replanned:
        length = f"{parts.state.total_steps} steps" if parts.budget is None else "the time left"
        notes.append(f"the learning rate is planned again over {length}, from where it stands")
        if getattr(parts.state.schedule, "needs_metric", False) and "scheduler._target_" not in changes:
            notes.append("the schedule keeps what it has seen of the metric")
    if (threads := parts.runtime.num_threads) > cores():
        text = "as when the run began, for the same bits; this machine offers fewer, runtime.threads="
        notes.append(f"runtime.threads: {threads} {text}{cores()} is faster")
    return notes


def _shown(value: Any) -> Any:
    """A value; of a call its name alone."""
    is_call = isinstance(value, Mapping) and "_target_" in value
    return value["_target_"].rpartition(".")[2] if is_call else value


def _nothing_left(run_dir: Path, status: Mapping[str, Any], parts: Parts, is_changed: bool) -> str | None:
    """Why a run that is complete by its records has nothing more to do; None where it has."""
    if status.get("state") != "completed":
        return None
    if (end := end_of(run_dir)) is None:
        say("status.json says that the run is complete, its records do not: going on")
        return None
    step, reason = end["step"], end.get("reason")
    if not is_changed and reason != "budget":
        return f"{run_dir} ended at step {step} by {reason}"
    has_more = parts.state.total_steps > step
    if parts.budget is not None:
        has_more = is_changed and parts.budget.limit_s > (number_in(status, "seconds") or 0.0)
    return None if has_more else f"{run_dir} is complete at step {step}"


def _refuse_other_window(environment: Mapping[str, Any], parts: Parts) -> None:
    """Refuse another number of samples per step; how ranks and accumulation cut them is free."""
    batch_spec, before = parts.batch_spec, number_in(environment, "samples_per_step")
    if before is None or before == parts.samples_per_step:
        return
    ranks_text = f" x {batch_spec.num_ranks} ranks" if batch_spec.num_ranks > 1 else ""
    factors = f"{batch_spec.batch_size} x {batch_spec.accumulate}{ranks_text}"
    text = f"the run takes {before} samples a step, this is {factors}"
    of_rank, remainder = divmod(int(before), batch_spec.num_ranks)
    if remainder:
        raise ConfigError.of("ranks", f"{text}; take a number of ranks that divides {before}")
    size = next(size for size in range(min(batch_spec.batch_size, of_rank), 0, -1) if of_rank % size == 0)
    cut = {"batch_size": size, "loop.accumulate": of_rank // size}
    now = {"batch_size": batch_spec.batch_size, "loop.accumulate": batch_spec.accumulate}
    raise ConfigError([Problem(key, text, f"{key}={n}") for key, n in cut.items() if n != now[key]])


def _refuse_identity(changes: Mapping[str, tuple[Any, Any]], run_dir: Path, overrides: Sequence[str]) -> None:
    """Raise ConfigError with the line of the new run that the overrides make."""
    refused = {key: pair for key, pair in changes.items() if not may_change(key)}
    if not refused:
        return
    line = shlex.join(["trainrun", *_new_run(run_dir, overrides)])
    start = ", which init_from starts from stored weights" if "init_from=" in line else ""
    text = "cannot change on resume, {} -> {}; it makes a new run" + start
    raise ConfigError([Problem(key, text.format(*pair), line) for key, pair in refused.items()])


def _new_run(run_dir: Path, overrides: Sequence[str]) -> list[str]:
    """The words that a run began with and those of now, from its weights where it has any."""
    from trainrun.checkpoint.reader import steps_in

    keys = [key_of(word) for word in overrides]
    replaced = tuple(f"{key}." for key in ("name", "init_from", *keys))  # with the values of such an option
    first = [word for word in _first_words(run_dir) if not f"{key_of(word)}.".startswith(replaced)]
    files = experiment_files(run_dir)
    words = [files.get(word, word) for word in (*first, *overrides)]
    if "init_from" not in keys and steps_in(run_dir / "checkpoints"):
        words.append(f"init_from={hydra_value(str(run_dir))}")
    return words


def change_class(key: str) -> str:
    """Whether another value of a setting is `free` on resume, `takes effect`, or makes another `identity`."""
    if key.startswith("optimizer.modules.") and key.count(".") == 2:
        return "identity"  # which optimizer it is, whose state another cannot take
    if _is(key, FREE):
        return "free"
    return "takes effect" if _is(key, TAKES_EFFECT) else "identity"


def may_change(key: str) -> bool:
    """Whether a run may be resumed with another value of a setting."""
    return change_class(key) != "identity"


def _is(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)
