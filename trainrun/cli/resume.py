"""`trainrun resume RUN [overrides]`: go on from the newest valid checkpoint."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from trainrun import ranks
from trainrun.config.suggest import in_our_words, override
from trainrun.config.words import as_overrides, other_form
from trainrun.errors import ConfigError, Problem

if TYPE_CHECKING:
    from trainrun.config.build import Parts

# What a resumed run may change; everything else makes it another run.
FREE = (
    "logger*",
    "checkpoint*",
    "loop.log_every",
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


def run(words: list[str]) -> int:
    """Returns the exit code of the resumed run; 0 where there is nothing to do."""
    quiet = "-q" in words
    words = [word for word in words if word != "-q"]
    if not words or "=" in words[0]:
        raise ConfigError.one("RUN", "name the run to resume: a path, the beginning of one, a name, or last")
    if (meant := as_overrides(words, ())) != words:
        line = shlex.join(["trainrun", "resume", *map(in_our_words, meant)])
        raise ConfigError([other_form(words, meant, line)])
    from trainrun.cli.found import find

    return go_on(Path(ranks.from_first(str(find(words[0])))), words[1:], quiet)


def same_line(run_dir: Path, words: Sequence[str], quiet: bool) -> int:
    """`run_dir=PATH resume=auto` where PATH holds a run: go on with it, as its line says.

    The stored settings are the base, so that changed defaults cannot leak in; what the line says
    now and did not say at the start is a change.
    """
    file = run_dir / ".hydra" / "overrides.yaml"
    first = (
        [str(word) for word in yaml.safe_load(file.read_text(encoding="utf-8")) or ()]
        if file.is_file()
        else []
    )
    ours = [word for word in words if word.partition("=")[0] not in ("run_dir", "resume")]
    for word in first:
        if word.partition("=")[0] not in ("run_dir", "resume") and word not in ours:
            print(f"{word} was said when the run began, and stays", file=sys.stderr)
    return go_on(run_dir, [word for word in ours if word not in first], quiet)


def go_on(run_dir: Path, overrides: Sequence[str], quiet: bool) -> int:
    """Continue a stored run with some settings changed."""
    from trainrun.cli import session
    from trainrun.cli.stored import changes, open_run
    from trainrun.run.files import read_json
    from trainrun.runtime import cores

    status, stored = read_json(run_dir / "status.json"), open_run(run_dir, overrides)
    changed = changes(stored.before, stored.composition.settings)
    begun = read_json(run_dir / "environment.json")
    _refuse_other_window(begun, stored.parts)
    _refuse_identity(changed)
    if begun.get("ranks", 1) != ranks.size():
        print(f"ranks: {begun.get('ranks', 1)} -> {ranks.size()} (free)", file=sys.stderr)
    for key, (old, new) in changed.items():
        print(f"{key}: {old} -> {new} ({'free' if _is(key, FREE) else 'takes effect'})", file=sys.stderr)
    if any(_is(key, ("budget", "scheduler*")) for key in changed):
        steps = stored.parts.state.total_steps
        print(f"the learning rate is planned anew over {steps} steps, from where it stands", file=sys.stderr)
        if getattr(stored.parts.state.schedule, "needs_metric", False):
            print("what the schedule has seen of the metric stays", file=sys.stderr)
    if (threads := stored.parts.runtime.num_threads) > cores():
        text = "as when the run began, for the same bits; this machine offers fewer"
        print(f"runtime.threads: {threads} {text}, runtime.threads={cores()} is faster", file=sys.stderr)
    done = status.get("state") == "completed"
    if done and not changed and status.get("reason") != "budget":
        print(
            f"{run_dir} ended at step {status['step']} by {status['reason']}: nothing to do", file=sys.stderr
        )
        return 0
    if done and stored.parts.state.total_steps <= int(status.get("step") or 0):
        print(f"{run_dir} is complete at step {status['step']}: nothing to do", file=sys.stderr)
        return 0
    return session.go_on(stored.parts, run_dir, stored.composition.storable, quiet, bool(changed)).exit_code


def _refuse_other_window(begun: Mapping[str, Any], parts: Parts) -> None:
    """How ranks and accumulation cut the samples of a step is free; how many they are is not."""
    cut, before, now = parts.cut, begun.get("samples_per_step"), parts.samples_per_step
    if before in (None, now):
        return
    ranks_text = f" x {cut.num_ranks} ranks" if cut.num_ranks > 1 else ""
    text = f"the run takes {before} samples a step, this is {cut.batch_size} x {cut.accumulate}{ranks_text}"
    accumulate, rest = divmod(before, cut.batch_size * cut.num_ranks)
    if rest or not accumulate:
        raise ConfigError.one("batch_size", f"{text}; choose it so that the product stays")
    raise ConfigError.one("loop.accumulate", text, f"loop.accumulate={accumulate}")


def _refuse_identity(changed: Mapping[str, tuple[Any, Any]]) -> None:
    problems = []
    for key, (old, new) in changed.items():
        if not _is(key, FREE) and not _is(key, TAKES_EFFECT):
            text = f"cannot change on resume, {old} -> {new}; start a new run: trainrun {override(key, new)}"
            problems.append(Problem(key, text))
    if problems:
        raise ConfigError(problems)


def _is(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)
