"""`trainrun plot run RUN ...`: what stored runs recorded, over the step; several are overlaid."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trainrun.cli.arguments import WIDE
from trainrun.session.find_run import find_run
from trainrun.terminal.lines import Line, columns
from trainrun.vocabulary.errors import ConfigError

ABOUT = """Draw what a stored run recorded: loss, the monitored metric, learning rate, gradient norm,
throughput. Several runs are overlaid. RUN is a path, its beginning, a name, or last."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def draw(arguments: argparse.Namespace) -> tuple[Sequence[Line], Callable[[Path], None]]:
    """The curves for the terminal, and what writes the picture."""
    from trainrun.report import compare, panels

    paths = list(dict.fromkeys(find_run(word) for word in arguments.words or ["last"]))
    if len(paths) > compare.MOST:
        raise ConfigError.of("RUN", f"at most {compare.MOST} runs are overlaid, got {len(paths)}")
    runs = compare.stored(paths)
    drawn = panels.panels_of(runs)
    if not drawn:
        raise ConfigError.of("RUN", f"{paths[0]} has recorded nothing yet")
    legend = [run.title if len(runs) == 1 else f"{run.mark}  {run.title}" for run in runs]
    lines: list[Line] = [*legend, *panels.charts(drawn, runs, columns(sys.stdout) or WIDE, 6)]
    return lines, partial(panels.picture, drawn, runs)
