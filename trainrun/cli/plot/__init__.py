"""`trainrun plot WHAT NAME ...`: options, or stored runs, side by side, as PNG and in the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

from trainrun.cli.arguments import ArgumentParser
from trainrun.cli.image_output import paint, picture_file
from trainrun.cli.plot import init, optimizer, runs, scheduler, sweep
from trainrun.cli.plot.choices import mendable
from trainrun.terminal.lines import show
from trainrun.vocabulary.errors import ConfigError

_KINDS = {"scheduler": scheduler, "optimizer": optimizer, "init": init, "run": runs, "sweep": sweep}


def run(words: list[str]) -> int:
    """Results on stdout; the picture's place on stderr."""
    what = words[0] if words and words[0] in _KINDS else None
    parser = ArgumentParser(prog=f"trainrun plot {what or ''}".rstrip())
    if what is None:
        parser.add_argument("what", choices=list(_KINDS), help="trainrun plot WHAT --help says more")
    else:
        parser.description = _KINDS[what].ABOUT
        _KINDS[what].add_arguments(parser)
        parser.add_argument("--out", type=Path, default=Path(f"{what}.png"), help=f"default: {what}.png")
        of_stored = "paths, their beginnings, names, or last, which is taken without any"
        is_stored = what in ("run", "sweep")
        words_are = of_stored if is_stored else "options, and overrides as for trainrun itself"
        parser.add_argument("words", nargs="*", help=words_are)
    arguments = parser.parse_intermixed_args(words[1:] if what else words)
    assert what  # or the parser has refused
    file = picture_file(arguments.out)
    try:
        lines, draw = _KINDS[what].draw(arguments)
    except ConfigError as error:
        raise mendable(error, words) from None
    show(lines, sys.stdout)
    paint(file, draw)
    return 0
