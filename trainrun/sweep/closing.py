"""Print a sweep's closing table, best settings first, its best job and the command to resume; exit code."""

from __future__ import annotations

import shlex
import statistics
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from trainrun.config.suggest import hydra_value
from trainrun.sweep.folder import StoredSweep, SweptJob
from trainrun.sweep.job import stop_reason
from trainrun.sweep.outcome import first_clause, outcome
from trainrun.sweep.sweep import counted
from trainrun.sweep.sweep_json import RunningSweep, is_trusted, write_sweep_json
from trainrun.terminal.lines import answer, columns, say, show
from trainrun.terminal.numbers import number
from trainrun.terminal.table import GAP, cut, row_of
from trainrun.vocabulary.errors import INTERRUPTED

_WIDEST = 30  # columns of a value: a list of four numbers
_ASKED_FOR = ("accuracy", "r2", "perplexity")  # what people compare, whatever the loss ranks
_MANY = 12  # jobs without a result that get a line: half a terminal

Metrics = Mapping[str, Mapping[str, float]]  # by a job's key: those of the validation split, at its best


def close_sweep(sweep: RunningSweep) -> int:
    """Write sweep.json for the last time and print the result; returns the exit code."""
    folder, reason = sweep.folder, stop_reason(sweep.folder)
    outcomes = {key: outcome(folder / key) for key in sweep.planned}
    states = Counter(ended.state for ended in outcomes.values())
    is_open = bool(states["interrupted"] or states["pending"])
    state = "interrupted" if is_open or reason in INTERRUPTED else "completed"
    stored = write_sweep_json(sweep, "failed" if states["failed"] else state)
    counts = ", ".join(f"{count} {state}" for state, count in states.items())
    metrics = {key: ended.metrics for key, ended in outcomes.items()}
    lines = table(stored, metrics, columns(sys.stderr))
    show(["", f"sweep {folder}, {counted(len(outcomes), 'job')}: {counts}", *lines], sys.stderr)
    if best := stored.best:
        say("", *_test_line(stored, metrics))
        say(f"best: {folder / best.folder}", "again:", f"  {best.command}")
        if any(setting.count > 1 for setting in stored.settings):
            say("all metrics:", f"  trainrun compare {shlex.quote(str(folder))}")
        if sweep.quiet:
            answer(folder / best.folder)
    if others := sum(file.parent.name not in sweep.planned for file in folder.glob("*/status.json")):
        say(f"{counted(others, 'more job')} lie here that this line does not ask for")
    if is_open or reason:
        say("to go on:", f"  {_resume_command(sweep)}")
    elif states["failed"]:
        say("to repeat what failed:", f"  {_resume_command(sweep, 'sweep.repeat_failed=true')}")
    return INTERRUPTED[reason] if reason in INTERRUPTED and not states["failed"] else exit_code(stored.jobs)


def exit_code(jobs: Sequence[SweptJob]) -> int:
    """That of the first job that failed, else of the first that was interrupted or did not begin, else 0."""
    states = ("failed", "interrupted", "pending")
    ended = [job for state in states for job in jobs if job.state == state]
    return (ended[0].exit_code or 1) if ended else 0


def _resume_command(sweep: RunningSweep, *more: str) -> str:
    """The command that resumes the sweep: by its folder, unless the line says what no file may."""
    words = ["resume", str(sweep.folder)] if all(map(is_trusted, sweep.typed)) else sweep.typed
    return shlex.join(["trainrun", *words, *more])


def _test_line(sweep: StoredSweep, metrics: Metrics) -> list[str]:
    """A line on the metrics of the first row's jobs on the test split, which chose nothing."""
    keys, figures = set(sweep.settings[0].jobs), []
    jobs = [job for job in sweep.jobs if job.key in keys]
    for name in (sweep.monitor.removeprefix("val/"), *_extra_metrics([jobs], sweep.monitor, metrics)):
        values = [job.test[name] for job in jobs if job.is_completed and name in job.test]
        if values:
            spread = f" +/- {number(statistics.stdev(values))} over {len(values)}" if len(values) > 1 else ""
            figures.append(f"{name} {number(statistics.mean(values))}{spread}")
    return [f"row 1 on the test split, which chose nothing: {', '.join(figures)}"] if figures else []


def _extra_metrics(rows: Sequence[Sequence[SweptJob]], monitor: str, metrics: Metrics) -> list[str]:
    """The metrics that people ask for, beside the loss by which a sweep ranks."""
    names = _ASKED_FOR if monitor == "val/loss" else ()
    return [name for name in names if any(_mean(jobs, metrics, name) is not None for jobs in rows)]


def _mean(jobs: Sequence[SweptJob], metrics: Metrics, name: str) -> float | None:
    """The mean of a metric over completed jobs; None where one lacks it."""
    completed = [metrics[job.key] for job in jobs if job.is_completed]
    values = [values[name] for values in completed if name in values]
    return statistics.mean(values) if values and len(values) == len(completed) else None


def table(sweep: StoredSweep, metrics: Metrics, width: int | None) -> list[Text]:
    """A line per setting below a line of heads; and per job without a result its cause."""
    monitor, settings, by_key = sweep.monitor, sweep.settings, {job.key: job for job in sweep.jobs}
    groups = [[by_key[key] for key in setting.jobs] for setting in settings]
    varied = list(dict.fromkeys(key for setting in settings for key in setting.swept))
    is_repeated = any(len(members) > 1 for members in groups)
    extra = _extra_metrics(groups, monitor, metrics)
    over, last = (["over"], ["time"]) if is_repeated else ([], ["time", "job"])
    rows = [["", monitor, *over, *(f"val/{name}" for name in extra), *_short(varied), *last]]
    for place, (setting, members) in enumerate(zip(settings, groups, strict=True), 1):
        if setting.mean is None:
            break  # these are the last
        row = [number(setting.mean) + ("" if setting.std is None else f" +/- {number(setting.std)}")]
        row += [f"{setting.count} of {len(members)}"] if is_repeated else []
        means = [_mean(members, metrics, name) for name in extra]
        row += ["" if mean is None else number(mean) for mean in means]
        row += [_text(setting.swept.get(key)) for key in varied]
        seconds = [job.seconds for job in members if job.seconds is not None]
        row += [f"{statistics.fmean(seconds):.1f} s" if seconds else ""]
        rows.append([str(place), *row, *([] if is_repeated else setting.jobs)])
    return [*(_laid_out(rows, width) if rows[1:] else []), *_others(sweep, width)]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, dict)):
        return cut(hydra_value(value), _WIDEST)
    return cut(str(value).lower() if isinstance(value, bool) or value is None else str(value), _WIDEST)


def _short(keys: Sequence[str]) -> list[str]:
    """The keys by their last word, where that is enough to tell them apart."""
    names = [key.rpartition(".")[2] for key in keys]
    return [name if names.count(name) == 1 else key for key, name in zip(keys, names, strict=True)]


def _laid_out(rows: Sequence[Sequence[str]], width: int | None) -> list[Text]:
    """Columns as wide as they need; on a narrow terminal the jobs go first, then the last settings."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    count = len(widths)
    while width is not None and sum(widths[:count]) + GAP * count > width and count > 3:
        count -= 1
    lines = [Text(row_of(row[:count], widths[:count], range(1, count))) for row in rows]
    lines[0].stylize("dim")
    lines[1].stylize("bold")
    return lines


def _others(sweep: StoredSweep, width: int | None) -> list[Text]:
    """Lines on failed jobs, then on those that a search gave up, the furthest first and not all of many."""
    failed = [job for job in sweep.jobs if job.state == "failed"]
    given_up = [job for job in sweep.jobs if job.state not in ("failed", "completed")]
    given_up.sort(key=lambda job: -(job.step or 0))
    lines = [""]
    for job in (*failed, *given_up[:_MANY]):
        value = "" if job.value is None else f", {sweep.monitor} {number(job.value)}"
        cause = first_clause(job.reason) if job.state == "failed" else f"at step {job.step}{value}"
        words = " ".join(f"{key}={_text(value)}" for key, value in job.swept.items())
        line = f"{job.key}  {job.state:<11}  {words}: {cause}".rstrip(": ")
        lines.append(line if width is None else cut(line, width))
    if len(given_up) > _MANY:
        lines.append(f"and {len(given_up) - _MANY} more, in sweep.json")
    return list(map(Text, lines)) if lines[1:] else []
