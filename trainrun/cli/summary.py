"""What became of a sweep: a line per job with what it swept, and mean and spread over seeds and folds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainrun.logger.lines import number
from trainrun.run.files import read_json

_REPEATS = {"seed": "seeds", "data.fold": "folds"}  # of one experiment


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its overrides and its folder."""

    overrides: tuple[str, ...]
    folder: Path

    @property
    def status(self) -> dict[str, Any]:
        return read_json(self.folder / "status.json")


def summary(jobs: Sequence[Job]) -> tuple[list[str], int]:
    """(lines for people, the exit code: that of the first job that failed)."""
    swept = {job.folder: _swept(job, jobs) for job in jobs}
    status = {job.folder: job.status for job in jobs}
    codes = [int(one.get("exit_code") or 0) for one in status.values()]
    rows = [
        [str(n), str(one.get("state", "failed")), _figure(one), " ".join(swept[folder]), str(folder)]
        for n, (folder, one) in enumerate(status.items(), 1)
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)] if rows else []
    lines = [
        "  ".join([row[0].rjust(widths[0] + 2), *map(str.ljust, row[1:4], widths[1:]), row[4]])
        for row in rows
    ]
    return lines + _over_repeats(swept, status), next((code for code in codes if code), 0)


def _swept(job: Job, jobs: Sequence[Job]) -> list[str]:
    """The settings of a job that not all share."""
    return [word for word in job.overrides if not all(word in other.overrides for other in jobs)]


def _metric(status: dict[str, Any]) -> tuple[str, float] | None:
    """(name, value) of what was monitored, at its best; None where a job came to none."""
    name = str(status.get("monitor") or "")
    value = ((status.get("best") or {}).get("metrics") or {}).get(name.removeprefix("val/"))
    return (name, float(value)) if isinstance(value, (int, float)) else None


def _figure(status: dict[str, Any]) -> str:
    found = _metric(status)
    return f"best {found[0]} {number(found[1])}" if found else str(status.get("reason") or "")


def _over_repeats(swept: dict[Path, list[str]], status: dict[Path, dict[str, Any]]) -> list[str]:
    """Mean and standard deviation over the jobs that differ in seed and fold alone.

    Over folds also of all that was measured on the test split: it is the fold, unless the data have
    one of their own.
    """
    groups: dict[tuple[str, ...], list[Path]] = {}
    for folder, words in swept.items():
        rest = tuple(word for word in words if word.partition("=")[0] not in _REPEATS)
        if len(rest) < len(words) and status[folder].get("state") == "completed" and _metric(status[folder]):
            groups.setdefault(rest, []).append(folder)
    lines = []
    for rest, folders in groups.items():
        counts = {
            name: len({word for folder in folders for word in swept[folder] if word.startswith(f"{key}=")})
            for key, name in _REPEATS.items()
        }
        over = " and ".join(f"{count} {name}" for name, count in counts.items() if count)
        found = [dict([one]) for folder in folders if (one := _metric(status[folder]))]
        tests = [status[folder].get("test") or {} for folder in folders if counts["folds"]]
        tests = [{f"test/{name}": value for name, value in one.items()} for one in tests]
        for values in (found, tests):
            if len(values) > 1 and (told := _spread(values)):
                lines.append(f"{' '.join([*rest, told])} over {over}")
    return ["", *lines] if lines else []


def _spread(found: Sequence[dict[str, Any]]) -> str:
    """`accuracy 0.9800 +/- 0.0100 loss ...` of the numbers that all have."""
    names = [name for name in found[0] if all(isinstance(one.get(name), float) for one in found)]
    return " ".join(
        f"{name} {number(statistics.mean(values))} +/- {number(statistics.stdev(values))}"
        for name in names
        if (values := [one[name] for one in found])
    )
