"""A sweep's table of all metrics: means with confidence intervals over seeds, a paired t-test, CSV, LaTeX."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from trainrun.config.space import REPLICATES
from trainrun.report.importance import keys_of, repeats_of
from trainrun.report.ranking import counted
from trainrun.report.values import cell_of, text_of
from trainrun.run.listing import printable
from trainrun.sweep.folder import StoredSweep
from trainrun.sweep.outcome import outcome
from trainrun.terminal.numbers import number
from trainrun.terminal.table import heading, laid_out, side_by_side

Measured = tuple[Mapping[str, Any], Mapping[str, Mapping[str, float]]]  # (swept, metric -> by seed and fold)

_FEWEST = 3  # pairs that are tested: of two the spread is hardly known
_ROUNDING = 1e-9  # of their mean, by which equal differences differ
_LATEX = {ord(sign): f"\\{sign}" for sign in "&%$#_{}"} | {92: r"\textbackslash{}", 94: r"\^{}", 126: r"\~{}"}


def student(values: Iterable[float]) -> tuple[float, float, float, float]:
    """(mean, half of its 95 % confidence interval, t, p of a mean of 0); NaN where there is no spread."""
    from scipy.special import stdtr, stdtrit

    values = list(values)
    mean, free = statistics.fmean(values), len(values) - 1
    error = statistics.stdev(values) / math.sqrt(len(values)) if free else math.nan
    t = mean / error if error > _ROUNDING * abs(mean) else math.nan
    return mean, float(stdtrit(free, 0.975)) * error, t, 2 * float(stdtr(free, -abs(t)))


def measured(sweep: StoredSweep) -> list[Measured]:
    """The settings with a completed job, the best first, and what those jobs came to."""
    jobs = {job.key: job for job in sweep.jobs if job.is_completed and job.value is not None}
    settings: list[Measured] = []
    for setting in sweep.settings:
        metrics: dict[str, dict[str, float]] = {}
        for job in [jobs[key] for key in setting.jobs if key in jobs]:
            own = {f"val/{name}": value for name, value in outcome(sweep.path / job.folder).metrics.items()}
            values = {sweep.monitor: job.value or 0.0} | own
            values |= {f"test/{name}": value for name, value in job.test.items()}
            for name, value in values.items():
                metrics.setdefault(printable(name), {})[
                    text_of([job.swept.get(key) for key in REPLICATES])
                ] = value
        settings += [(setting.swept, metrics)] if metrics else []
    return settings


def lines(sweep: StoredSweep, settings: Sequence[Measured], width: int) -> list[Text]:
    """A column per setting, the best first, in as many blocks as `width` asks for."""
    over, better = " and ".join(repeats_of(sweep)), "larger" if sweep.mode == "max" else "smaller"
    interval = f"; mean and 95 % confidence interval over {over}" if over else ""
    texts = [f"{printable(sweep.path)}  {counted(sweep)}", f"{sweep.monitor}, {better} is better{interval}"]
    first, *columns = _cells(sweep, settings)
    blocks = side_by_side(first, columns, width)
    return [*map(Text, texts), *(line for block in blocks for line in (Text(), *block))]


def latex(sweep: StoredSweep, settings: Sequence[Measured]) -> list[str]:
    """A tabular with the rules of the package booktabs, a row per setting."""
    words = 1 + len(keys_of(sweep))
    head, *body = ([cell.translate(_LATEX) for cell in row] for row in _cells(sweep, settings))
    rows = [head, *([*row[:words], *map(_in_math, row[words:])] for row in body)]
    first, *others = (" & ".join(row) + r" \\" for row in rows)
    begin = rf"\begin{{tabular}}{{{'l' * words:r<{len(rows[0])}}}}"
    return [begin, r"\toprule", first, r"\midrule", *others, r"\bottomrule", r"\end{tabular}"]


def _in_math(figure: str) -> str:
    r"""`$-0.5 \pm 3 \cdot 10^{-5}$`; empty where there is none."""
    figure = re.sub(r"e([+-])0*(\d+)", r" \\cdot 10^{\1\2}", figure.replace("+/-", r"\pm"))
    return f"${figure}$" if figure else ""


def records(sweep: StoredSweep, settings: Sequence[Measured]) -> Iterator[list[Any]]:
    """The rows of a CSV, the heads first: a row for each metric of a setting."""
    yield ["setting", *keys_of(sweep), "metric", "jobs", "mean", "ci95"]
    for place, (swept, metrics) in enumerate(settings, 1):
        words = [text_of(swept.get(key, "")) for key in keys_of(sweep)]
        yield from ([place, *words, name, len(of), *student(of.values())[:2]] for name, of in metrics.items())


def _cells(sweep: StoredSweep, settings: Sequence[Measured]) -> list[list[str]]:
    """What is shown, then that of each setting: its place, what was swept, its jobs and metrics."""
    keys, names = keys_of(sweep), list(dict.fromkeys(name for _, metrics in settings for name in metrics))
    cells = [["", *keys, "jobs", *names]]
    for place, (swept, metrics) in enumerate(settings, 1):
        words = [str(place), *(cell_of(swept.get(key, "-"), 20) for key in keys)]
        figures = [_figure(metrics[name]) if name in metrics else "" for name in names]
        cells.append([*words, str(len(metrics[sweep.monitor])), *figures])
    return cells


def _figure(values: Mapping[str, float]) -> str:
    """`0.9790 +/- 0.0113`; without an interval where there is one value."""
    mean, half = student(values.values())[:2]
    return f"{number(mean)} +/- {number(half)}" if len(values) > 1 else number(mean)


def paired_test(settings: Sequence[Measured], first: int, second: int) -> list[Text]:
    """The paired t-test of two settings over the seeds and folds that both have, for each metric."""
    title = f"setting {first} minus setting {second}, over the same seeds and folds (paired t-test)"
    table, others = [["", "pairs", "difference", "t", "p"]], settings[second - 1][1]
    for name, values in settings[first - 1][1].items():
        shared = [value - others[name][key] for key, value in values.items() if key in others.get(name, ())]
        if len(shared) < _FEWEST:
            return [Text(), Text(f"{title}: needs {_FEWEST} pairs or more, there are {len(shared)}")]
        mean, half, t, p = student(shared)
        table.append([name, str(len(shared)), f"{mean:+.4g} +/- {half:.2g}", f"{t:.3g}", f"{p:.2g}"])
    return [*heading(title), *laid_out(table)]
