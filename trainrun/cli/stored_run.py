"""What eval, predict and export take on the command line: a stored run, a checkpoint, overrides."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from trainrun.session.find_run import find_run
from trainrun.session.load_run import LoadedRun, load_run, refuse_another_run
from trainrun.vocabulary.errors import ConfigError


def parser_of(command: str, description: str) -> argparse.ArgumentParser:
    """With what all of these commands take."""
    parser = argparse.ArgumentParser(prog=f"trainrun {command}", description=description)
    parser.add_argument("run", metavar="RUN", nargs="?", help="a path, the beginning of one, a name, or last")
    parser.add_argument("--checkpoint", default="best", help="best (default), last, or a step")
    return parser


def parsed(parser: argparse.ArgumentParser, words: list[str]) -> argparse.Namespace | int:
    """What the words say, or the exit code where they are answered already.

    Raises ConfigError where no run is named, and for overrides that would make it another run.
    """
    verb = parser.prog.split()[-1]
    parser.add_argument("overrides", nargs="*", help="such as runtime.device=cpu data.root=FOLDER")
    try:
        arguments = parser.parse_intermixed_args(words)
    except SystemExit as end:
        return int(end.code or 0)
    if arguments.run is None:
        raise ConfigError.one("RUN", f"name the run to {verb}: a path, the beginning of one, a name, or last")
    refuse_another_run(arguments.overrides, verb)
    return arguments


def load_named_run(arguments: argparse.Namespace, overrides: Sequence[str] = ()) -> LoadedRun:
    """The run that was named on the command line."""
    return load_run(find_run(arguments.run), arguments.checkpoint, [*overrides, *arguments.overrides])
