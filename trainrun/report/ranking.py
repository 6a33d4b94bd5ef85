"""The ranking of a sweep as a table, and which settings its metric follows."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from trainrun.report.importance import ENOUGH, SettingImportance, importances, keys_of, repeats_of
from trainrun.report.values import cell_of, shortened, text_of
from trainrun.run.history import is_number
from trainrun.run.listing import printable
from trainrun.sweep.folder import StoredSweep
from trainrun.sweep.sweep import counted as number_of
from trainrun.terminal.numbers import number
from trainrun.terminal.table import GAP, heading, laid_out

_MOST = 10  # rows, of more the best
_MOST_KEYS = 12
_CELL = 20  # columns for a setting


@dataclass(frozen=True)
class Row:
    """A setting as it stands in the ranking; where none of its jobs completed by what they came to so far."""

    swept: Mapping[str, Any]
    mean: float
    std: float | None
    count: int
    is_completed: bool
    jobs: Sequence[str]  # their keys


def lines(sweep: StoredSweep, width: int) -> list[Text]:
    """At most `width` columns: what there is, the best settings, and what the ranking follows."""
    important, rows = importances(sweep), ranked(sweep)
    texts = [*map(Text, (*_about(sweep), ""))]
    texts += _table(sweep, rows, width, [row.key for row in important])
    texts += _followed(sweep, important)
    for text in texts:
        text.truncate(width, overflow="ellipsis")
    return texts


def counted(sweep: StoredSweep) -> str:
    """`24 jobs: 21 completed, 3 failed`."""
    states = Counter(job.state for job in sweep.jobs).most_common()
    return f"{number_of(len(sweep.jobs), 'job')}: {', '.join(f'{count} {state}' for state, count in states)}"


def _about(sweep: StoredSweep) -> list[str]:
    better = "larger" if sweep.mode == "max" else "smaller"
    texts = [f"{printable(sweep.path)}  {counted(sweep)}", f"{sweep.monitor}, {better} is better"]
    if sweep.best:
        texts.insert(1, f"best job {printable(sweep.path / sweep.best.folder)}  {number(sweep.best.value)}")
    over = " and ".join(repeats_of(sweep)) or "repetitions"
    many = max(sweep.settings, key=lambda setting: setting.count, default=None)
    if many is None or many.count < 2 or many.mean is None or many.std is None:
        return texts
    if keys_of(sweep):
        return [*texts[:-1], f"{texts[-1]}; mean and standard deviation over {over}"]
    return [*texts, f"mean {number(many.mean)} +/- {number(many.std)} over {over}, {many.count} jobs"]


def ranked(sweep: StoredSweep) -> list[Row]:
    """Rows with a value, best first: of completed jobs, then of others.

    Where nothing is swept but repetitions, each job has a row.
    """
    values = {job.key: job.value for job in sweep.jobs if job.value is not None}
    jobs = [] if keys_of(sweep) else [job for job in sweep.jobs if job.key in values]
    rows = [Row(job.swept, values[job.key], None, 1, job.is_completed, [job.key]) for job in jobs]
    for setting in sweep.settings if keys_of(sweep) else ():
        so_far = [values[key] for key in setting.jobs if key in values]
        if setting.mean is not None:
            rows.append(Row(setting.swept, setting.mean, setting.std, setting.count, True, setting.jobs))
        elif so_far:
            std = statistics.stdev(so_far) if len(so_far) > 1 else None
            rows.append(Row(setting.swept, statistics.fmean(so_far), std, len(so_far), False, setting.jobs))
    sign = -1 if sweep.mode == "max" else 1
    return sorted(rows, key=lambda row: (not row.is_completed, sign * row.mean))


def _table(sweep: StoredSweep, rows: Sequence[Row], width: int, important: Sequence[str]) -> list[Text]:
    """A row for each of the best; of the swept settings, the most important first, as many as have room."""
    shown, keys = rows[:_MOST], keys_of(sweep) or repeats_of(sweep)
    figures = [[sweep.monitor.removeprefix("val/"), *(number(row.mean) for row in shown)]]
    if any(row.std is not None for row in shown):
        figures += [["+/-", *("" if row.std is None else number(row.std) for row in shown)]]
        figures += [["jobs", *(str(row.count) for row in shown)]]
    if not all(row.is_completed for row in shown):
        figures += [["", *("" if row.is_completed else "so far" for row in shown)]]
    places = ["", *(str(place) for place in range(1, len(shown) + 1))]
    names, fitting = _short(keys), set[str]()
    columns = {key: [names[key], *(cell_of(row.swept.get(key, "-"), _CELL) for row in shown)] for key in keys}
    room = width - 2 - sum(GAP + max(map(cell_len, column)) for column in [places, *figures])
    for key in sorted(keys, key=lambda key: important.index(key) if key in important else len(important)):
        wide = GAP + max(map(cell_len, columns[key]))
        if wide <= room:
            fitting.add(key)
            room -= wide
    settings = [columns[key] for key in keys if key in fitting]
    table = laid_out([*zip(places, *settings, *figures, strict=True)], left=1 + len(settings))
    if len(rows) > 1 and rows[0].mean != rows[-1].mean:
        table[1].stylize("bold green")
    missing = ", ".join(names[key] for key in keys if key not in fitting)
    without = sum(job.value is None for job in sweep.jobs)
    left_out = [f"{len(rows) - _MOST} more below"] if len(rows) > _MOST else []
    left_out += [f"{without} job{'s' if without > 1 else ''} without a value"] if without else []
    notes = [f"only in the picture: {missing}" if missing else "", "; ".join(left_out)]
    return [*table, *(Text(f"  {note}", style="dim") for note in notes if note)]


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Each key's last word, or as many as tell it from the others."""
    ends = {key: [".".join(key.split(".")[-n:]) for n in range(1, key.count(".") + 2)] for key in keys}
    counts = Counter(end for many in ends.values() for end in many)
    names = {key: next((end for end in many if counts[end] == 1), key) for key, many in ends.items()}
    return {key: shortened(name, _CELL) for key, name in names.items()}


def _followed(sweep: StoredSweep, important: Sequence[SettingImportance]) -> list[Text]:
    """A row per setting: how much of the ranking it explains, and which way the metric goes with it."""
    values = [job.value for job in sweep.jobs if job.is_completed and job.value is not None]
    if len(set(values)) == 1 and len(values) > 1:
        text = f"all {len(values)} completed jobs reached the same {sweep.monitor}: no setting matters"
        return [Text(), Text(text)]
    if not keys_of(sweep):
        return []
    if not important:
        have = f"there {'is' if len(values) == 1 else 'are'} {len(values)}"
        return [Text(), Text(f"which settings matter is shown from {ENOUGH} completed jobs on; {have}")]
    rows = [["", "explains", "rank corr."]]
    for row in important[:_MOST_KEYS]:
        correlation = "" if row.correlation is None else f"{row.correlation:+.2f}"
        rows.append([shortened(row.key, 26), f"{row.share:.0%}" if row.is_felt else "", correlation])
    table = laid_out(rows)
    width = max(line.cell_len for line in table)
    for line, row in zip(table[1:], important, strict=False):
        line.pad_right(width + GAP - line.cell_len)
        line.append(_direction(sweep, row))
    return [*heading(f"what the ranking of {important[0].count} completed jobs follows"), *table]


def _direction(sweep: StoredSweep, row: SettingImportance) -> str:
    """Which way the metric goes with a setting, and whether the best lies at the end of what was tried."""
    if not row.is_felt:
        return "not clear"
    if row.correlation is None:
        return _by_text(sweep, row.key)
    if not row.is_steady:
        return f"both ways; best at {cell_of(row.best, _CELL)}"
    is_larger = (row.correlation > 0) is (sweep.mode == "max")  # the better value
    tried = [job.swept[row.key] for job in sweep.jobs if is_number(job.swept.get(row.key))]
    end = max(tried) if is_larger else min(tried)
    beyond = f"; try {'above' if is_larger else 'below'} {end:.4g}" if row.best == end else ""
    way = "rises" if row.correlation > 0 else "falls"
    return f"{sweep.monitor.removeprefix('val/')} {way} with it{beyond}"


def _by_text(sweep: StoredSweep, key: str) -> str:
    """The mean at each text, the best first."""
    values: dict[str, list[float]] = {}
    for job in sweep.jobs:
        if job.is_completed and job.value is not None and key in job.swept:
            values.setdefault(text_of(job.swept[key]), []).append(job.value)
    means = {text: statistics.fmean(numbers) for text, numbers in values.items()}
    best = sorted(means, key=means.__getitem__, reverse=sweep.mode == "max")
    return "mean " + ", ".join(f"{shortened(text)} {number(means[text])}" for text in best)
