"""Learning-rate schedules side by side: a picture, and small curves for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.text import Text

from trainrun.config.compose.composer import Composition
from trainrun.report.look import look
from trainrun.terminal.braille import curve
from trainrun.terminal.chart import at_ends, framed, inner_width
from trainrun.terminal.table import laid_out
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
    axes.set(xlabel="optimizer step", ylabel="learning rate", xlim=(1, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper")
    figure.savefig(file, dpi=150)


def curves(schedules: Rates, width: int) -> list[str]:
    """Lines of at most `width` characters: one small curve per option, all to the same scale."""
    top, inner = max(max(rates) for rates in schedules.values()), inner_width(width)
    lines: list[str] = []
    for name, rates in schedules.items():
        rows = map(Text, curve(rates, inner, 4, top))
        below = at_ends("step 1", f"step {len(rates)}", inner)
        lines += [name, *(line.plain for line in framed([*rows], f"{top:.3g}", "0", below)), ""]
    return lines[:-1]


def table(schedules: Rates, steps: Sequence[int]) -> list[str]:
    """Learning rates at given steps, a row for each."""
    rows = [[str(step), *(f"{rates[step - 1]:.4g}" for rates in schedules.values())] for step in steps]
    return [line.plain for line in laid_out([["step", *schedules], *rows], left=0)]
