"""sweep.json: a running sweep's jobs and settings, ranked, with the command that repeats the best."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainrun.config.call import StoredOrigin
from trainrun.config.compose.composer import Composition, Space
from trainrun.config.compose.grammar import value_of
from trainrun.config.overrides import key_of
from trainrun.config.space import Point, Words
from trainrun.run.files import replace_json, storage_failed
from trainrun.sweep.folder import FILE
from trainrun.sweep.outcome import outcome
from trainrun.sweep.ranking import RankedJob, RankedSetting, best_of, ranked

if TYPE_CHECKING:
    from trainrun.sweep.plugins import Search

_OF_THE_SWEEP = ("sweep", "hydra", "hydra/sweeper", "hydra/launcher", "run_dir", "name")


@dataclass
class RunningSweep:
    """A sweep under way."""

    space: Space
    folder: Path
    typed: Sequence[str]  # the line's words
    options: Mapping[str, Any]  # the group `sweep`
    search: Search
    quiet: bool
    composed: dict[Words, Composition]  # jobs that were composed beforehand
    signature: Mapping[str, Any] | None = None  # of the line, where it is the user's
    origin: StoredOrigin | None = None  # where the line comes from, if it was not typed
    trust: Sequence[str] = ()  # what the user lets such a line import
    planned: dict[str, tuple[Point, Composition]] = dataclasses.field(
        default_factory=dict
    )  # by key, in order
    begun: set[str] = dataclasses.field(default_factory=set)  # keys of jobs that this start has run


def write_sweep_json(sweep: RunningSweep, state: str) -> tuple[list[RankedJob], list[RankedSetting]]:
    """Write sweep.json; returns its jobs and settings. Raises StorageError where there is no room for it."""
    maximize, file = sweep.search.maximize, sweep.folder / FILE
    jobs = [
        RankedJob(key, number, _of_job(job.overrides), _swept(point), outcome(sweep.folder / key))
        for number, (key, (point, job)) in enumerate(sweep.planned.items(), 1)
    ]
    settings = ranked(jobs, maximize)
    best = best_of(settings, maximize)
    content = {
        "words": list(sweep.typed),
        "signature": sweep.signature,
        "sweeper": sweep.search.name,
        "monitor": sweep.search.monitor,
        "mode": "max" if maximize else "min",
        "state": state,
        "best": best and {**_best(best), "command": repeat_command(sweep, best)},
        "settings": [setting.record for setting in settings],
        "jobs": [job.record for job in jobs],
    }
    try:
        replace_json(file, content)
    except OSError as error:
        raise storage_failed(file, error) from None
    return jobs, settings


def _best(job: RankedJob) -> dict[str, Any]:
    return {"key": job.key, "folder": job.key, "value": job.outcome.value}


def _swept(point: Point) -> dict[str, Any]:
    """The settings that a point varies, with plain values."""
    return {key_of(word): value_of(word) for word in point.words}


def repeat_command(sweep: RunningSweep, job: RankedJob) -> str:
    """The command that repeats one job: the line's own words, with the job's in place of what varies."""
    point, _ = sweep.planned[job.key]
    varied = {key_of(word) for word in point.words}
    fixed = [word for word in _of_job(sweep.typed) if key_of(word) not in varied]
    return shlex.join(["trainrun", *fixed, *point.words])


def _of_job(words: Iterable[str]) -> list[str]:
    """The words that are not about the sweep as a whole."""
    return [
        word
        for word in words
        if word not in ("-m", "--multirun")
        and ("=" not in word or key_of(word).split(".")[0] not in _OF_THE_SWEEP)
    ]


def is_trusted(word: str) -> bool:
    """Whether a stored line may say it: not what runs or names code beyond what a stored run may."""
    key = key_of(word).replace("/", ".")
    if key.startswith("hydra."):
        is_number = re.fullmatch(r"hydra\.launcher\.\w+=\d+", word) is not None  # of jobs, minutes, cores
        return is_number or key in ("hydra.sweeper", "hydra.launcher") or key.startswith("hydra.sweeper.")
    return key != "runtime.trust" and (word in ("-m", "--multirun") or not word.startswith("-"))
