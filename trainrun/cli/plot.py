"""`trainrun plot WHAT NAME ...`: options, or stored runs, side by side, as PNG and in the terminal."""

from __future__ import annotations

import shutil
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from trainrun.cli.arguments import WIDE, ArgumentParser, paint, picture_file
from trainrun.cli.plot_choices import choices, compose, mendable
from trainrun.session.find_run import find_run
from trainrun.sweep import folder
from trainrun.terminal.lines import Line, columns, show
from trainrun.vocabulary.errors import ConfigError

Drawn = tuple[Sequence[Line], Callable[[Path], None]]  # for the terminal, and what writes the picture

_IDLE = ("optimizer.lr_scaling", "optimizer.base_batch_size")  # in a race
_OPTIONS = "options, and overrides as for trainrun itself"
_STORED = "paths, their beginnings, names, or last, which is taken without any"


def run(words: list[str]) -> int:
    """Results on stdout; the picture's place on stderr."""
    what = words[0] if words and words[0] in _KINDS else None
    parser = ArgumentParser(prog=f"trainrun plot {what or ''}".rstrip())
    if what is None:
        parser.add_argument("what", choices=list(_KINDS), help="trainrun plot WHAT --help says more")
        parser.parse_intermixed_args(words)
    assert what  # or the parser has refused
    kind = _KINDS[what]
    parser.description = kind.about
    for name, settings in kind.flags.items():
        parser.add_argument(name, **settings)
    parser.add_argument("--out", type=picture_file, default=f"{what}.png", help=f"default: {what}.png")
    parser.add_argument("words", nargs="*", help=kind.words)
    arguments = parser.parse_intermixed_args(words[1:])
    try:
        lines, draw = kind.draw(arguments)
    except ConfigError as error:
        raise mendable(error, words) from None
    show(lines, sys.stdout)
    paint(arguments.out, draw)
    return 0


def _scheduler(arguments: Namespace) -> Drawn:
    """Learning rates as curves, or as the table of `--at`."""
    composed = compose("scheduler", *choices("scheduler", arguments.words))
    from trainrun.report import schedules

    rates, numbers = schedules.rates_of_each(composed)
    draw = partial(schedules.picture, rates, numbers)
    if not arguments.at:
        drawn = [rates, *({key: values} for key, values in numbers.items())]
        width = shutil.get_terminal_size().columns
        return [line for panel in drawn for line in ["", *schedules.curves(panel, width)]][1:], draw
    total, steps = max(map(len, rates.values())), arguments.at.split(",")
    wrong = [word for word in steps if not word.isdigit() or not 1 <= int(word) <= total]
    if wrong:
        raise ConfigError.of("--at", f"must be steps from 1 to {total}, got {', '.join(wrong)}")
    return schedules.table({**rates, **numbers}, list(map(int, steps))), draw


def _optimizer(arguments: Namespace) -> Drawn:
    """The table of a race, with small pictures below it."""
    chosen, overrides = choices("optimizer", arguments.words)
    for word in [word for choice in chosen for word in choice.overrides] + overrides:
        if not word.startswith(("optimizer=", "optimizer.")) or word.startswith(_IDLE):
            text = "has no effect because a race has no data and no model, only optimizers"
            raise ConfigError.of(word.partition("=")[0], text)
    if (steps := arguments.steps) < 1:
        raise ConfigError.of("--steps", f"must be at least 1, got {steps}")
    composed = compose("optimizer", chosen, overrides)
    fixed = {choice.label for choice in chosen if any(map(_gives_lr, choice.overrides))}
    fixed = set(composed) if any(map(_gives_lr, overrides)) else fixed
    from trainrun.report import race
    from trainrun.tune.optimizer_race import race_path
    from trainrun.tune.rosenbrock import RATES, START

    races = {name: race_path(settings, name in fixed, steps) for name, settings in composed.items()}
    title = f"{steps} steps on the Rosenbrock function from {START} to the minimum at (1, 1)"
    rates = f"lr: of {len(RATES)} from {min(RATES):g} to {max(RATES):g} the one whose last loss is lowest"
    if fixed:
        rates = "lr: as given" if fixed == set(composed) else f"{rates}; given: {', '.join(sorted(fixed))}"
    small = race.pictures(races, steps, shutil.get_terminal_size().columns)
    return [title, rates, "", *race.table(races), "", *small], partial(race.picture, races)


def _gives_lr(word: str) -> bool:
    return word.partition("=")[0] == "optimizer.lr"


def _init(arguments: Namespace) -> Drawn:
    """The table of each scheme's activations and gradients."""
    chosen, overrides = choices("init", arguments.words)
    asked = {"model.depth": arguments.depth, "model.activation": arguments.activation}
    flags = [f"{key}={value}" for key, value in asked.items() if value is not None]
    if flags and not any(word.startswith("model=") for word in overrides):
        flags.insert(0, "model=mlp")
    composed = compose("init", chosen, flags + overrides)
    from trainrun.assembly.build import build
    from trainrun.check.depth import levels
    from trainrun.protocols import BatchSpec, Position
    from trainrun.report import inits

    schemes, title = {}, ""
    for name, composition in composed.items():
        parts = build(composition.settings)
        model, batches = parts.state.model, BatchSpec(parts.batch_spec.batch_size, 1)
        batch = next(iter(parts.data.train_batches(Position(), batches, composition.settings["seed"])))
        schemes[name] = levels(model, parts.task, batch)
        title = f"{type(model).__name__} for {parts.info.name} before training, a batch of {len(batch)}"
    explained = "of what each layer gives to the next, and of the gradient with respect to it"
    table = inits.table(schemes, columns(sys.stdout))
    return [title, explained, "", *table], partial(inits.picture, schemes, title)


def _runs(arguments: Namespace) -> Drawn:
    from trainrun.report import compare, panels

    paths = list(dict.fromkeys(find_run(word) for word in arguments.words or ["last"]))
    if len(paths) > compare.MOST:
        raise ConfigError.of("RUN", f"at most {compare.MOST} runs are overlaid, got {len(paths)}")
    runs = compare.stored(paths)
    drawn = panels.panels_of(runs)
    if not drawn:
        raise ConfigError.of("RUN", f"{paths[0]} has recorded nothing yet")
    charts = panels.charts(drawn, runs, columns(sys.stdout) or WIDE, 6)
    return [*panels.legend(runs), *charts], partial(panels.picture, drawn, runs)


def _sweep(arguments: Namespace) -> Drawn:
    if len(arguments.words) > 1:
        text = f"one at a time is drawn, got {len(arguments.words)}: {' '.join(arguments.words)}"
        raise ConfigError.of("SWEEP", text)
    sweep = folder.read(folder.find_sweep(*arguments.words or ["last"]))
    if not any(job.value is not None for job in sweep.jobs):
        counts = Counter(job.state for job in sweep.jobs).most_common()
        states = ", ".join(f"{count} {state}" for state, count in counts) or "none"
        raise ConfigError.of("SWEEP", f"{sweep.path}: no job has a value yet; its jobs: {states}")
    from trainrun.report import ranking
    from trainrun.report.sweep import drawn, picture

    if not drawn(sweep):
        text = f"{sweep.path}: there is nothing to compare, its jobs differ in nothing that was swept"
        raise ConfigError.of("SWEEP", text)
    return ranking.lines(sweep, columns(sys.stdout) or WIDE), partial(picture, sweep)


class _Kind(NamedTuple):
    draw: Callable[[Namespace], Drawn]
    words: str  # what is named on the command line
    about: str
    flags: Mapping[str, dict[str, Any]]


_KINDS = {
    "scheduler": _Kind(
        _scheduler,
        _OPTIONS,
        "Draw the learning rate of every step of the run that the overrides describe, without training.",
        {"--at": {"help": "print the rates at these steps, such as 250,500,750"}},
    ),
    "optimizer": _Kind(
        _optimizer,
        _OPTIONS,
        """Race optimizers on the Rosenbrock function, (1 - x)^2 + 100 (y - x^2)^2, from one start. The
options' learning rates are meant for networks: here each takes, of the same few rates, the one that ends
lowest, unless one is given, as in adam(0.01). All other settings are the options' own.""",
        {"--steps": {"type": int, "default": 300, "help": "default: 300"}},
    ),
    "init": _Kind(
        _init,
        _OPTIONS,
        """Initialise the run's model by each scheme and pass its first batch forwards and the loss backwards,
without training: mean and spread of activations and gradients layer by layer, and the weights' histograms.
--depth and --activation take an mlp, unless a model is given.""",
        {
            "--depth": {"help": "model.depth, of an mlp"},
            "--activation": {"help": "model.activation, of an mlp"},
        },
    ),
    "run": _Kind(
        _runs,
        _STORED,
        """Draw what a stored run recorded: loss, the monitored metric, learning rate, gradient norm,
throughput. Several runs are overlaid. RUN is a path, its beginning, a name, or last.""",
        {},
    ),
    "sweep": _Kind(
        _sweep,
        _STORED,
        """Rank the settings of a stored sweep, and draw the monitored metric against each of them. SWEEP is a
path, a name or its beginning below outputs/multirun/, or last, which is the default.""",
        {},
    ),
}
