"""Learning-rate schedules side by side: a picture, and small curves for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainrun.config.compose.composer import Composition
from trainrun.report.look import look
from trainrun.terminal.braille import curve
from trainrun.vocabulary.duration import parse
from trainrun.vocabulary.errors import ConfigError

Rates = Mapping[str, Sequence[float]]  # option -> learning rate of every step, from the first


def rates_of_each(composed: Mapping[str, Composition]) -> dict[str, list[float]]:
    """Learning rate of every step, by the schedule's name. The data are read for the run's length."""
    first = next(iter(composed.values()))
    if parse(first.settings["budget"]).is_clock:
        raise ConfigError.of("budget", "by the clock no step count is known; give steps", "budget=2ep")
    from trainrun.assembly.build import build, rates_of

    parts = build(first.settings)
    rates_by_name = {}
    for name, composition in composed.items():
        rates = rates_of(composition.settings, parts)
        schedule, total = rates.over(parts.state.total_steps), parts.state.total_steps
        label = f"{name}, while the metric improves" if getattr(schedule, "needs_metric", False) else name
        rates_by_name[label] = [rates.lr * schedule(update)[0] for update in range(total)]
    return rates_by_name


def picture(schedules: Rates, file: Path) -> None:
    """Write all curves into one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for index, (name, rates) in enumerate(schedules.items()):
        axes.plot(range(1, len(rates) + 1), rates, **look(index), label=name, linewidth=1.8)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("learning rate")
    axes.set_xlim(left=1)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(file, dpi=150)


def curves(schedules: Rates, width: int) -> list[str]:
    """Lines of at most `width` characters: one small curve per option, all to the same scale."""
    top = max(max(rates) for rates in schedules.values())
    lines: list[str] = []
    for name, rates in schedules.items():
        steps = f"step {len(rates)}"
        inner = max(10, min(width, 100) - 10)
        drawn = curve(rates, inner, 4, top)
        lines += [name, f"{top:>9.3g} {drawn[0]}", *(f"{'':>9} {row}" for row in drawn[1:-1])]
        lines += [f"{0:>9} {drawn[-1]}", f"{'':>9} step 1{steps:>{inner - 6}}", ""]
    return lines[:-1]


def table(schedules: Rates, steps: Sequence[int]) -> list[str]:
    """Learning rates at given steps, a row for each."""
    widths = [max(10, len(name)) for name in schedules]
    heads = "  ".join(f"{name:>{width}}" for name, width in zip(schedules, widths, strict=True))
    lines = [f"{'step':>8}  {heads}"]
    for step in steps:
        cells = (f"{r[step - 1]:>{w}.4g}" for r, w in zip(schedules.values(), widths, strict=True))
        lines.append(f"{step:>8}  {'  '.join(cells)}")
    return lines
