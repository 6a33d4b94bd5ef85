"""sweep.json: a running sweep's jobs and settings, ranked by mean, and the command that repeats the best."""

from __future__ import annotations

import re
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainrun.config.call import StoredOrigin
from trainrun.config.compose.composer import Composition, Space
from trainrun.config.compose.grammar import value_of
from trainrun.config.overrides import key_of
from trainrun.config.space import REPLICATES, Point, Words
from trainrun.ranks.launcher import torchrun
from trainrun.run.files import replace_json, storage_errors
from trainrun.sweep.folder import FILE, Best, StoredSetting, StoredSweep, SweptJob
from trainrun.sweep.outcome import outcome

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
    planned: dict[str, tuple[Point, Composition]] = field(default_factory=dict)  # by key, in order
    begun: set[str] = field(default_factory=set)  # keys of jobs that this start has run


def write_sweep_json(sweep: RunningSweep, state: str) -> StoredSweep:
    """Write sweep.json, and return what it holds. Raises StorageError where there is no room for it."""
    search, file = sweep.search, sweep.folder / FILE
    jobs = tuple(_swept_job(sweep, number, key) for number, key in enumerate(sweep.planned, 1))
    settings = ranked(jobs, search.maximize)
    about = (sweep.folder, tuple(sweep.typed), sweep.signature, search.name, search.monitor)
    mode, best = "max" if search.maximize else "min", _best(sweep, jobs, settings)
    stored = StoredSweep(*about, mode, state, best, settings, jobs)
    content = asdict(stored)
    del content["path"]
    for job in content["jobs"]:
        job |= {"reason": job["reason"] or None, "test": job["test"] or None}
    with storage_errors(file):
        replace_json(file, content)
    return stored


def _swept_job(sweep: RunningSweep, number: int, key: str) -> SweptJob:
    point, job = sweep.planned[key]
    swept = {key_of(word): value_of(word) for word in point.words}
    ended = outcome(sweep.folder / key)
    figures = (ended.state, ended.value, ended.step, ended.seconds, ended.exit_code, ended.reason)
    return SweptJob(key, number, key, _of_job(job.overrides), swept, *figures, ended.test)


def ranked(jobs: Sequence[SweptJob], maximize: bool) -> tuple[StoredSetting, ...]:
    """The settings, best mean first; then those of which a replicate failed, and those without a mean."""
    groups: dict[str, list[SweptJob]] = {}
    for job in jobs:
        groups.setdefault(repr(list(_setting(job).items())), []).append(job)
    settings = []
    for members in groups.values():
        values = [job.value for job in members if job.is_completed and job.value is not None]
        mean = statistics.mean(values) if values else None
        std = statistics.stdev(values) if len(values) > 1 else None
        keys = tuple(job.key for job in members)
        settings.append(StoredSetting(_setting(members[0]), mean, std, len(values), tuple(values), keys))
    failed, sign = {job.key for job in jobs if job.state == "failed"}, -1 if maximize else 1
    with_mean = [setting for setting in settings if setting.mean is not None]
    with_mean.sort(key=lambda setting: (not failed.isdisjoint(setting.jobs), sign * (setting.mean or 0.0)))
    return (*with_mean, *(setting for setting in settings if setting.mean is None))


def _setting(job: SweptJob) -> dict[str, Any]:
    return {key: value for key, value in job.swept.items() if key not in REPLICATES}


def _best(sweep: RunningSweep, jobs: Sequence[SweptJob], settings: Sequence[StoredSetting]) -> Best | None:
    """The best job of the best setting, with the line's words but for what varies; None without any."""
    if not settings or settings[0].mean is None:
        return None
    values = {job.key: job.value for job in jobs if job.is_completed and job.value is not None}
    keys = filter(values.__contains__, settings[0].jobs)
    best = (max if sweep.search.maximize else min)(keys, key=values.__getitem__)
    point, _ = sweep.planned[best]
    varied = {key_of(word) for word in point.words}
    fixed = [word for word in _of_job(sweep.typed) if key_of(word) not in varied]
    return Best(
        best, best, values[best], shlex.join([*torchrun(sweep.options["ranks"]), *fixed, *point.words])
    )


def _of_job(words: Iterable[str]) -> tuple[str, ...]:
    """The words that are not about the sweep as a whole."""
    words = (word for word in words if word not in ("-m", "--multirun"))
    return tuple(w for w in words if "=" not in w or key_of(w).split(".")[0] not in _OF_THE_SWEEP)


def is_trusted(word: str) -> bool:
    """Whether a stored line may say it: not what runs or names code beyond what a stored run may."""
    key = key_of(word).replace("/", ".")
    if key.startswith("hydra."):
        is_number = re.fullmatch(r"hydra\.launcher\.\w+=\d+", word) is not None  # of jobs, minutes, cores
        return is_number or key in ("hydra.sweeper", "hydra.launcher") or key.startswith("hydra.sweeper.")
    return key != "runtime.trust" and (word in ("-m", "--multirun") or not word.startswith("-"))
