"""A sweep's result as a table for people: its settings from best to worst, then what came to none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from trainrun.config.suggest import hydra_value
from trainrun.sweep.outcome import first_clause
from trainrun.sweep.ranking import RankedJob, RankedSetting
from trainrun.terminal.numbers import number
from trainrun.terminal.table import GAP, cut, row_of

_WIDEST = 30  # columns, of a value
_ASKED_FOR = ("accuracy", "r2", "perplexity")
_MANY = 12  # jobs that came to no end, each on a line


def table(
    entries: Sequence[RankedJob], settings: Sequence[RankedSetting], monitor: str, width: int | None
) -> list[Text]:
    """A line per setting below a line of heads; and per job that came to nothing its cause."""
    varied = list(dict.fromkeys(key for one in settings for key in one.swept))
    repeated = any(len(one.entries) > 1 for one in settings)
    last = ["time", *([] if repeated else ["job"])]
    more = beside(settings, monitor)
    over = ["over"] if repeated else []
    heads = ["", monitor, *over, *(f"val/{name}" for name in more), *map(_short(varied).get, varied), *last]
    rows = [
        [str(at), *_row(one, varied, repeated, more)]
        for at, one in enumerate(settings, 1)
        if one.mean is not None
    ]
    lines = _laid_out([[str(head) for head in heads], *rows], width) if rows else []
    others = [one for one in entries if one.outcome.state != "completed"]
    return lines + _others(others, width)


def beside(settings: Sequence[RankedSetting], monitor: str) -> list[str]:
    """The metrics that people ask for, beside the loss by which a sweep ranks."""
    if monitor != "val/loss":
        return []
    return [name for name in _ASKED_FOR if any(setting.mean_of(name) is not None for setting in settings)]


def _row(one: RankedSetting, varied: Sequence[str], repeated: bool, more: Sequence[str]) -> list[str]:
    spread = "" if one.std is None else f" +/- {number(one.std)}"
    seconds = [entry.outcome.seconds for entry in one.entries if entry.outcome.seconds is not None]
    time = f"{sum(seconds) / len(seconds):.1f} s" if seconds else ""
    over = [f"{len(one.values)} of {len(one.entries)}"] if repeated else []
    job = [] if repeated else [one.entries[0].key]
    means = map(one.mean_of, more)
    return [
        f"{number(one.mean or 0.0)}{spread}",
        *over,
        *("" if mean is None else number(mean) for mean in means),
        *(text(one.swept.get(key)) for key in varied),
        time,
        *job,
    ]


def text(value: Any) -> str:
    """A setting's value, short."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, dict)):
        return cut(hydra_value(value), _WIDEST)
    return cut(str(value).lower() if isinstance(value, bool) or value is None else str(value), _WIDEST)


def _short(keys: Sequence[str]) -> Mapping[str, str]:
    """The keys by their last word, where that is enough to tell them apart."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)}


def _laid_out(rows: Sequence[Sequence[str]], width: int | None) -> list[Text]:
    """Columns as wide as they need; on a narrow terminal the jobs go first, then the last settings."""
    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    shown = list(range(len(widths)))
    while width is not None and sum(widths[at] + GAP for at in shown) > width and len(shown) > 3:
        shown.remove(shown[-1])
    lines = []
    for row in rows:
        line = row_of([row[at] for at in shown], [widths[at] for at in shown], range(1, len(shown)))
        lines.append(Text(line))
    lines[0].stylize("dim")
    lines[1].stylize("bold")
    return lines


def _others(entries: Sequence[RankedJob], width: int | None) -> list[Text]:
    """What failed first, then what a search gave up, the furthest first and not all of many."""
    failed = [one for one in entries if one.outcome.state == "failed"]
    rest = [one for one in entries if one.outcome.state != "failed"]
    rest.sort(key=lambda one: -one.outcome.step)
    lines = _lines([*failed, *rest[:_MANY]], width)
    more = [Text(f"and {len(rest) - _MANY} more, in sweep.json")] if len(rest) > _MANY else []
    return ([Text()] if lines else []) + lines + more


def _lines(entries: Sequence[RankedJob], width: int | None) -> list[Text]:
    lines = []
    for one in entries:
        done = one.outcome
        figure = "" if done.value is None else f", {done.monitor} {number(done.value)}"
        why = first_clause(done.reason) if done.state == "failed" else f"at step {done.step}{figure}"
        words = " ".join(f"{key}={text(value)}" for key, value in one.swept.items())
        line = f"{one.key}  {one.outcome.state:<11}  {words}: {why}".rstrip(": ")
        lines.append(Text(line if width is None else cut(line, width)))
    return lines
