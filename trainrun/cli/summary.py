"""What became of a sweep: a line per job with what it swept, and mean and spread over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainrun.logger.lines import number
from trainrun.run.files import read_json


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
    return lines + _over_seeds(swept, status), next((code for code in codes if code), 0)


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


def _over_seeds(swept: dict[Path, list[str]], status: dict[Path, dict[str, Any]]) -> list[str]:
    """Mean and standard deviation over the jobs that differ in `seed` alone."""
    groups: dict[tuple[str, ...], list[tuple[str, float]]] = {}
    for folder, words in swept.items():
        rest = tuple(word for word in words if not word.startswith("seed="))
        found = _metric(status[folder])
        if found and len(rest) < len(words) and status[folder].get("state") == "completed":
            groups.setdefault(rest, []).append(found)
    lines = [
        f"{' '.join([*rest, found[0][0]])} {number(statistics.mean(value for _, value in found))}"
        f" +/- {number(statistics.stdev(value for _, value in found))} over {len(found)} seeds"
        for rest, found in groups.items()
        if len(found) > 1
    ]
    return ["", *lines] if lines else []
