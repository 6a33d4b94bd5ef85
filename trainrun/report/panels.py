"""What is drawn of stored runs: loss, metrics, learning rate, gradients, throughput, over the step."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.text import Text

from trainrun.config.task_facts import metric_modes
from trainrun.report.compare import ComparedRun
from trainrun.report.look import grid, look, plain
from trainrun.terminal.chart import Points, chart, is_wide

_STROKES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Panel:
    """Quantities of one unit that share their axes: what each is called -> the name of its curve."""

    title: str  # with the unit
    curves: dict[str, str]
    may_be_log: bool = False  # the scale is logarithmic where values lie far apart


def panels_of(runs: Sequence[ComparedRun]) -> list[Panel]:
    """Everything there is to draw, the loss and what is monitored first."""
    metrics = dict.fromkeys(run.monitor.partition("/")[2] for run in runs if run.monitor)
    names = {name for run in runs for name in run.curves}
    groups = {f"group {name[3:]}": name for name in sorted(names) if name.startswith("lr/")}
    norms = {"before clipping": "train/grad_norm", "after": "train/grad_norm_after"}
    wanted = [
        *(
            _of_metric(name, {split: f"{split}/{name}" for split in ("train", "val")})
            for name in {"loss": None, **metrics}
        ),
        Panel("learning rate", groups or {"lr": "lr"}),
        Panel("gradient norm", norms, True),
        Panel("throughput, samples/s", {"samples/s": "speed/samples_per_s"}),
        Panel("share of time waiting for data", {"waiting": "speed/data_wait"}),
    ]
    panels = []
    for panel in wanted:
        if curves := {what: name for what, name in panel.curves.items() if name in names}:
            panels.append(replace(panel, curves=curves))
    return panels


def decisive(runs: Sequence[ComparedRun]) -> list[Panel]:
    """What a comparison is about: each monitored metric, and the training loss."""
    monitors = dict.fromkeys(run.monitor for run in runs if run.monitor)
    return [_of_metric(name, {"": name}) for name in (*monitors, "train/loss")]


def _of_metric(name: str, curves: dict[str, str]) -> Panel:
    return Panel(name, curves, metric_modes().get(name.rpartition("/")[2]) == "min")


def charts(panels: Sequence[Panel], runs: Sequence[ComparedRun], width: int, height: int) -> list[Text]:
    """For the terminal, each after an empty line.

    Of one run a panel's curves share a chart, marked by their first letters; of several runs each curve
    has a chart of its own, in which the runs are marked by theirs.
    """
    lines: list[Text] = []
    for panel in panels:
        is_log, are_several = _is_log(panel, runs), len(panel.curves) > 1
        if len(runs) == 1:
            marks = dict(zip(panel.curves, _marks(panel), strict=True))
            legend = f": {', '.join(f'{mark} {what}' for what, mark in marks.items())}" if are_several else ""
            drawn = {mark: _points(runs[0], panel.curves[what]) for what, mark in marks.items()}
            lines += [Text(), *chart(panel.title + legend, drawn, is_log, width, height)]
            continue
        for what, name in panel.curves.items():
            title = f"{panel.title}, {what}" if are_several else panel.title
            drawn = {run.mark: _points(run, name) for run in runs}
            lines += [Text(), *chart(title, drawn, is_log, width, height)]
    return lines


def _is_log(panel: Panel, runs: Sequence[ComparedRun]) -> bool:
    points = [point for run in runs for name in panel.curves.values() for point in _points(run, name)]
    return panel.may_be_log and is_wide([value for _, value in points])


def _marks(panel: Panel) -> Sequence[str]:
    """A letter for each curve: its first, or where two would have the same one a, b, c."""
    firsts = [what[:1] for what in panel.curves]
    are_unique = len(set(firsts)) == len(firsts)
    return firsts if are_unique else [string.ascii_lowercase[n % 26] for n in range(len(firsts))]


def _points(run: ComparedRun, name: str) -> Points:
    return run.curves.get(name, [])


def picture(panels: Sequence[Panel], runs: Sequence[ComparedRun], file: Path) -> None:
    """Write every panel into one picture: a colour for each run, a stroke for each curve of a panel."""
    from matplotlib.figure import Figure

    across = min(len(panels), 3 if len(panels) > 4 else 2)
    height = 3.2 * math.ceil(len(panels) / across) + 0.3 * min(len(runs), 10)
    figure = Figure(figsize=(5 * across, height), layout="constrained")
    for axes, panel in zip(grid(figure, len(panels), across), panels, strict=True):
        _draw(axes, panel, runs)
    axes, titles = figure.axes[0], legend(runs)
    lines = [axes.plot([], [], **look(n), label=plain(title))[0] for n, title in enumerate(titles)]
    figure.legend(handles=lines, loc="outside upper left", fontsize="small", frameon=False)
    figure.savefig(file, dpi=130)


def legend(runs: Sequence[ComparedRun]) -> list[str]:
    """What each run is called, behind its letter where there are several."""
    return [run.title if len(runs) == 1 else f"{run.mark}  {run.title}" for run in runs]


def _draw(axes: Any, panel: Panel, runs: Sequence[ComparedRun]) -> None:
    are_several = len(panel.curves) > 1
    for index, run in enumerate(runs):
        for stroke, name in enumerate(panel.curves.values()):
            points = _points(run, name)
            style = look(index) | ({"linestyle": _STROKES[stroke % 4]} if are_several else {})
            marker = "." if len(points) == 1 else ""
            axes.plot([x for x, _ in points], [y for _, y in points], marker=marker, linewidth=1.5, **style)
    if are_several:
        for stroke, what in enumerate(panel.curves):
            axes.plot([], [], color="0.3", linestyle=_STROKES[stroke % 4], label=what)
        axes.legend(fontsize="small")
    scale = "log" if _is_log(panel, runs) else "linear"
    axes.set(xlabel="optimizer step", ylabel=plain(panel.title), yscale=scale)
    axes.grid(alpha=0.3)
