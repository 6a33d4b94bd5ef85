"""`trainrun plot scheduler NAME ... [overrides]`: learning rates side by side, without training."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trainrun.cli.plot.choices import choices, compose
from trainrun.terminal.lines import Line
from trainrun.vocabulary.errors import ConfigError

ABOUT = "Draw the learning rate of every step of the run that the overrides describe, without training."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What only this command takes."""
    parser.add_argument("--at", help="print the rates at these steps, such as 250,500,750")


def draw(arguments: argparse.Namespace) -> tuple[Sequence[Line], Callable[[Path], None]]:
    """Curves, or the table of `--at`, and what writes the picture."""
    chosen, overrides = choices("scheduler", arguments.words)
    composed = compose("scheduler", chosen, overrides)
    from trainrun.report import schedules

    rates = schedules.rates_of_each(composed)

    if arguments.at:
        lines = schedules.table(rates, _steps(arguments.at, max(map(len, rates.values()))))
    else:
        lines = schedules.curves(rates, shutil.get_terminal_size().columns)
    return lines, partial(schedules.picture, rates)


def _steps(text: str, total: int) -> list[int]:
    """Steps from 1 to `total`. Raises ConfigError for what is none."""
    wrong = [word for word in text.split(",") if not word.isdigit() or not 1 <= int(word) <= total]
    if wrong:
        raise ConfigError.of("--at", f"must be steps from 1 to {total}, got {', '.join(wrong)}")
    return [int(word) for word in text.split(",")]
