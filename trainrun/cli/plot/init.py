"""`trainrun plot init NAME ... [overrides]`: what initial weights make of activations and gradients."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trainrun.cli.plot.choices import choices, compose
from trainrun.terminal.lines import Line, columns

ABOUT = """Initialise the run's model by each scheme and pass its first batch forwards and the loss backwards,
without training: mean and spread of activations and gradients layer by layer, and the weights' histograms.
--depth and --activation take an mlp, unless a model is given."""

_EXPLAINED = "of what each layer gives to the next, and of the gradient with respect to it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What only this command takes."""
    parser.add_argument("--depth", help="model.depth, of an mlp")
    parser.add_argument("--activation", help="model.activation, of an mlp")


def draw(arguments: argparse.Namespace) -> tuple[Sequence[Line], Callable[[Path], None]]:
    """The table, and what writes the picture."""
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
    lines = [title, _EXPLAINED, "", *inits.table(schemes, columns(sys.stdout))]
    return lines, partial(inits.picture, schemes, title)
