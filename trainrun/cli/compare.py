"""`trainrun compare A B ...`: the settings and results that differ, and the curves, without torch."""

from __future__ import annotations

import sys

from trainrun.cli.arguments import WIDE, ArgumentParser, paint, picture_file
from trainrun.session.find_run import find_run
from trainrun.terminal.lines import columns, show
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.events import to_line

_ABOUT = """Compare stored runs: the settings and results that differ, a column for each run, the best marked
by a star, and the curves of what was monitored and of the training loss over one another. RUN is a path,
its beginning, a name, or last."""


def run(words: list[str]) -> int:
    """The table and the curves go to stdout, the picture's place to stderr."""
    parser = ArgumentParser(prog="trainrun compare", description=_ABOUT)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="two or more")
    written = "also write the curves as .png, .pdf or .svg"
    parser.add_argument("--out", type=picture_file, metavar="FILE", help=written)
    parser.add_argument("--json", action="store_true", help="one JSON object a line, for each run")
    arguments = parser.parse_args(words)
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
