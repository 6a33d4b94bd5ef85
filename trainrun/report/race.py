"""Optimizers raced on the Rosenbrock function: a table, small pictures for the terminal, a PNG."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainrun.report.look import look
from trainrun.terminal.braille import curve, path
from trainrun.terminal.table import laid_out
from trainrun.tune.rosenbrock import MINIMUM, START, RacePath, rosenbrock

Races = Mapping[str, RacePath]  # by the optimizer's name

_XS, _YS = (-2.0, 2.0), (-1.0, 3.0)
_NEAR = 0.01  # a loss that counts as arrived
_MAP = (24, 6)  # characters
_LEAST = 1e-16  # losses below it are drawn there


def table(races: Races) -> list[str]:
    """Learning rate, gradients, first step with a loss below 0.01, last loss and distance to the minimum."""
    rows = [["optimizer", "lr", "gradients", f"loss < {_NEAR:g}", "last loss", "distance"]]
    for name, race in races.items():
        near = next((f"step {step}" for step, loss in enumerate(race.losses) if loss < _NEAR), "-")
        end = [f"{race.last_loss:.3g}", f"{math.dist(race.places[-1], MINIMUM):.3g}"]
        end = [f"diverged, step {len(race.places)}", ""] if race.diverged else end
        rows.append([name, f"{race.lr:g}", str(race.gradients), near, *end])
    return [line.plain for line in laid_out(rows)]


def pictures(races: Races, steps: int, width: int) -> list[str]:
    """Lines of at most `width` characters: for each optimizer its path, `*` the minimum, and its loss."""
    lowest = min(min(race.losses) for race in races.values())
    low, high = math.floor(math.log10(max(lowest, _LEAST))), math.ceil(math.log10(rosenbrock(*START)))
    inner = max(24, min(width, 100) - _MAP[0] - 9)
    labels = [f"1e{high:+03d}", *[""] * (_MAP[1] - 2), f"1e{low:+03d}"]
    lines: list[str] = []
    for name, race in races.items():
        ways = _with_star(path(race.places, *_MAP, _XS, _YS))
        levels = [math.log10(max(loss, _LEAST)) - low for loss in race.losses]
        levels += [high - low] * (steps + 1 - len(levels))
        drawn = curve(levels, inner, _MAP[1], high - low)
        rows = zip(ways, labels, drawn, strict=True)
        lines += [f"{name}, lr {race.lr:g}", *(f"{way}  {label:>6} {row}" for way, label, row in rows)]
    last = f"step {steps}"
    return [*lines, f"{'path, (1, 1) at *':<{_MAP[0] + 8}} loss, step 0{last:>{inner - 12}}"]


def _with_star(lines: list[str]) -> list[str]:
    """The minimum's place marked in a map."""
    column = round((MINIMUM[0] - _XS[0]) / (_XS[1] - _XS[0]) * (2 * _MAP[0] - 1)) // 2
    row = _MAP[1] - 1 - round((MINIMUM[1] - _YS[0]) / (_YS[1] - _YS[0]) * (4 * _MAP[1] - 1)) // 4
    starred = f"{lines[row][:column]}*{lines[row][column + 1 :]}"
    return [*lines[:row], starred, *lines[row + 1 :]]


def picture(races: Races, file: Path) -> None:
    """Write each path over contour lines, and all losses, into one PNG."""
    from matplotlib.figure import Figure

    across = math.ceil(math.sqrt(len(races)))
    down = math.ceil(len(races) / across)
    size = 4.5 if across == 1 else 2.6
    figure = Figure(figsize=(size * across + 6, max(4.5, size * down)), layout="constrained")
    halves: Any = figure.subfigures(1, 2, width_ratios=(size * across, 6))
    left, right = halves
    maps = left.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat
    left.suptitle("path from ● to ★, on lines of equal loss")
    axes = right.subplots()
    right.suptitle("loss (1 - x)² + 100 (y - x²)²")
    for index, (name, race) in enumerate(races.items()):
        label = f"{name}, lr {race.lr:g}" + (", diverged" if race.diverged else "")
        _contours(maps[index])
        maps[index].plot(*zip(*race.places, strict=True), color=look(index)["color"], linewidth=1.5)
        maps[index].set_title(label, fontsize="medium")
        axes.plot(race.losses, **look(index), label=label, linewidth=1.5)
    for index in range(len(races), across * down):
        maps[index].remove()
        maps[index - across].tick_params(labelbottom=True)  # it is now the lowest of its column
    left.supxlabel("x", fontsize="medium")
    left.supylabel("y", fontsize="medium")
    axes.set(xlabel="optimizer step", ylabel="loss", yscale="log", xlim=(0, None))
    axes.set_ylim(max(axes.get_ylim()[0], _LEAST), 1e3)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=150)


def _contours(axes: Any) -> None:
    import numpy as np
    from matplotlib.colors import LogNorm

    x, y = np.meshgrid(np.linspace(*_XS, 300), np.linspace(*_YS, 300))
    levels = np.logspace(-1, 3, 9)
    z = (1 - x) ** 2 + 100 * (y - x**2) ** 2
    axes.contour(x, y, z, levels, cmap="Greys_r", norm=LogNorm(1e-4, 1e4), linewidths=0.7)
    axes.plot(*START, "o", color="black", markersize=5)
    axes.plot(*MINIMUM, "*", color="black", markersize=9)
    axes.set(xlim=_XS, ylim=_YS, xticks=(-2, -1, 0, 1, 2), yticks=(-1, 0, 1, 2, 3))
