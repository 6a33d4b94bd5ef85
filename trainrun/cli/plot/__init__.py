"""`trainrun plot WHAT NAME ... [overrides]`: options side by side, as PNG and in the terminal."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from trainrun.cli.plot import init, optimizer, scheduler
from trainrun.cli.plot.choices import choices, mendable
from trainrun.errors import ConfigError, StorageFailed

_KINDS = {"scheduler": scheduler, "optimizer": optimizer, "init": init}
_FORMATS = (".png", ".pdf", ".svg")


def run(words: list[str]) -> int:
    """Results on stdout; the picture's place on stderr."""
    what = words[0] if words and words[0] in _KINDS else None
    parser = argparse.ArgumentParser(prog=f"trainrun plot {what or ''}".rstrip())
    if what is None:
        parser.add_argument("what", choices=list(_KINDS), help="trainrun plot WHAT --help says more")
    else:
        parser.description = _KINDS[what].ABOUT
        _KINDS[what].add_arguments(parser)
        parser.add_argument("--out", type=Path, default=Path(f"{what}.png"), help=f"default: {what}.png")
        parser.add_argument("words", nargs="*", help="options, and overrides as for trainrun itself")
    try:
        arguments = parser.parse_intermixed_args(words[1:] if what else words)
    except SystemExit as end:
        return int(end.code or 0)
    assert what  # or the parser has refused
    file: Path = arguments.out
    if file.suffix not in _FORMATS or not file.parent.is_dir():
        text = f"wants a file ending in {', '.join(_FORMATS)}, in a folder that there is, got {file}"
        raise ConfigError.one("--out", text)
    try:
        lines, paint = _KINDS[what].draw(arguments, *choices(what, arguments.words))
    except ConfigError as error:
        raise mendable(error, words) from None
    print("\n".join(lines))
    try:
        paint(file)
    except OSError as error:
        raise StorageFailed(f"{file}: {error.strerror}") from error
    print(f"\npicture: {file}", file=sys.stderr)
    return 0
