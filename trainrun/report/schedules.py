"""Learning-rate schedules side by side: a picture, and small curves for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainrun.report.look import look
from trainrun.terminal.braille import curve

Courses = Mapping[str, Sequence[float]]  # option -> learning rate of every step, from the first


def picture(courses: Courses, file: Path) -> None:
    """Write all curves into one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, (name, rates) in enumerate(courses.items()):
        axes.plot(range(1, len(rates) + 1), rates, **look(index), label=name, linewidth=1.8)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("learning rate")
    axes.set_xlim(left=1)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(file, dpi=150)


def curves(courses: Courses, width: int) -> list[str]:
    """Lines of at most `width` characters: one small curve per option, all to the same scale."""
    top = max(max(rates) for rates in courses.values())
    lines: list[str] = []
    for name, rates in courses.items():
        steps = f"step {len(rates)}"
        inner = max(10, min(width, 100) - 10)
        drawn = curve(rates, inner, 4, top)
        lines += [name, f"{top:>9.3g} {drawn[0]}", *(f"{'':>9} {row}" for row in drawn[1:-1])]
        lines += [f"{0:>9} {drawn[-1]}", f"{'':>9} step 1{steps:>{inner - 6}}", ""]
    return lines[:-1]


def table(courses: Courses, steps: Sequence[int]) -> list[str]:
    """Learning rates at given steps, a row for each."""
    widths = [max(10, len(name)) for name in courses]
    heads = "  ".join(f"{name:>{width}}" for name, width in zip(courses, widths, strict=True))
    lines = [f"{'step':>8}  {heads}"]
    for step in steps:
        cells = (f"{r[step - 1]:>{w}.4g}" for r, w in zip(courses.values(), widths, strict=True))
        lines.append(f"{step:>8}  {'  '.join(cells)}")
    return lines
