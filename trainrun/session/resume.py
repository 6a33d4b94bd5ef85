"""Resumes a stored run: what a resume may change, and what is told of it."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from trainrun import ranks
from trainrun.config.arguments import as_overrides, other_form
from trainrun.config.suggest import hydra_value, in_our_words
from trainrun.session import lineage
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError, Problem

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts
    from trainrun.session.session import Result, ShouldStop

# What a resumed run may change; everything else makes it another run.
FREE = (
    "logger*",
    "checkpoint*",
    "loop.log_every",
    "loop.health",
    "data.num_workers",
    "data.root",
    "batch_size",  # of these two and the ranks the product is the run's, and its cut is free
    "loop.accumulate",
    "data.eval_batch_size",
    "runtime.preemption_signal",
    "runtime.time_limit",
    "runtime.trust",
    "name",
)
TAKES_EFFECT = (
    *("budget", "scheduler*", "optimizer.*", "regularization.*", "loop.eval_every", "loop.stop_at"),
    *("loop.clip.*", "loop.nonfinite*", "loop.rollback_lr", "runtime.threads"),
)
PLANS_LR = ("budget", "scheduler*", "optimizer.lr", "optimizer.lr_scaling", "optimizer.base_batch_size")


def refuse_other_forms(name: str, overrides: list[str]) -> None:
    """Raises ConfigError for `--budget 3ep` and the like, with the line that was meant."""
    if (meant := as_overrides(overrides, ())) != overrides:
        line = shlex.join(["trainrun", "resume", name, *map(in_our_words, meant)])
        raise ConfigError([other_form(overrides, meant, line)])


def changes_of_line(run_dir: Path, words: Sequence[str]) -> list[str]:
    """`run_dir=PATH resume=auto` where PATH holds a run: what its line changes now.

    The stored settings are the base, so that changed defaults cannot leak in; what the line says
    now and did not say at the start is a change.
    """

    first = _first_words(run_dir)
    ours = [word for word in words if _key(word) not in ("run_dir", "resume")]
    said = {_key(word) for word in ours}
    for word in first:
        if _key(word) not in said:
            say(f"{word} was said when the run began, and stays")
    return [word for word in ours if word not in first]


def _first_words(run_dir: Path) -> list[str]:
    """The overrides that a run began with, but for its place."""
    try:
        words = yaml.safe_load((run_dir / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return []  # it is for people alone
    words = [word for word in words if isinstance(word, str)] if isinstance(words, list) else []
    return [word for word in words if _key(word) not in ("run_dir", "resume")]


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~")


def resumed(
    run_dir: Path,
    overrides: Sequence[str],
    quiet: bool,
    command: Sequence[str],
    judge: ShouldStop | None = None,
    typed: Collection[str] = (),
) -> tuple[Result, str] | None:
    """The same without last words: what it came to, and its budget; None where there is nothing to do."""
    from trainrun.assembly.build import rates_of
    from trainrun.run.files import number_in, read_json
    from trainrun.runtime.machine import cores
    from trainrun.session import session
    from trainrun.session.changes import RunOptions
    from trainrun.session.rebuild import changes, open_run

    stored = open_run(run_dir, overrides, typed)
    status = read_json(run_dir / "status.json")  # after it: another process may have come to its end
    changed = changes(stored.before, stored.composition.settings)
    begun = read_json(run_dir / "environment.json")
    _refuse_other_window(begun, stored.parts)
    _refuse_identity(changed, run_dir, overrides)
    if why := _nothing_left(run_dir, status, stored.parts, bool(changed)):
        kept = f"; {', '.join(changed)} stay{'' if len(changed) > 1 else 's'} as it was" if changed else ""
        say(f"{why}: nothing to do{kept}")
        return None
    notes: list[str] = []
    if (ranks_before := number_in(begun, "ranks") or 1) != ranks.size():
        notes.append(f"ranks: {ranks_before} -> {ranks.size()} (free)")
    classed = {
        key: (*change, "free" if _is(key, FREE) else "takes effect") for key, change in changed.items()
    }
    for key, (old, new, kind) in classed.items():
        notes.append(f"{key}: {_shown(old)} -> {_shown(new)} ({kind})")
    replanned = any(_is(key, PLANS_LR) for key in changed)
    if replanned:
        length = f"{stored.parts.state.total_steps} steps" if stored.parts.budget is None else "the time left"
        notes.append(f"the learning rate is planned anew over {length}, from where it stands")
        follows_metric = getattr(stored.parts.state.schedule, "needs_metric", False)
        if follows_metric and "scheduler._target_" not in changed:
            notes.append("what the schedule has seen of the metric stays")
    if (threads := stored.parts.runtime.num_threads) > cores():
        text = "as when the run began, for the same bits; this machine offers fewer"
        notes.append(f"runtime.threads: {threads} {text}, runtime.threads={cores()} is faster")
    was = rates_of(stored.before, stored.parts) if replanned else None
    process = RunOptions(command, quiet, classed, notes, was, judge=judge)
    result = session.go_on(stored.parts, run_dir, stored.composition.storable, process)
    return result, stored.composition.settings["budget"]


def _shown(value: Any) -> Any:
    """A call by its name alone."""
    is_call = isinstance(value, Mapping) and "_target_" in value
    return value["_target_"].rpartition(".")[2] if is_call else value


def _nothing_left(run_dir: Path, status: Mapping[str, Any], parts: Parts, changed: bool) -> str | None:
    """Why a completed run has nothing more to do; None where it has. Its records say that it is complete."""
    from trainrun.run.files import number_in
    from trainrun.run.history import end_of

    if status.get("state") != "completed":
        return None
    if (end := end_of(run_dir)) is None:
        say("status.json says that the run is complete, its records do not: going on")
        return None
    step, reason = end["step"], end.get("reason")
    if not changed and reason != "budget":
        return f"{run_dir} ended at step {step} by {reason}"
    if parts.budget is not None:
        has_more = changed and parts.budget.limit_s > (number_in(status, "seconds") or 0.0)
    else:
        has_more = parts.state.total_steps > step
    return None if has_more else f"{run_dir} is complete at step {step}"


def _refuse_other_window(begun: Mapping[str, Any], parts: Parts) -> None:
    """How ranks and accumulation cut the samples of a step is free; how many they are is not."""
    from trainrun.run.files import number_in

    batch_spec, before, now = parts.batch_spec, number_in(begun, "samples_per_step"), parts.samples_per_step
    if before is None or before == now:
        return
    ranks_text = f" x {batch_spec.num_ranks} ranks" if batch_spec.num_ranks > 1 else ""
    factors = f"{batch_spec.batch_size} x {batch_spec.accumulate}{ranks_text}"
    text = f"the run takes {before} samples a step, this is {factors}"
    accumulate, rest = divmod(int(before), batch_spec.batch_size * batch_spec.num_ranks)
    if rest or not accumulate:
        raise ConfigError.one("batch_size", f"{text}; choose it so that the product stays")
    raise ConfigError.one("loop.accumulate", text, f"loop.accumulate={accumulate}")


def _refuse_identity(changed: Mapping[str, tuple[Any, Any]], run_dir: Path, overrides: Sequence[str]) -> None:
    """Raises ConfigError with the line of the new run that the overrides make."""
    refused = {key: pair for key, pair in changed.items() if not may_change(key)}
    if not refused:
        return
    line = shlex.join(["trainrun", *_new_run(run_dir, overrides)])
    text = "cannot change on resume, {} -> {}; it makes a new run"
    if "init_from=" in line:
        text += ", which init_from starts from stored weights"
    raise ConfigError([Problem(key, text.format(*pair), line) for key, pair in refused.items()])


def _new_run(run_dir: Path, overrides: Sequence[str]) -> list[str]:
    """The words that a run began with and those of now, from its weights where it has any."""
    from trainrun.checkpoint.reader import steps_in

    said = [_key(word) for word in overrides]
    replaced = ("name", "init_from", *said)  # a value of an option that is replaced goes with it
    first = [
        word
        for word in _first_words(run_dir)
        if not any(f"{_key(word)}.".startswith(f"{key}.") for key in replaced)
    ]
    files = lineage.experiment_files(run_dir)
    words = [files.get(word, word) for word in (*first, *overrides)]
    if "init_from" not in said and steps_in(run_dir / "checkpoints"):
        words.append(f"init_from={hydra_value(str(run_dir))}")
    return words


def may_change(key: str) -> bool:
    """Whether a run that goes on may have another value of a setting."""
    return _is(key, (*FREE, *TAKES_EFFECT))


def _is(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)
