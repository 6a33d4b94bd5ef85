"""What eval, predict and export take on the command line: a stored run, a checkpoint, overrides."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from trainrun.cli.arguments import ArgumentParser
from trainrun.session.find_run import find_run
from trainrun.session.load_run import LoadedRun, load_run, refuse_another_run
from trainrun.vocabulary.errors import ConfigError


def parser_of(command: str, description: str) -> ArgumentParser:
    """With what all of these commands take."""
    parser = ArgumentParser(prog=f"trainrun {command}", description=description)
    parser.add_argument("run", metavar="RUN", nargs="?", help="a path, the beginning of one, a name, or last")
    parser.add_argument("--checkpoint", default="best", help="best (default), last, or a step")
    return parser


def parsed(parser: ArgumentParser, words: list[str]) -> argparse.Namespace:
    """What the words say.

    Raises ConfigError where no run is named, and for overrides that would make it another run.
    """
    verb = parser.prog.split()[-1]
    parser.add_argument("overrides", nargs="*", help="such as runtime.device=cpu data.root=FOLDER")
    arguments = parser.parse_intermixed_args(words)
    if arguments.run is None:
        raise ConfigError.of("RUN", f"name the run to {verb}: a path, the beginning of one, a name, or last")
    refuse_another_run(arguments.overrides, verb)
    return arguments


def load_named_run(arguments: argparse.Namespace, overrides: Sequence[str] = ()) -> LoadedRun:
    """The run that was named on the command line."""
    return load_run(find_run(arguments.run), arguments.checkpoint, [*overrides, *arguments.overrides])
