"""Initial weights side by side: activations and gradients through depth, and histograms, as table and PNG."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainrun.check.depth import Level
from trainrun.report.look import look
from trainrun.terminal.table import laid_out

Schemes = Mapping[str, Sequence[Level]]  # init -> the model's layers, the same for all

Value = Callable[[Level], float]

_VALUES: Mapping[str, Value] = {
    "mean": lambda level: level.mean,
    "std": lambda level: level.std,
    "gradient std": lambda level: level.gradient_std,
}
_TITLES = ("mean of the activations", "std of the activations", "std of d loss / d activations")
_ACROSS = 5  # histograms in a row


def table(schemes: Schemes, width: int | None) -> list[str]:
    """A column per scheme, and per kind of figure a row per layer.

    Where `width` is too narrow for all columns, several tables.
    """
    names, columns = list(schemes), [_column(*item) for item in schemes.items()]
    layers = _column("layer", next(iter(schemes.values())), named=True)
    room = math.inf if width is None else width
    fitting = len(names)
    while fitting > 1 and _widest(layers, columns, fitting) > room:
        fitting -= 1
    lines: list[str] = []
    for start in range(0, len(names), fitting):
        rows = zip(layers, *columns[start : start + fitting], strict=True)
        lines += ["", *(line.plain for line in laid_out(list(rows)))]
    return lines[1:]


def _column(head: str, levels: Sequence[Level], named: bool = False) -> list[str]:
    cells = [head]
    for name, value_of in _VALUES.items():
        cells.append(name if named else "")
        for number, level in enumerate(levels, 1):
            cells.append(f"  {number} {level.layer}" if named else f"{value_of(level):.3g}")
    return cells


def _widest(layers: list[str], columns: list[list[str]], fitting: int) -> int:
    chunks = [columns[start : start + fitting] for start in range(0, len(columns), fitting)]
    return max(len(laid_out(list(zip(layers, *chunk, strict=True)))[0].plain) for chunk in chunks)


def picture(schemes: Schemes, title: str, file: Path) -> None:
    """Write figures by layer, and below them a histogram of each scheme's weights, into one PNG."""
    from matplotlib.figure import Figure

    across = min(_ACROSS, len(schemes))
    down = math.ceil(len(schemes) / across)
    figure = Figure(figsize=(13, 5 + 2.3 * down), layout="constrained")
    figure.suptitle(title)
    halves: Any = figure.subfigures(2, 1, height_ratios=(4.7, 2.3 * down))
    upper, lower = halves
    legend: dict[str, Any] = {}
    for axes, text, value_of in zip(upper.subplots(1, 3), _TITLES, _VALUES.values(), strict=True):
        _by_layer(axes, schemes, value_of, is_log=value_of is not _VALUES["mean"])
        axes.set(title=text, xlabel="layer, in the order they run")
        legend |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    upper.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=6)
    panels = lower.subplots(down, across, squeeze=False).flat
    for index, (name, levels) in enumerate(schemes.items()):
        _histogram(panels[index], name, levels, look(index)["color"])
    for spare in list(panels)[len(schemes) :]:
        spare.remove()
    lower.supxlabel("value of a weight, all layers together", fontsize="medium")
    lower.supylabel("share of the weights", fontsize="medium")
    figure.savefig(file, dpi=150)


def _by_layer(axes: Any, schemes: Schemes, value_of: Value, is_log: bool) -> None:
    """A line per scheme; on a log axis values of exactly 0 are crosses at the bottom."""
    has_zeros = False
    for index, (name, levels) in enumerate(schemes.items()):
        style = look(index)
        points = list(enumerate(map(value_of, levels), 1))
        shown = [(layer, value if value != 0 or not is_log else math.nan) for layer, value in points]
        axes.plot(*zip(*shown, strict=True), **style, marker="o", markersize=4, label=name)
        if zeros := [layer for layer, value in points if is_log and value == 0]:
            axes.plot(
                zeros, [0.02] * len(zeros), "x", color=style["color"], transform=axes.get_xaxis_transform()
            )
            has_zeros = True
    if has_zeros:
        axes.plot([], [], "x", color="grey", label="exactly 0")
    if is_log:
        axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)


def _histogram(axes: Any, name: str, levels: Sequence[Level], color: str) -> None:
    import numpy as np

    weights = np.concatenate([level.weights.float().numpy() for level in levels])
    axes.hist(weights, bins=60, weights=np.full(len(weights), 1 / len(weights)), color=color)
    axes.set_title(f"{name}: std {weights.std():.3g}", fontsize="medium")
