"""`trainrun compare A B ...`: what differs, and the curves; of one sweep all metrics; without torch."""

from __future__ import annotations

import csv
import sys
from argparse import Namespace
from pathlib import Path

from trainrun.cli.arguments import WIDE, ArgumentParser, paint, picture_file
from trainrun.session.find_run import find_run
from trainrun.sweep.folder import find_named, find_sweep, read
from trainrun.terminal.lines import columns, show
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.events import to_line

_ABOUT = """Compare stored runs: the settings and results that differ, a column for each run, the best marked
by a star, and the curves of what was monitored and of the training loss over one another. RUN is a path,
its beginning, a name, or last. Of one SWEEP: every metric with its 95 % confidence interval over seeds, and
a paired t-test of two settings."""


def run(words: list[str]) -> int:
    """The table and the curves go to stdout, the picture's place to stderr."""
    parser = ArgumentParser(prog="trainrun compare", description=_ABOUT)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="two or more")
    written = "also write the curves as .png, .pdf or .svg"
    parser.add_argument("--out", type=picture_file, metavar="FILE", help=written)
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for each run")
    formats = parser.add_mutually_exclusive_group()
    formats.add_argument("--csv", action="store_true", help="of a sweep: a line for each metric")
    formats.add_argument("--latex", action="store_true", help="of a sweep: a table for booktabs")
    formats.add_argument("--pair", nargs=2, type=int, metavar="N", help="of a sweep: settings to test")
    arguments = parser.parse_args(words)
    of_sweep = arguments.csv or arguments.latex or arguments.pair
    find = find_sweep if of_sweep or arguments.runs == ["last"] else find_named
    if len(arguments.runs) == 1 and (folder := find(arguments.runs[0])):
        if arguments.json or arguments.out:
            parser.error("--json and --out are for runs; trainrun plot sweep draws a sweep")
        return _sweep(folder, arguments)
    if of_sweep:
        parser.error("--csv, --latex and --pair are for one sweep; trainrun compare SWEEP")
    from trainrun.report import compare, panels

    paths = list(dict.fromkeys(find_run(word) for word in arguments.runs))
    if not 2 <= len(paths) <= compare.MOST:
        got = f"got 1: {paths[0]}" if len(paths) == 1 else f"got {len(paths)}"
        text = f"compares 2 to {compare.MOST} different runs, {got}; trainrun runs lists them"
        raise ConfigError.of("RUN", text)
    runs = compare.stored(paths)
    drawn = panels.decisive(runs)
    if arguments.json:
        print("".join(to_line(compare.record(run, runs)) for run in runs), end="")
    else:
        width = columns(sys.stdout) or WIDE
        show([*compare.table(runs, width), *panels.charts(drawn, runs, width, 8)], sys.stdout)
    if arguments.out:
        paint(arguments.out, lambda where: panels.picture(drawn, runs, where))
    return 0


def _sweep(folder: Path, arguments: Namespace) -> int:
    from trainrun.report import sweep_table

    sweep = read(folder)
    if not (settings := sweep_table.measured(sweep)):
        raise ConfigError.of("SWEEP", f"{folder}: no job has completed yet; trainrun resume {folder}")
    first, second = arguments.pair or (1, 2)
    if arguments.pair and (first == second or not {first, second} <= {*range(1, len(settings) + 1)}):
        raise ConfigError.of("--pair", f"must be two settings of 1 to {len(settings)}, got {first} {second}")
    if arguments.csv:
        csv.writer(sys.stdout, lineterminator="\n").writerows(sweep_table.records(sweep, settings))
    elif arguments.latex:
        print("\n".join(sweep_table.latex(sweep, settings)))
    else:
        is_tested = arguments.pair or 1 < len(settings) < len(sweep.jobs)
        tested = sweep_table.paired_test(settings, first, second) if is_tested else []
        show([*sweep_table.lines(sweep, settings, columns(sys.stdout) or WIDE), *tested], sys.stdout)
    return 0
