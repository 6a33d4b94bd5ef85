"""The closing table of a sweep: its settings from best to worst, then the jobs without a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from trainrun.config.suggest import hydra_value
from trainrun.sweep.outcome import first_clause
from trainrun.sweep.ranking import RankedJob, RankedSetting
from trainrun.terminal.numbers import number
from trainrun.terminal.table import GAP, cut, row_of

_WIDEST = 30  # columns of a value: a list of four numbers
_ASKED_FOR = ("accuracy", "r2", "perplexity")  # what people compare, whatever the loss ranks
_MANY = 12  # jobs without a result that get a line: half a terminal


def table(
    jobs: Sequence[RankedJob], settings: Sequence[RankedSetting], monitor: str, width: int | None
) -> list[Text]:
    """A line per setting below a line of heads; and per job without a result its cause."""
    varied = list(dict.fromkeys(key for setting in settings for key in setting.swept))
    is_repeated = any(len(setting.jobs) > 1 for setting in settings)
    metrics = extra_metrics(settings, monitor)
    over, last = (["over"], ["time"]) if is_repeated else ([], ["time", "job"])
    heads = ["", monitor, *over, *(f"val/{name}" for name in metrics), *_short(varied), *last]
    rows = [
        [str(place), *_row(setting, varied, is_repeated, metrics)]
        for place, setting in enumerate(settings, 1)
        if setting.mean is not None
    ]
    lines = _laid_out([heads, *rows], width) if rows else []
    return lines + _others([job for job in jobs if job.outcome.state != "completed"], width)


def extra_metrics(settings: Sequence[RankedSetting], monitor: str) -> list[str]:
    """The metrics that people ask for, beside the loss by which a sweep ranks."""
    if monitor != "val/loss":
        return []
    return [name for name in _ASKED_FOR if any(setting.mean_of(name) is not None for setting in settings)]


def _row(
    setting: RankedSetting, varied: Sequence[str], is_repeated: bool, metrics: Sequence[str]
) -> Iterator[str]:
    yield number(setting.mean or 0.0) + ("" if setting.std is None else f" +/- {number(setting.std)}")
    if is_repeated:
        yield f"{len(setting.values)} of {len(setting.jobs)}"
    yield from ("" if mean is None else number(mean) for mean in map(setting.mean_of, metrics))
    yield from (text(setting.swept.get(key)) for key in varied)
    seconds = [job.outcome.seconds for job in setting.jobs if job.outcome.seconds is not None]
    yield f"{sum(seconds) / len(seconds):.1f} s" if seconds else ""
    if not is_repeated:
        yield setting.jobs[0].key


def text(value: Any) -> str:
    """A setting's value, short."""
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


def _others(jobs: Sequence[RankedJob], width: int | None) -> list[Text]:
    """Lines on failed jobs, then on those that a search gave up, the furthest first and not all of many."""
    failed = [job for job in jobs if job.outcome.state == "failed"]
    given_up = [job for job in jobs if job.outcome.state != "failed"]
    given_up.sort(key=lambda job: -job.outcome.step)
    lines = [_line(job, width) for job in (*failed, *given_up[:_MANY])]
    if len(given_up) > _MANY:
        lines.append(Text(f"and {len(given_up) - _MANY} more, in sweep.json"))
    return [Text(), *lines] if lines else []


def _line(job: RankedJob, width: int | None) -> Text:
    outcome = job.outcome
    value = "" if outcome.value is None else f", {outcome.monitor} {number(outcome.value)}"
    is_failed = outcome.state == "failed"
    cause = first_clause(outcome.reason) if is_failed else f"at step {outcome.step}{value}"
    words = " ".join(f"{key}={text(value)}" for key, value in job.swept.items())
    line = f"{job.key}  {outcome.state:<11}  {words}: {cause}".rstrip(": ")
    return Text(line if width is None else cut(line, width))
