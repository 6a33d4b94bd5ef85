"""A sweep as a picture: the monitored metric against each of its settings."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainrun.report.importance import importances, keys_of, repeats_of
from trainrun.report.look import grid, legend_of, plain
from trainrun.report.ranking import counted, ranked
from trainrun.report.values import cell_of, shortened, text_of
from trainrun.run.history import is_number
from trainrun.sweep.folder import StoredSweep, SweptJob
from trainrun.terminal.chart import is_wide
from trainrun.terminal.numbers import number

MOST = 12  # settings that are drawn
_BEST, _GREY = "#d62728", "0.45"
_FEWEST = 8  # values, from which on far worse ones may stand at the edge
_WORTH = 3.0  # how many times as long the axis would be with them
_ABSENT = "-"  # where a job has no such setting


def picture(sweep: StoredSweep, file: Path) -> None:
    """Write what `figure_of` draws."""
    figure_of(sweep).savefig(file, dpi=130)


def figure_of(sweep: StoredSweep) -> Any:
    """A scatter plot for each setting. Something differs among the jobs, and one has a value."""
    from matplotlib.figure import Figure

    keys, edge = drawn(sweep), edge_of(sweep)
    across = min(4, len(keys))
    height = (4.5 if len(keys) == 1 else 3.0) * math.ceil(len(keys) / across) + 0.9
    figure = Figure(figsize=(max(3.6 * across, 8.0), height), layout="constrained")
    figure.suptitle(plain(_title(sweep, keys)), fontsize="medium")
    panels = grid(figure, len(keys), across, sharey=True)
    for axes, key in zip(panels, keys, strict=True):
        _scatter(axes, sweep, key, edge)
    beyond = f"\n(at the edge: {number(edge)} or worse)" if edge is not None else ""
    figure.supylabel(plain(sweep.monitor) + beyond, fontsize="medium")
    legend, style = legend_of(panels), {"fontsize": "small", "frameon": False}
    figure.legend(legend.values(), map(plain, legend), loc="outside lower center", ncols=3, **style)
    return figure


def drawn(sweep: StoredSweep) -> list[str]:
    """The settings that are drawn, of more than MOST the most important.

    Of a sweep over seeds or folds alone these; none where the jobs differ in nothing.
    """
    keys = keys_of(sweep) or repeats_of(sweep)
    order = [row.key for row in importances(sweep)] if len(keys) > MOST else []
    chosen = sorted(keys, key=lambda key: order.index(key) if key in order else len(order))[:MOST]
    return [key for key in keys if key in chosen]


def edge_of(sweep: StoredSweep) -> float | None:
    """Where the axis of the metric ends, so that few far worse jobs do not press the others together.

    It is at twice the range of the better two thirds, where the axis would be far longer; else None.
    """
    ordered = sorted(_values(sweep), reverse=sweep.mode == "max")
    best, usual, worst = ordered[0], ordered[math.ceil(len(ordered) * 2 / 3) - 1], ordered[-1]
    edge = 2 * usual - best
    is_far = usual != best and abs(worst - best) > _WORTH * abs(edge - best)
    return edge if len(ordered) >= _FEWEST and is_far and not _is_log(sweep) else None


def _values(sweep: StoredSweep) -> list[float]:
    return [job.value for job in sweep.jobs if job.value is not None]


def _is_log(sweep: StoredSweep) -> bool:
    return sweep.mode == "min" and is_wide(_values(sweep))


def _title(sweep: StoredSweep, keys: Sequence[str]) -> str:
    lines = [f"{sweep.path.name}  {counted(sweep)}"]
    if rows := ranked(sweep):
        top = rows[0]
        spread = f" \N{PLUS-MINUS SIGN} {number(top.std)}" if top.std is not None else ""
        words = ", ".join(f"{key} {cell_of(top.swept[key], 18)}" for key in keys if key in top.swept)
        so_far = "" if top.is_completed else " so far"
        text = f"best{so_far}: {sweep.monitor} {number(top.mean)}{spread}{' with ' if words else ''}{words}"
        lines += textwrap.wrap(text, 110, max_lines=3)
    if left_out := len(keys_of(sweep)) - len(keys):
        lines.append(f"drawn are the {len(keys)} most important settings, not the other {left_out}")
    return "\n".join(shortened(line, 120) for line in lines)


def _scatter(axes: Any, sweep: StoredSweep, key: str, edge: float | None) -> None:
    """Every job as a dot, hollow where it did not complete, and the middle of those at each value."""
    places, nearer = _places(axes, sweep, key), max if sweep.mode == "max" else min

    def at_edge(value: float) -> float:
        return value if edge is None else nearer(value, edge)

    for label, (jobs, style) in _kinds(sweep).items():
        if label.startswith("failed"):
            style["transform"] = axes.get_xaxis_transform()  # they have no value: at the bottom
        heights = [0.0 if job.value is None else at_edge(job.value) for job in jobs]
        axes.scatter([places[job.key] for job in jobs], heights, label=label, **style)
    completed: dict[str, list[tuple[float, float]]] = {}
    for job in sweep.jobs:
        if job.is_completed and job.value is not None:
            points = completed.setdefault(text_of(job.swept.get(key, _ABSENT)), [])
            points.append((places[job.key], job.value))
    for points in completed.values():
        if len(points) > 1:
            quartiles = statistics.quantiles((y for _, y in points), n=4, method="inclusive")
            low, middle, high = map(at_edge, quartiles)
            x, label = statistics.fmean(x for x, _ in points), "median and quartiles at a value"
            axes.plot([x, x], [low, high], color="black", linewidth=1.2, zorder=4)
            axes.plot([x], [middle], "D", markersize=4, color="black", zorder=5, label=label)
    axes.set(yscale="log" if _is_log(sweep) else "linear", xlabel=plain(shortened(key, 40)))
    axes.grid(alpha=0.3)


def _places(axes: Any, sweep: StoredSweep, key: str) -> dict[str, float]:
    """Where each job stands; numbers on an axis of their own, anything else side by side."""
    values = {job.key: job.swept.get(key, _ABSENT) for job in sweep.jobs}
    if all(map(is_number, values.values())):
        axes.set_xscale("log" if is_wide([*values.values()]) else "linear")
        return values
    ordered = sorted(values.values(), key=lambda value: value if is_number(value) else -math.inf)
    texts = list(dict.fromkeys(map(text_of, ordered)))
    is_long = sum(map(len, texts)) > 34
    turned = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if is_long else {}
    labels = [plain(shortened(text)) for text in texts]
    axes.set_xticks(range(len(texts)), labels, fontsize="small", **turned)
    axes.set_xlim(-0.5, len(texts) - 0.5)
    # What shares a text is spread a little, by the golden ratio, which never repeats itself.
    spread = {name: 0.3 * (index * 0.618034 % 1 - 0.5) for index, name in enumerate(values)}
    return {name: texts.index(text_of(value)) + spread[name] for name, value in values.items()}


def _kinds(sweep: StoredSweep) -> dict[str, tuple[list[SweptJob], dict[str, Any]]]:
    """The jobs by how they are marked, and the marks; those of which nothing is known are left out."""
    best = ranked(sweep)[0].jobs if keys_of(sweep) else ()
    completed = [job for job in sweep.jobs if job.is_completed and job.value is not None]
    begun = [job for job in sweep.jobs if not job.is_completed and job.value is not None]
    failed = [job for job in sweep.jobs if job.state == "failed" and job.value is None]
    states = ", ".join(dict.fromkeys(job.state for job in begun))
    kinds: dict[str, tuple[list[SweptJob], dict[str, Any]]] = {
        f"not completed: {states}": (begun, {"facecolors": "none", "edgecolors": _GREY}),
        "completed": ([job for job in completed if job.key not in best], {"color": "C0", "alpha": 0.7}),
        "of the best setting": ([job for job in completed if job.key in best], {"color": _BEST}),
        "failed, without a value": (failed, {"color": _BEST, "marker": "x"}),
    }
    common = {"s": 18, "clip_on": False, "zorder": 3}
    return {label: (jobs, common | style) for label, (jobs, style) in kinds.items() if jobs}
