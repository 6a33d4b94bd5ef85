"""A learning-rate range test: the loss over the rate, with the criteria's rates marked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from trainrun.terminal.braille import BLANK, path
from trainrun.terminal.chart import AXIS, STYLES, framed, inner_width, span
from trainrun.terminal.lines import Line
from trainrun.terminal.numbers import number
from trainrun.tune.criteria import FEWEST, LRCurve, LRVerdict
from trainrun.tune.lr_search import RangeTest

MEANS = {
    "steepest": "where the loss falls fastest",
    "minimum/10": "a tenth of where it is lowest",
    "valley": "two thirds into its longest fall",
    "slide": "the largest at which it still falls",
}
_MARKS = dict(zip(MEANS, "abcd", strict=True))
_HEIGHT = 10
_ABOVE = 0.4  # of the fall: how much of the rise is drawn


def chart(test: RangeTest, width: int) -> list[Text]:
    """The smoothed loss over the logarithm of the rate, with the rates marked below.

    At most `width` columns; nothing of a few points.
    """
    curve = test.curve
    if len(curve.lr) < FEWEST:
        return []
    decades, inner = [math.log10(lr) for lr in curve.lr], inner_width(width)
    (low, high), ends = _heights(curve), (decades[0], decades[-1])
    drawn = path(list(zip(decades, curve.smooth.tolist(), strict=True)), inner, _HEIGHT, ends, (low, high))
    rows = [Text(row.replace(BLANK, " "), style=STYLES[0]) for row in drawn]
    lines = framed(rows, number(high), number(low), _axis(decades, inner))
    marks = {_MARKS[name]: lr for name, lr in test.verdict.criteria.items() if lr}
    if test.verdict.suggestion:
        marks["^"] = test.verdict.suggestion
    lines += [Text(f"{'':{AXIS}} {row}") for row in _marked(marks, decades, inner)]
    return [Text("loss over the learning rate, logarithmic", style="bold"), *lines]


def _heights(curve: LRCurve) -> tuple[float, float]:
    """From the lowest loss to a part of the rise above the first ones."""
    low, top = float(curve.smooth.min()), float(curve.smooth[: curve.lowest + 1].max())
    top = min(top + _ABOVE * (top - low), float(curve.smooth.max()))
    return span([low, top])


def _column(decade: float, decades: list[float], inner: int) -> int:
    share = (decade - decades[0]) / (decades[-1] - decades[0])
    return min(max(round(share * (inner - 1)), 0), inner - 1)


def _axis(decades: list[float], inner: int) -> str:
    """The ends, and between them every power of ten that has room."""
    row = [" "] * inner
    first, last = f"{10 ** decades[0]:.2g}", f"{10 ** decades[-1]:.2g}"
    row[: len(first)], row[inner - len(last) :] = first, last
    for power in range(math.ceil(decades[0]), math.floor(decades[-1]) + 1):
        label, start = f"{10.0**power:g}", _column(power, decades, inner)
        end = start + len(label)
        if end <= inner and set(row[max(0, start - 2) : end + 2]) == {" "}:
            row[start:end] = label
    return "".join(row)


def _marked(marks: Mapping[str, float], decades: list[float], inner: int) -> list[str]:
    """Each mark below its rate; where two share a column, in a line of its own."""
    rows: list[list[str]] = []
    for mark, lr in marks.items():
        column = _column(math.log10(lr), decades, inner)
        if all(row[column] != " " for row in rows):
            rows.append([" "] * inner)
        next(row for row in rows if row[column] == " ")[column] = mark
    return ["".join(row).rstrip() for row in rows]


def table(verdict: LRVerdict) -> list[Text]:
    """A line per criterion: its mark, its rate, and what it is; none where none has a rate."""
    if not any(verdict.criteria.values()):
        return []
    lines = [Text()]
    for name, meaning in MEANS.items():
        lr = verdict.criteria[name]
        agrees = "" if name in verdict.agreeing or not verdict.suggestion else "; apart from the others"
        value = f"{lr:.2g}" if lr else "-"
        lines.append(Text(f"  {_MARKS[name]}  {name:<12}{value:<10}{meaning}{agrees if lr else ''}"))
    if verdict.suggestion:
        mean = f"the geometric mean of {' and '.join(verdict.agreeing[-2:])}"
        lines.append(Text(f"  ^  {'suggestion':<12}{verdict.suggestion:<10.2g}{mean}", style="bold"))
    return lines


def lines(test: RangeTest, command: str, width: int) -> list[Line]:
    """Chart, criteria and what follows from them; `command` trains with it, or may find more."""
    verdict = test.verdict
    lines: list[Line] = [*chart(test, width), *table(verdict)]
    if verdict.suggestion:
        rates = [verdict.criteria[name] or 0.0 for name in verdict.agreeing]
        many = f"{len(rates)} of {len(verdict.criteria)} criteria agree"
        lines += ["", *([f"the loss diverged at lr {test.curve.lr[-1]:.2g}"] if test.diverged else [])]
        lines += [f"{many} within a factor of {rates[-1] / rates[0]:.2g}; the upper two make the suggestion"]
        lines += [f"optimizer.lr={test.setting} makes it the largest rate of the run's schedule:"]
    else:
        lines += [*([""] if lines else []), f"no suggestion: {verdict.reason}; rather:"]
    return [*lines, "", f"  {command}"]


def record(test: RangeTest, command: str) -> dict[str, Any]:
    """The same for programs."""
    curve, verdict = test.curve, test.verdict
    points = zip(curve.lr.tolist(), curve.loss.tolist(), curve.smooth.tolist(), strict=True)
    return {
        "points": [dict(zip(("lr", "loss", "smooth"), point, strict=True)) for point in points],
        "diverged": test.diverged,
        "criteria": dict(verdict.criteria),
        "agreeing": list(verdict.agreeing),
        "lr": verdict.suggestion,  # of a step, where the schedule is at its largest
        "optimizer.lr": float(test.setting) if test.setting else None,
        "reason": verdict.reason or None,
        "command": command,
    }


def picture(test: RangeTest, file: Path) -> None:
    """Write the losses, the smoothed curve and the criteria into one picture."""
    from matplotlib.figure import Figure

    curve, verdict = test.curve, test.verdict
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.lr, curve.loss, ".", color="0.7", markersize=4, label="loss of a step")
    axes.plot(curve.lr, curve.smooth, color="C0", linewidth=1.8, label="smoothed")
    for index, (name, lr) in enumerate(verdict.criteria.items(), 1):
        if lr:
            axes.axvline(lr, color=f"C{index}", linestyle="--", linewidth=1.2, label=f"{name}  {lr:.2g}")
    if verdict.suggestion:
        label = f"suggestion  {verdict.suggestion:.2g}"
        axes.axvline(verdict.suggestion, color="black", linewidth=1.8, label=label)
    axes.set(xscale="log", xlabel="learning rate of a step", ylabel="training loss before the step")
    if len(curve.lr) > 1:
        low, high = _heights(curve)
        most = min(float(curve.loss[: curve.lowest + 1].max()), 2 * high - low)  # single ones may lie far out
        low, top = min(low, float(curve.loss.min())), max(high, most)
        axes.set_ylim(low - 0.05 * (top - low), top + 0.05 * (top - low))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(file, dpi=130)
