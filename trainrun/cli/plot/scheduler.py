"""`trainrun plot scheduler NAME ... [overrides]`: learning rates side by side, without training."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trainrun.cli.plot.choices import choices, compose
from trainrun.config.compose.composer import Composition
from trainrun.terminal.lines import Line
from trainrun.vocabulary.duration import parse
from trainrun.vocabulary.errors import ConfigError

ABOUT = "Draw the learning rate of every step of the run that the overrides describe, without training."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What only this command takes."""
    parser.add_argument("--at", help="print the rates at these steps, such as 250,500,750")


def draw(arguments: argparse.Namespace) -> tuple[Sequence[Line], Callable[[Path], None]]:
    """Curves, or the table of `--at`, and what writes the picture."""
    chosen, overrides = choices("scheduler", arguments.words)
    courses = _courses(compose("scheduler", chosen, overrides))
    from trainrun.report import schedules

    if arguments.at:
        lines = schedules.table(courses, _steps(arguments.at, max(map(len, courses.values()))))
    else:
        lines = schedules.curves(courses, shutil.get_terminal_size().columns)
    return lines, partial(schedules.picture, courses)


def _courses(composed: dict[str, Composition]) -> dict[str, list[float]]:
    """Learning rate of every step, by the schedule's name. The data are read for the run's length."""
    first = next(iter(composed.values()))
    if parse(first.settings["budget"]).is_clock:
        raise ConfigError.one("budget", "by the clock no step count is known; give steps", "budget=2ep")
    from trainrun.assembly.build import build, rates_of

    parts = build(first.settings)
    rates_by_name = {}
    for name, composition in composed.items():
        rates = rates_of(composition.settings, parts)
        schedule, total = rates.over(parts.state.total_steps), parts.state.total_steps
        label = f"{name}, while the metric improves" if getattr(schedule, "needs_metric", False) else name
        rates_by_name[label] = [rates.lr * schedule(update)[0] for update in range(total)]
    return rates_by_name


def _steps(text: str, total: int) -> list[int]:
    """Steps from 1 to `total`. Raises ConfigError for what is none."""
    wrong = [word for word in text.split(",") if not word.isdigit() or not 1 <= int(word) <= total]
    if wrong:
        raise ConfigError.one("--at", f"wants steps from 1 to {total}, got {', '.join(wrong)}")
    return [int(word) for word in text.split(",")]
