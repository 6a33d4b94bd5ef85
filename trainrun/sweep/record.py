"""A sweep under way: its jobs and what became of them, written to sweep.json and told at its end."""

from __future__ import annotations

import dataclasses
import re
import shlex
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainrun.config.call import StoredOrigin
from trainrun.config.compose.composer import Composition, Space
from trainrun.config.overrides import key_of
from trainrun.config.space import Point, Words
from trainrun.run.files import replace_json, storage_failed
from trainrun.sweep import folder as sweeps
from trainrun.sweep import ranking
from trainrun.sweep.job import STOP
from trainrun.sweep.outcome import outcome
from trainrun.sweep.ranking import RankedJob
from trainrun.sweep.sweep import counted
from trainrun.terminal.lines import answer, columns, say, show
from trainrun.terminal.numbers import number
from trainrun.vocabulary.errors import INTERRUPTED

if TYPE_CHECKING:
    from trainrun.sweep.plugins import Search


@dataclass
class Ongoing:
    """A sweep under way. `planned` are its jobs so far, by key, in their order."""

    space: Space
    folder: Path
    typed: Sequence[str]  # the line's words
    options: Mapping[str, Any]  # the group `sweep`
    search: Search
    quiet: bool
    known: dict[Words, Composition]
    signature: Mapping[str, Any] | None = None  # of the line, where it is the user's
    origin: StoredOrigin | None = None  # where the line comes from, if it was not typed
    trust: Sequence[str] = ()  # what the user lets such a line import
    planned: dict[str, tuple[Point, Composition]] = dataclasses.field(default_factory=dict)
    begun: set[str] = dataclasses.field(default_factory=set)  # keys of jobs that this start has run


def _entries(sweep: Ongoing) -> list[RankedJob]:
    return [
        RankedJob(key, number, _own(job.overrides), _swept(point), outcome(sweep.folder / key))
        for number, (key, (point, job)) in enumerate(sweep.planned.items(), 1)
    ]


def _swept(point: Point) -> dict[str, Any]:
    """What a point varies, with plain values."""
    from trainrun.config.compose.grammar import value_of

    return {key_of(word): value_of(word) for word in point.words}


def record(sweep: Ongoing, state: str) -> tuple[list[RankedJob], list[ranking.RankedSetting]]:
    """Write sweep.json; returns its jobs and settings. Raises StorageFailed where there is no room for it."""
    entries, maximize = _entries(sweep), sweep.search.maximize
    settings = ranking.ranked(entries, maximize)
    best = ranking.best_of(settings, maximize)
    content = {
        "words": list(sweep.typed),
        "signature": sweep.signature,
        "sweeper": sweep.search.name,
        "monitor": sweep.search.monitor,
        "mode": "max" if maximize else "min",
        "state": state,
        "best": None if best is None else _best(sweep, best),
        "settings": [one.record for one in settings],
        "jobs": [one.record for one in entries],
    }
    try:
        replace_json(sweep.folder / sweeps.FILE, content)
    except OSError as error:
        raise storage_failed(sweep.folder / sweeps.FILE, error) from None
    return entries, settings


def _best(sweep: Ongoing, best: RankedJob) -> dict[str, Any]:
    about = {"key": best.key, "folder": best.key, "value": best.outcome.value}
    return about | {"command": _again(sweep, best)}


def _again(sweep: Ongoing, entry: RankedJob) -> str:
    """The command that repeats one job: the line's own words, with the job's in the place of what varies."""
    point, _ = sweep.planned[entry.key]
    varied = {key_of(word) for word in point.words}
    fixed = [word for word in _own(sweep.typed) if key_of(word) not in varied]
    return shlex.join(["trainrun", *fixed, *point.words])


def _own(words: Iterable[str]) -> list[str]:
    """The words that are not about the sweep as a whole."""
    whole = ("sweep", "hydra", "hydra/sweeper", "hydra/launcher", "run_dir", "name")
    settings = [word for word in words if word not in ("-m", "--multirun")]
    return [word for word in settings if "=" not in word or key_of(word).split(".")[0] not in whole]


def is_trusted(word: str) -> bool:
    """Whether a stored line may say it: not what runs or names code beyond what a stored run may."""
    key = key_of(word).replace("/", ".")
    if key.startswith("hydra."):
        is_number = re.fullmatch(r"hydra\.launcher\.\w+=\d+", word) is not None  # of jobs, minutes, cores
        return is_number or key in ("hydra.sweeper", "hydra.launcher") or key.startswith("hydra.sweeper.")
    return key != "runtime.trust" and (word in ("-m", "--multirun") or not word.startswith("-"))


def tell(sweep: Ongoing) -> int:
    """The closing table, sweep.json, and the exit code."""
    from trainrun.sweep.standings import table

    why = (sweep.folder / STOP).read_text() if (sweep.folder / STOP).exists() else ""
    states = {outcome(sweep.folder / key).state for key in sweep.planned}
    state = "interrupted" if why in INTERRUPTED or states & {"interrupted", "pending"} else "completed"
    entries, settings = record(sweep, "failed" if "failed" in states else state)
    lines = table(entries, settings, sweep.search.monitor, columns(sys.stderr))
    show(["", f"sweep {sweep.folder}, {_counts(entries)}", *lines], sys.stderr)
    best = ranking.best_of(settings, sweep.search.maximize)
    if best is not None:
        where = sweep.folder / best.key
        say("", *_of_test(settings[0], sweep.search.monitor))
        say(f"best: {where}", "again:", f"  {_again(sweep, best)}")
        if sweep.quiet:
            answer(where)
    others = len([one for one in sweep.folder.glob("*/status.json") if one.parent.name not in sweep.planned])
    if others:
        say(f"{counted(others, 'more job')} lie here that this line does not ask for")
    if states & {"interrupted", "pending"} or why:
        say("to go on:", f"  {_line(sweep)}")
    elif "failed" in states:
        say("to repeat what failed:", f"  {_line(sweep, 'sweep.repeat_failed=true')}")
    return INTERRUPTED[why] if why in INTERRUPTED and "failed" not in states else ranking.exit_code(entries)


def _of_test(best: ranking.RankedSetting, monitor: str) -> list[str]:
    """What the first row came to on the test split, which chose nothing."""
    from trainrun.sweep.standings import beside

    tests = [one.outcome.test or {} for one in best.entries if one.outcome.state == "completed"]
    figures = []
    for name in (monitor.removeprefix("val/"), *beside([best], monitor)):
        values = [test[name] for test in tests if name in test]
        if values:
            spread = f" +/- {number(statistics.stdev(values))} over {len(values)}" if len(values) > 1 else ""
            figures.append(f"{name} {number(statistics.mean(values))}{spread}")
    return [f"row 1 on the test split, which chose nothing: {', '.join(figures)}"] if figures else []


def _line(sweep: Ongoing, *more: str) -> str:
    """What goes on with the sweep: its folder is enough, unless the line says what no file may."""
    if all(map(is_trusted, sweep.typed)):
        return shlex.join(["trainrun", "resume", str(sweep.folder), *more])
    return shlex.join(["trainrun", *sweep.typed, *more])


def _counts(entries: Sequence[RankedJob]) -> str:
    states = [one.outcome.state for one in entries]
    told = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return f"{counted(len(entries), 'job')}: {', '.join(told)}"
