"""`trainrun plot optimizer NAME ...`: a race on the Rosenbrock function, each at its best learning rate."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trainrun.cli.plot.choices import choices, compose
from trainrun.terminal.lines import Line
from trainrun.vocabulary.errors import ConfigError

ABOUT = """Race optimizers on the Rosenbrock function, (1 - x)^2 + 100 (y - x^2)^2, from one start. The
options' learning rates are meant for networks: here each takes, of the same few rates, the one that ends
lowest, unless one is given, as in adam(0.01). All other settings are the options' own."""
_IDLE = ("optimizer.lr_scaling", "optimizer.base_batch_size")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What only this command takes."""
    parser.add_argument("--steps", type=int, default=300, help="default: 300")


def draw(arguments: argparse.Namespace) -> tuple[Sequence[Line], Callable[[Path], None]]:
    """The table with small pictures below it, and what writes the large one."""
    chosen, overrides = choices("optimizer", arguments.words)
    given = [word for choice in chosen for word in choice.overrides] + overrides
    for word in given:
        if not word.startswith(("optimizer=", "optimizer.")) or word.startswith(_IDLE):
            key = word.partition("=")[0]
            raise ConfigError.of(
                key, "has no effect because a race has no data and no model, only optimizers"
            )
    if arguments.steps < 1:
        raise ConfigError.of("--steps", f"must be at least 1, got {arguments.steps}")
    composed = compose("optimizer", chosen, overrides)
    fixed = {choice.label for choice in chosen if any(map(_gives_lr, choice.overrides))}
    fixed = set(composed) if any(map(_gives_lr, overrides)) else fixed
    from trainrun.report import race
    from trainrun.tune.optimizer_race import race_path
    from trainrun.tune.rosenbrock import RATES, START

    steps = arguments.steps
    races = {name: race_path(settings, name in fixed, steps) for name, settings in composed.items()}
    title = f"{steps} steps on the Rosenbrock function from {START} to the minimum at (1, 1)"
    rates = f"lr: of {len(RATES)} from {min(RATES):g} to {max(RATES):g} the one whose last loss is lowest"
    if fixed:
        rates = "lr: as given" if fixed == set(composed) else f"{rates}; given: {', '.join(sorted(fixed))}"
    width = shutil.get_terminal_size().columns
    lines = [title, rates, "", *race.table(races), "", *race.pictures(races, steps, width)]
    return lines, partial(race.picture, races)


def _gives_lr(word: str) -> bool:
    return word.partition("=")[0] == "optimizer.lr"
