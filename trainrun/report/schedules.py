"""Learning-rate schedules side by side: a picture, and small curves for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from trainrun.config.compose.composer import Composition
from trainrun.report.look import look
from trainrun.terminal.braille import curve
from trainrun.terminal.chart import at_ends, framed, inner_width
from trainrun.terminal.table import laid_out
from trainrun.vocabulary.duration import parse
from trainrun.vocabulary.errors import ConfigError

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts

Rates = Mapping[str, Sequence[float]]  # option, or number's key -> value of every step, from the first


def rates_of_each(
    composed: Mapping[str, Composition],
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Learning rate of every step by the schedule's name, then further numbers of the run by their key.

    The data are read for the run's length.
    """
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
    return rates_by_name, _numbers(parts)


def _numbers(parts: Parts) -> dict[str, list[float]]:
    """What `scheduler.also` plans, one course for all schedules that stand side by side."""
    if (numbers := parts.state.numbers) is None:
        return {}
    total = parts.state.total_steps
    values = [numbers.at(update, total) for update in range(total)]
    return {key: [value[key] for value in values] for key in numbers.also}


def picture(schedules: Rates, numbers: Rates, file: Path) -> None:
    """Write all curves into one PNG: the learning rates in one panel, each further number in its own."""
    from matplotlib.figure import Figure

    panels = {"learning rate": schedules, **{key: {"": values} for key, values in numbers.items()}}
    figure = Figure(figsize=(9, 4.5 + 2.5 * len(numbers)), layout="constrained")
    column = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, (title, rates_by_name) in zip(column, panels.items(), strict=True):
        for index, (name, rates) in enumerate(rates_by_name.items()):
            label = name or "_"  # matplotlib leaves it out of the legend
            axes.plot(range(1, len(rates) + 1), rates, **look(index), label=label, linewidth=1.8)
        axes.set(xlabel="optimizer step", ylabel=title, xlim=(1, None), ylim=(0, None))
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
