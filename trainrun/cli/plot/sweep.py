"""`trainrun plot sweep [SWEEP]`: which settings made the difference, of a stored sweep."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from trainrun.cli.arguments import WIDE
from trainrun.sweep import folder
from trainrun.terminal.lines import Line, columns
from trainrun.vocabulary.errors import ConfigError

ABOUT = """Rank the settings of a stored sweep, and draw the monitored metric against each of them. SWEEP is a
path, a name or its beginning below outputs/multirun/, or last, which is the default."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def draw(arguments: argparse.Namespace) -> tuple[Sequence[Line], Callable[[Path], None]]:
    """The ranking for the terminal, and what writes the picture."""
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
