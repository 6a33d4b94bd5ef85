"""Sweeps made by hand, as objects and as a sweep.json, which tests of several modules share."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainrun.sweep.folder import StoredSweep, read

REPEATS = ("seed", "data.fold")


def job(
    number: int, swept: Mapping[str, Any], value: float | None, state: str = "completed"
) -> dict[str, Any]:
    """A job of a sweep.json."""
    key = f"{number:010x}"
    about = {"key": key, "number": number, "folder": key, "swept": dict(swept), "state": state}
    words = [f"{name}={value}" for name, value in swept.items()]
    return (
        about
        | {"value": value, "overrides": words, "step": 480, "seconds": 5.1, "exit_code": 0}
        | {
            "reason": "budget",
            "test": {"accuracy": 0.5},
        }
    )


def record(jobs: Sequence[dict[str, Any]], mode: str = "max", **more: Any) -> dict[str, Any]:
    """The object of a sweep.json: the jobs, and their settings ranked."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for job in jobs:
        swept = {key: value for key, value in job["swept"].items() if key not in REPEATS}
        groups.setdefault(json.dumps(swept), []).append(job)
    settings = []
    for swept, members in groups.items():
        done = [job["value"] for job in members if job["state"] == "completed"]
        values = [value for value in done if value is not None]
        setting = {"swept": json.loads(swept), "count": len(values), "values": values}
        setting["mean"] = statistics.fmean(values) if values else None
        setting["std"] = statistics.stdev(values) if len(values) > 1 else None
        settings.append(setting | {"jobs": [job["key"] for job in members]})
    sign = 1 if mode == "min" else -1
    settings.sort(key=lambda setting: (setting["mean"] is None, sign * (setting["mean"] or 0)))
    content = {"words": ["-m"], "sweeper": "basic", "monitor": "val/accuracy", "mode": mode}
    content |= {"state": "completed", "jobs": list(jobs), "settings": settings, "best": None}
    return content | more


def store(folder: Path, content: Mapping[str, Any]) -> Path:
    """Write a sweep.json; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sweep.json").write_text(json.dumps(content))
    return folder


def sweep_of(folder: Path, jobs: Sequence[dict[str, Any]], mode: str = "max", **more: Any) -> StoredSweep:
    """The sweep of these jobs, as it is read from a folder."""
    return read(store(folder, record(jobs, mode, **more)))
