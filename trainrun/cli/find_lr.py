"""`trainrun find-lr [overrides]`: a learning-rate range test over the run's own first steps."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from trainrun.cli.arguments import ArgumentParser, paint, picture_file
from trainrun.config.compose.composer import Composer, Composition
from trainrun.session.child import in_child
from trainrun.terminal.lines import replaceable, say, show
from trainrun.vocabulary.errors import ConfigError

if TYPE_CHECKING:
    from trainrun.tune.lr import LRPoint

NONE = 3
_FEWEST = 20  # steps: fewer give no curve to read a rate off
_ABOUT = """Train the first steps of the run that the overrides describe while the learning rate rises from
--min to --max, and read off the loss which rate suits it, where three of four criteria agree. All else is
the run's: data, accumulation, parameter groups, precision, clipping, regularisers. It happens in a process
of its own that is thrown away; nothing is left but the picture. What is found is the largest rate of the
run's schedule. Exit 0: a suggestion, 3: none, with the reason."""


def run(words: list[str]) -> int:
    """0: there is a suggestion, on stdout; 3: there is none, and why. With --apply the run's exit code."""
    parser = ArgumentParser(prog="trainrun find-lr", description=_ABOUT)
    parser.add_argument("--min", type=float, default=1e-7, help="of the first step; default: 1e-7")
    parser.add_argument("--max", type=float, default=10.0, help="of the last; default: 10")
    parser.add_argument("--steps", type=int, default=100, help="fewer where the loss diverges; default: 100")
    parser.add_argument("--out", type=picture_file, default="find-lr.png", help="default: find-lr.png")
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    parser.add_argument("--apply", action="store_true", help="then start the run with the suggestion")
    parser.add_argument("overrides", nargs="*", help="as for trainrun itself")
    arguments = parser.parse_intermixed_args(words)
    _refuse(arguments)
    composition = Composer().checked(arguments.overrides)
    for note in composition.notes:
        say(note)
    receive, send = os.pipe()
    try:
        code = in_child(lambda: _search(composition, arguments, send), ["find-lr", *words])
    finally:
        os.close(send)
    with os.fdopen(receive) as answer:
        line = [word for word in answer.read().split("\0") if word]
    if arguments.apply and line and not code:
        from trainrun.cli import train

        return train.run(line)
    if arguments.apply and code == NONE:
        say("without a suggestion the run is not started")
    return 128 - code if code < 0 else code


def _refuse(arguments: argparse.Namespace) -> None:
    """Raises ConfigError for a range that is none."""
    low, high, steps = arguments.min, arguments.max, arguments.steps
    if not 0 < low < math.inf:
        raise ConfigError.of("--min", f"must be a learning rate above 0, got {low:g}")
    if not low < high < math.inf:
        raise ConfigError.of("--max", f"must be greater than --min={low:g}, got {high:g}")
    if steps < _FEWEST:
        raise ConfigError.of("--steps", f"must be at least {_FEWEST} to give a curve, got {steps}")


def _search(composition: Composition, arguments: argparse.Namespace, send: int) -> int:
    """Build, search and print; the words of the run with the suggestion go into `send`."""
    from trainrun.report import range_test
    from trainrun.session.open_run import build_new
    from trainrun.tune.lr_search import search_lr, with_setting

    parts = build_new(composition.settings)
    low, high, steps = arguments.min, arguments.max, arguments.steps
    title = f"{steps} steps of {parts.samples_per_step} samples, lr {low:g} to {high:g}"
    test = search_lr(parts, low, high, steps, partial(_counted, title))
    line = with_setting(arguments.overrides, test.setting) if test.setting else []
    command = shlex.join(["trainrun", *line] if line else _instead(arguments, test.verdict.instead))
    code = 0 if line else NONE
    if arguments.json:
        print(json.dumps({"exit_code": code} | range_test.record(test, command), indent=1))
    else:
        show(range_test.lines(test, command, shutil.get_terminal_size().columns), sys.stdout)
    paint(arguments.out, partial(range_test.picture, test))
    os.write(send, "\0".join(line).encode())
    return code


def _counted(title: str, points: Iterable[LRPoint]) -> Iterator[LRPoint]:
    """The same points, below a title, with the number of the step on a terminal."""
    say(title)
    for count, point in enumerate(points, 1):
        replaceable(f"step {count}")
        yield point
    replaceable("")


def _instead(arguments: argparse.Namespace, flags: Mapping[str, float]) -> list[str]:
    """The command that may find more: with another range, or of checks where no range would help."""
    if not flags:
        return ["trainrun", "check", *arguments.overrides]
    given = {"--min": arguments.min, "--max": arguments.max, "--steps": arguments.steps, **flags}
    words = [word for flag, value in given.items() for word in (flag, f"{value:g}")]
    return ["trainrun", "find-lr", *words, *arguments.overrides]
