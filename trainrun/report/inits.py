"""Initial weights side by side: activations and gradients through depth, and histograms, as table and PNG."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from trainrun.check.depth import Level
from trainrun.report.look import grid, legend_of, look
from trainrun.terminal.table import side_by_side

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
    levels = next(iter(schemes.values()))
    layers = [f"  {number} {level.layer}" for number, level in enumerate(levels, 1)]
    first = ["layer", *(cell for kind in _VALUES for cell in (kind, *layers))]
    columns = []
    for name, levels in schemes.items():
        figures = (["", *(f"{value_of(level):.3g}" for level in levels)] for value_of in _VALUES.values())
        columns.append([name, *itertools.chain(*figures)])
    tables = side_by_side(first, columns, math.inf if width is None else width)
    return [line for table in tables for line in ("", *(row.plain for row in table))][1:]


def picture(schemes: Schemes, title: str, file: Path) -> None:
    """Write figures by layer, and below them a histogram of each scheme's weights, into one PNG."""
    import numpy as np
    from matplotlib.figure import Figure

    across = min(_ACROSS, len(schemes))
    height = 2.3 * math.ceil(len(schemes) / across)
    figure = Figure(figsize=(13, 5 + height), layout="constrained")
    figure.suptitle(title)
    halves: Any = figure.subfigures(2, 1, height_ratios=(4.7, height))
    upper, lower = halves
    by_layer = upper.subplots(1, 3)
    for axes, text, value_of in zip(by_layer, _TITLES, _VALUES.values(), strict=True):
        _by_layer(axes, schemes, value_of, is_log=value_of is not _VALUES["mean"])
        axes.set(title=text, xlabel="layer, in the order they run")
    legend = legend_of(by_layer)
    upper.legend(legend.values(), legend.keys(), loc="outside lower center", ncols=6)
    panels = grid(lower, len(schemes), across)
    for index, (name, levels) in enumerate(schemes.items()):
        weights = np.concatenate([level.weights.float().numpy() for level in levels])
        shares, color = np.full(len(weights), 1 / len(weights)), look(index)["color"]
        panels[index].hist(weights, bins=60, weights=shares, color=color)
        panels[index].set_title(f"{name}: std {weights.std():.3g}", fontsize="medium")
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
            bottom, has_zeros = axes.get_xaxis_transform(), True
            axes.plot(zeros, [0.02] * len(zeros), "x", color=style["color"], transform=bottom)
    if has_zeros:
        axes.plot([], [], "x", color="grey", label="exactly 0")
    if is_log:
        axes.set_yscale("log")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
