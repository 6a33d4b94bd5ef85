"""A sweep in the terminal: its settings ranked, and which of them the metric follows."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from trainrun.report.importance import ENOUGH, SettingImportance, keys_of, repeats_of, told
from trainrun.report.scale import Scale, cell_of, is_number, scale_of, scale_of_metric, shortened, text_of
from trainrun.run.listing import printable
from trainrun.sweep.folder import StoredSetting, StoredSweep
from trainrun.terminal.numbers import number
from trainrun.terminal.table import GAP, heading, row_of

_MOST = 10  # rows, of more the best
_MOST_KEYS = 12
_BAR = 16  # columns
_CELL = 20
_PICTURE = (56, 8)
_VARIED = 5  # different values, from which on a small picture says more than the table
_DOT, _HOLLOW, _LINE = "\N{BLACK CIRCLE}", "\N{WHITE CIRCLE}", "\N{BOX DRAWINGS LIGHT HORIZONTAL}"


@dataclass(frozen=True)
class Row:
    """A setting as it stands in the ranking; where none of its jobs completed by what they came to so far."""

    swept: Mapping[str, Any]
    mean: float | None  # None where no job has a value
    std: float | None
    count: int
    is_completed: bool
    jobs: Sequence[str]  # their keys


def lines(sweep: StoredSweep, width: int) -> list[Text]:
    """At most `width` columns: what there is, the best settings, what tells, and a small scatter plot."""
    found, rows, scale = told(sweep), _rows(sweep), scale_of_results(sweep)
    texts = [*map(Text, (*_about(sweep), ""))]
    texts += _table(sweep, rows, width, [one.key for one in found])
    texts += [*_left_out(sweep, rows), *_telling(sweep, found), *_scatter(sweep, found, scale, width)]
    for one in texts:
        one.truncate(width, overflow="ellipsis")
    return texts


def scale_of_results(sweep: StoredSweep) -> Scale:
    """The axis of what is monitored: of every job's value. One has been recorded."""
    return scale_of_metric([one.value for one in sweep.jobs if one.value is not None], sweep.mode)


def counted(sweep: StoredSweep) -> str:
    """`24 jobs: 21 completed, 3 failed`."""
    states = Counter(one.state for one in sweep.jobs).most_common()
    noun = "job" if len(sweep.jobs) == 1 else "jobs"
    return f"{len(sweep.jobs)} {noun}: {', '.join(f'{count} {state}' for state, count in states)}"


def _about(sweep: StoredSweep) -> list[str]:
    better = "larger" if sweep.mode == "max" else "smaller"
    found = [f"{printable(sweep.path)}  {counted(sweep)}", f"{sweep.monitor}, {better} is better"]
    if sweep.best:
        found.insert(1, f"best job {printable(sweep.path / sweep.best.folder)}  {number(sweep.best.value)}")
    over = " and ".join(repeats_of(sweep)) or "repetitions"
    many = max(sweep.settings, key=lambda one: one.count, default=None)
    if many is None or many.count < 2 or many.mean is None or many.std is None:
        return found
    if keys_of(sweep):
        return [*found[:-1], f"{found[-1]}; mean and standard deviation over {over}"]
    return [*found, f"mean {number(many.mean)} +/- {number(many.std)} over {over}, {many.count} jobs"]


def ranked(sweep: StoredSweep) -> list[Row]:
    """The settings, best first: those of completed jobs, of others, and those without a value."""
    values = {one.key: one.value for one in sweep.jobs if one.value is not None}
    begun, rows = [], []
    for one in sweep.settings:
        so_far = [values[key] for key in one.jobs if key in values]
        if one.mean is not None:
            rows.append(Row(one.swept, one.mean, one.std, one.count, True, one.jobs))
        elif so_far:
            std = statistics.stdev(so_far) if len(so_far) > 1 else None
            begun.append(Row(one.swept, statistics.fmean(so_far), std, len(so_far), False, one.jobs))
    begun.sort(key=lambda one: one.mean or 0.0, reverse=sweep.mode == "max")
    return rows + begun + [_without(one) for one in sweep.settings if values.keys().isdisjoint(one.jobs)]


def _without(one: StoredSetting) -> Row:
    return Row(one.swept, None, None, 0, False, one.jobs)


def _rows(sweep: StoredSweep) -> list[Row]:
    """Those with a value; where nothing is swept but repetitions, a row for each job."""
    if keys_of(sweep):
        return [one for one in ranked(sweep) if one.mean is not None]
    jobs = [
        Row(one.swept, one.value, None, 1, one.is_completed, [one.key])
        for one in sweep.jobs
        if one.value is not None
    ]
    sign = -1 if sweep.mode == "max" else 1
    return sorted(jobs, key=lambda one: (not one.is_completed, sign * (one.mean or 0.0)))


def _table(sweep: StoredSweep, rows: Sequence[Row], width: int, telling: Sequence[str]) -> list[Text]:
    """A row for each of the best; of the swept settings, the most telling first, as many as have room."""
    shown, keys = rows[:_MOST], keys_of(sweep) or repeats_of(sweep)
    columns = [["", *(str(at) for at in range(1, len(shown) + 1))]]
    columns += [[sweep.monitor.removeprefix("val/"), *(number(one.mean or 0.0) for one in shown)]]
    if any(one.std is not None for one in shown):
        columns += [["+/-", *("" if one.std is None else number(one.std) for one in shown)]]
        columns += [["jobs", *(str(one.count) for one in shown)]]
    figures, scale = len(columns), scale_of(_reach(shown), may_be_log=sweep.mode == "min")
    columns += [[_ends(scale), *(_bar(scale, one) for one in shown)]]
    names = _short(keys)
    swept = {key: [names[key], *(cell_of(one.swept.get(key, "-"), _CELL) for one in shown)] for key in keys}
    fitting: set[str] = set()
    room = width - 2 - sum(GAP + max(map(cell_len, column)) for column in columns)
    for key in sorted(keys, key=lambda key: telling.index(key) if key in telling else len(telling)):
        wide = GAP + max(map(cell_len, swept[key]))
        if wide <= room:
            fitting.add(key)
            room -= wide
    columns += [swept[key] for key in keys if key in fitting]
    widths = [max(map(cell_len, column)) for column in columns]
    left = range(figures, len(columns))
    found = [Text("  " + row_of(row, widths, left)) for row in zip(*columns, strict=True)]
    found[0].stylize("dim")
    if len(rows) > 1 and rows[0].mean != rows[-1].mean:
        found[1].stylize("bold green")
    if len(fitting) < len(keys):
        missing = ", ".join(names[key] for key in keys if key not in fitting)
        found.append(Text(f"  only in the picture: {missing}", style="dim"))
    return found


def _left_out(sweep: StoredSweep, rows: Sequence[Row]) -> list[Text]:
    parts = [f"{len(rows) - _MOST} more below"] if len(rows) > _MOST else []
    without = sum(one.value is None for one in sweep.jobs)
    parts += [f"{without} jobs without a value"] if without else []
    if not all(one.is_completed for one in rows[:_MOST]):
        parts.append(f"{_HOLLOW} not completed")
    return [Text(f"  {'; '.join(parts)}", style="dim")] if parts else []


def _short(keys: Sequence[str]) -> dict[str, str]:
    """Each key's last word, or as many as tell it from the others."""
    ends = {key: [key[at:] for at in _starts(key)] for key in keys}
    counts = Counter(end for many in ends.values() for end in many)
    found = {key: next((end for end in many if counts[end] == 1), key) for key, many in ends.items()}
    return {key: shortened(end, _CELL) for key, end in found.items()}


def _starts(key: str) -> list[int]:
    """Where its words begin, the last one first."""
    return [at + 1 for at in range(len(key) - 1, -1, -1) if key[at] == "."] + [0]


def _reach(rows: Sequence[Row]) -> list[float]:
    """A standard deviation below and above each mean."""
    return [(one.mean or 0.0) + sign * (one.std or 0.0) for one in rows for sign in (-1, 1)]


def _ends(scale: Scale) -> str:
    """The ends of the bars, as a head of their column."""
    low, high = (number(10**one if scale.is_log else one) for one in (scale.low, scale.high))
    return f"{low}{high:>{_BAR - len(low)}}"


def _bar(scale: Scale, row: Row) -> str:
    """A dot at the mean, on a line over its standard deviation."""
    first, last = (round(scale.place(one) * (_BAR - 1)) for one in _reach([row]))
    line = [_LINE if first <= one <= last else " " for one in range(_BAR)]
    line[round(scale.place(row.mean or 0.0) * (_BAR - 1))] = _DOT if row.is_completed else _HOLLOW
    return "".join(line)


def _telling(sweep: StoredSweep, found: Sequence[SettingImportance]) -> list[Text]:
    """A row per setting: how much of the ranking it explains, and which way the metric goes with it."""
    values = [one.value for one in sweep.jobs if one.is_completed and one.value is not None]
    if len(set(values)) == 1 and len(values) > 1:
        same = f"all {len(values)} completed jobs came to the same {sweep.monitor}: nothing tells them apart"
        return [Text(), Text(same)]
    if not keys_of(sweep):
        return []
    if not found:
        text = f"which settings tell is said from {ENOUGH} completed jobs on; there "
        return [Text(), Text(text + (f"are {len(values)}" if len(values) != 1 else "is 1"))]
    rows = [["", "explains", "rank corr.", ""]]
    for one in found[:_MOST_KEYS]:
        figure = "" if one.correlation is None else f"{one.correlation:+.2f}"
        rows.append(
            [
                shortened(one.key, 26),
                f"{one.share:.0%}" if one.is_felt else "",
                figure,
                _direction(sweep, one),
            ]
        )
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    table = [Text("  " + row_of(row, widths, (0, 3))) for row in rows]
    table[0].stylize("dim")
    return [*heading(f"what the ranking of {found[0].count} completed jobs follows"), *table]


def _direction(sweep: StoredSweep, one: SettingImportance) -> str:
    if not one.is_felt:
        return "not clear"
    if one.correlation is None:
        return _by_text(sweep, one.key)
    if not one.is_steady:
        return f"both ways; best at {cell_of(one.best, _CELL)}"
    way = "rises" if one.correlation > 0 else "falls"
    return f"{sweep.monitor.removeprefix('val/')} {way} with it{_beyond(sweep, one, one.correlation)}"


def _beyond(sweep: StoredSweep, one: SettingImportance, correlation: float) -> str:
    """A word where the best lies at the end of what was tried, in the direction that is better."""
    tried = [job.swept[one.key] for job in sweep.jobs if one.key in job.swept]
    is_larger = (correlation > 0) is (sweep.mode == "max")
    numbers = [value for value in tried if is_number(value)]
    end = max(numbers) if is_larger else min(numbers)
    return f"; try {'above' if is_larger else 'below'} {end:.4g}" if one.best == end else ""


def _by_text(sweep: StoredSweep, key: str) -> str:
    """The mean at each text, the best first."""
    values: dict[str, list[float]] = {}
    for one in sweep.jobs:
        if one.is_completed and one.value is not None and key in one.swept:
            values.setdefault(text_of(one.swept[key]), []).append(one.value)
    means = {text: statistics.fmean(found) for text, found in values.items()}
    best = sorted(means, key=means.__getitem__, reverse=sweep.mode == "max")
    return "mean " + ", ".join(f"{shortened(text)} {number(means[text])}" for text in best)


def _scatter(sweep: StoredSweep, found: Sequence[SettingImportance], ys: Scale, width: int) -> list[Text]:
    """The metric against the most telling setting whose values are many numbers."""
    for told_one in found:
        key = told_one.key
        values = [one.swept.get(key, "-") for one in sweep.jobs]
        if all(map(is_number, values)) and len(set(values)) >= _VARIED:
            break
    else:
        return []
    xs, wide, high = scale_of(values), max(20, min(_PICTURE[0], width - 12)), _PICTURE[1]
    grid = [[" "] * wide for _ in range(high)]
    judged = [one for one in sweep.jobs if one.value is not None]
    for one in sorted(judged, key=lambda job: job.is_completed):
        row = high - 1 - round(ys.place(one.value) * (high - 1))
        grid[row][round(xs.place(one.swept[key]) * (wide - 1))] = _DOT if one.is_completed else _HOLLOW
    low, top = (number(10**one if ys.is_log else one) for one in (ys.low, ys.high))
    low, top = (f"{ys.sign}{low}", top) if ys.cut == "<=" else (low, f"{ys.sign}{top}")
    sides = [top, *[""] * (high - 2), low]
    title = f"{sweep.monitor}{_unit(ys)} against {key}{_unit(xs)}"
    title += "" if all(one.is_completed for one in judged) else f"; {_HOLLOW} not completed"
    first, last = (f"{one:.3g}" for one in (xs.numbers[0], xs.numbers[-1]))
    return [
        *heading(title),
        *(Text(f"{side:>9} {''.join(row)}".rstrip()) for side, row in zip(sides, grid, strict=True)),
        Text(f"{'':9} {first}{last:>{wide - len(first)}}", style="dim"),
    ]


def _unit(scale: Scale) -> str:
    return " (logarithmic)" if scale.is_log else ""
