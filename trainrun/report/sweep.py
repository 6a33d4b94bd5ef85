"""A sweep as a picture: parallel coordinates of its settings, and the metric against each of them."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainrun.report.importance import keys_of, repeats_of, told
from trainrun.report.look import plain
from trainrun.report.ranking import counted, ranked, scale_of_results
from trainrun.report.scale import Scale, cell_of, scale_of, shortened
from trainrun.sweep.folder import StoredSweep, SweptJob
from trainrun.terminal.numbers import number

MOST = 12  # settings that are drawn
_BEST = "#d62728"
_GREY = "0.45"  # what did not complete
_MAP = "viridis_r"  # the better the darker
_MOST_LINES = 1000
_SPREADS = 10  # settings whose standard deviation is drawn
_SHIFT = 0.025  # of an axis, to tell apart what shares a value
_ABSENT = "-"  # where a job has no such setting


def picture(sweep: StoredSweep, file: Path) -> None:
    """Write what `figure_of` draws."""
    figure_of(sweep).savefig(file, dpi=130)


def figure_of(sweep: StoredSweep) -> Any:
    """The parallel coordinates, where there are several settings, and the scatter plots below.

    Something differs among the jobs, and one has a value.
    """
    from matplotlib.figure import Figure

    keys = drawn(sweep)
    is_parallel = len(keys_of(sweep)) > 1
    across = min(4, len(keys))
    down = math.ceil(len(keys) / across)
    width = max(3.6 * across, 1.45 * (len(keys) + 1) if is_parallel else 0, 8.0)
    heights = (4.6 if is_parallel else 0.0, (4.5 if len(keys) == 1 else 3.0) * down)
    figure = Figure(figsize=(width, sum(heights) + 0.9), layout="constrained")
    figure.suptitle(plain(_title(sweep, keys)), fontsize="medium")
    lower: Any = figure
    if is_parallel:
        halves: Any = figure.subfigures(2, 1, height_ratios=heights)
        upper, lower = halves
        _parallel(upper.subplots(), sweep, keys)
        upper.supxlabel(_explained(sweep), fontsize="small")
    panels = lower.subplots(down, across, squeeze=False, sharey=True).flat
    for axes, key in zip(panels, keys, strict=False):
        _scatter(axes, sweep, key)
    for axes in list(panels)[len(keys) :]:
        axes.remove()
    unit = ", logarithmic" if scale_of_results(sweep).is_log else ""
    lower.supylabel(plain(sweep.monitor) + unit, fontsize="medium")
    _legend(lower, sweep, keys)
    return figure


def drawn(sweep: StoredSweep) -> list[str]:
    """The settings that are drawn: of more than MOST the most telling; of a sweep over seeds or folds
    alone, these; none where the jobs differ in nothing.
    """
    keys = keys_of(sweep) or repeats_of(sweep)
    if len(keys) <= MOST:
        return keys
    first = [one.key for one in told(sweep)]
    kept = sorted(keys, key=lambda key: first.index(key) if key in first else len(first))[:MOST]
    return [key for key in keys if key in kept]


def scale_of_key(sweep: StoredSweep, key: str) -> Scale:
    """The axis of a swept setting."""
    return scale_of([_at(one, key) for one in sweep.jobs])


def _title(sweep: StoredSweep, keys: Sequence[str]) -> str:
    lines = [f"{sweep.path.name}  {counted(sweep)}"]
    top = next(iter(ranked(sweep)), None)
    if top is not None and top.mean is not None:
        spread = f" \N{PLUS-MINUS SIGN} {number(top.std)}" if top.std is not None else ""
        words = ", ".join(f"{key} {cell_of(top.swept[key], 18)}" for key in keys if key in top.swept)
        so_far = "" if top.is_completed else " so far"
        text = f"best{so_far}: {sweep.monitor} {number(top.mean)}{spread}{' with ' if words else ''}{words}"
        lines += textwrap.wrap(text, 110, max_lines=3)
    if left_out := len(keys_of(sweep)) - len(keys):
        lines.append(f"drawn are the {len(keys)} most telling settings, not the other {left_out}")
    return "\n".join(shortened(line, 120) for line in lines)


def _parallel(axes: Any, sweep: StoredSweep, keys: Sequence[str]) -> None:
    """An axis per setting and the metric's as the last; a line per setting, the better the darker."""
    from matplotlib import colormaps

    scales, results = [scale_of_key(sweep, key) for key in keys], scale_of_results(sweep)
    settings, last, colours = ranked(sweep)[:_MOST_LINES], len(keys), colormaps[_MAP]
    means = list(dict.fromkeys(one.mean for one in settings if one.is_completed))
    shade = {mean: 1 - at / len(means) for at, mean in enumerate(means)}
    thin = 1.6 if len(settings) <= 30 else 0.9
    shifts = [_SHIFT if _is_crowded(scale, len(settings)) else 0.0 for scale in scales]
    for rank, one in enumerate(settings):
        side = 1 - 2 * rank / max(1, len(settings) - 1)  # the better the higher, where many share a value
        ys = [
            scale.place(one.swept.get(key, _ABSENT)) + side * shift
            for key, scale, shift in zip(keys, scales, shifts, strict=True)
        ]
        if one.mean is None:
            axes.plot(range(last), ys, color="0.75", linewidth=0.8, linestyle=":", zorder=1)
            continue
        place, is_best = results.place(one.mean), rank == 0 and one.is_completed
        colour = _BEST if is_best else colours(shade[one.mean]) if one.is_completed else _GREY
        axes.plot(
            range(last + 1),
            [*ys, place],
            color=colour,
            linewidth=3.5 if is_best else thin,
            alpha=1.0 if is_best else 0.75,
            linestyle="-" if one.is_completed else "--",
            zorder=4 if is_best else 3 - rank / len(settings),
        )
        if one.std is not None and rank < _SPREADS:
            x = last + 0.05 + 0.035 * rank
            ends = [results.place(one.mean + sign * one.std) for sign in (-1, 1)]
            axes.plot([x, x], ends, color=colour, linewidth=1.5, solid_capstyle="butt", zorder=3)
            axes.plot([x], [place], color=colour, marker="D", markersize=3.5, zorder=3)
    for at, scale in enumerate([*scales, results]):
        _upright(axes, at, scale)
    axes.set(xlim=(-0.45, last + 0.45), ylim=(-0.06, 1.06), yticks=[])
    axes.set_xticks(range(last + 1), [_name(one) for one in (*keys, sweep.monitor)])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _explained(sweep: StoredSweep) -> str:
    """What the lines of the parallel coordinates mean."""
    lines = f"the best {_MOST_LINES}" if len(sweep.settings) > _MOST_LINES else "a line each"
    parts, rows = [f"settings, {lines}, by rank, the better the darker, the best red"], ranked(sweep)
    if any(one.mean is not None and not one.is_completed for one in rows):
        parts.append("dashed: not completed")
    if any(one.mean is None for one in rows):
        parts.append("dotted: without a value")
    if any(one.std is not None for one in rows):
        parts.append(f"at the right mean and standard deviation of the best {_SPREADS}")
    return "; ".join(parts)


def _upright(axes: Any, x: int, scale: Scale) -> None:
    """One axis of the parallel coordinates, labelled at its left."""
    axes.plot([x, x], [0, 1], color="0.3", linewidth=1, zorder=5)
    for place, label in scale.ticks():
        axes.plot([x - 0.02, x], [place, place], color="0.3", linewidth=1, zorder=5)
        axes.text(
            *(x - 0.04, place, plain(label)),
            ha="right",
            va="center",
            fontsize="small",
            zorder=6,
            bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6},
        )


def _scatter(axes: Any, sweep: StoredSweep, key: str) -> None:
    """Every job as a dot, hollow where it did not complete; the mean of those that did at each value."""
    scale, results = scale_of_key(sweep, key), scale_of_results(sweep)
    shift = _SHIFT if _is_crowded(scale, len(sweep.jobs)) else 0.0
    place = {
        one.key: scale.place(_at(one, key)) + shift * (2 * (at * 0.618034 % 1) - 1)
        for at, one in enumerate(sweep.jobs)
    }
    for label, jobs in _kinds(sweep).items():
        colour = {"completed": "C0", "not completed": _GREY}.get(label, _BEST)
        lost = label == "failed"
        axes.scatter(
            [place[one.key] for one in jobs],
            [-0.08 if one.value is None else results.place(one.value) for one in jobs],
            s=18,
            marker="x" if lost else "o",
            facecolors="none" if label == "not completed" else colour,
            edgecolors=None if lost else colour,
            alpha=0.7 if label == "completed" else 1.0,
            label=label,
            clip_on=False,
            zorder=3,
        )
    for at, values in _at_each(sweep, key, scale).items():
        x, (low, middle, high) = at + 0.045, map(results.place, _middle(values, results))
        axes.plot([x, x], [low, high], color="black", linewidth=1.2, zorder=4)
        axes.plot([x], [middle], marker="D", markersize=4, color="black", zorder=5)
    axes.set(xlim=(-0.08, 1.12), ylim=(-0.1, 1.06))
    marks, labels = zip(*scale.ticks(), strict=True)
    is_long = sum(map(len, labels)) > 34
    turned = {"rotation": 25, "ha": "right", "rotation_mode": "anchor"} if is_long else {}
    axes.set_xticks(marks, map(plain, labels), fontsize="small", **turned)
    axes.set_yticks(*zip(*results.ticks(), strict=True), fontsize="small")
    axes.set_xlabel(plain(shortened(key, 40)) + (", logarithmic" if scale.is_log else ""))
    axes.grid(alpha=0.3)


def _middle(values: Sequence[float], results: Scale) -> tuple[float, float, float]:
    """Mean between standard deviations; where the worst stand at the edge, median between quartiles."""
    if results.cut:
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return low, middle, high
    mean, spread = statistics.fmean(values), statistics.stdev(values)
    return mean - spread, mean, mean + spread


def _kinds(sweep: StoredSweep) -> dict[str, list[SweptJob]]:
    """The jobs by how they are marked; each is in one of these, or nowhere where nothing is known of it."""
    best = ranked(sweep)[0].jobs if keys_of(sweep) else ()
    found: dict[str, list[SweptJob]] = {"not completed": [], "completed": [], "best": [], "failed": []}
    for one in sweep.jobs:
        if one.value is not None:
            kind = ("best" if one.key in best else "completed") if one.is_completed else "not completed"
            found[kind].append(one)
        elif one.state == "failed":
            found["failed"].append(one)
    return {kind: jobs for kind, jobs in found.items() if jobs}


def _at_each(sweep: StoredSweep, key: str, scale: Scale) -> dict[float, list[float]]:
    """Place -> values of the completed jobs, of every swept value that several came to an end with."""
    found: dict[float, list[float]] = {}
    for one in sweep.jobs:
        if one.is_completed and one.value is not None:
            found.setdefault(scale.place(_at(one, key)), []).append(one.value)
    return {place: values for place, values in found.items() if len(values) > 1}


def _legend(figure: Any, sweep: StoredSweep, keys: Sequence[str]) -> None:
    """What the marks mean that are there."""
    from matplotlib.lines import Line2D

    kinds = _kinds(sweep)
    states = dict.fromkeys(one.state for one in kinds.get("not completed", ()))
    looks: dict[str, dict[str, Any]] = {
        "completed": {"label": "completed job", "color": "C0", "alpha": 0.7},
        "best": {"label": "of the best setting", "color": _BEST},
        "not completed": {
            "label": plain(f"not completed: {', '.join(states)}"),
            "markerfacecolor": "none",
            "color": _GREY,
        },
        "failed": {"label": "failed, without a value", "color": _BEST, "marker": "x"},
    }
    shown = [{"marker": "o"} | look for kind, look in looks.items() if kind in kinds]
    if any(_at_each(sweep, key, scale_of_key(sweep, key)) for key in keys):
        what = "median and quartiles" if scale_of_results(sweep).cut else "mean and standard deviation"
        label = f"{what} of those with that value"
        shown.append({"marker": "D", "color": "black", "markersize": 4, "label": label})
    handles = [Line2D([], [], linestyle="none", **look) for look in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize="small", frameon=False)


def _is_crowded(scale: Scale, count: int) -> bool:
    """Whether many lie at few values, and are to be told apart."""
    return count > 12 and scale.distinct * 3 <= count


def _at(job: SweptJob, key: str) -> Any:
    return job.swept.get(key, _ABSENT)


def _name(key: str) -> str:
    """A key as an axis is headed: in two lines, for many axes stand beside each other."""
    head, dot, rest = shortened(key, 34).rpartition(".")
    return plain(f"{head}{dot}\n{rest}" if dot else rest)
