"""`trainrun runs`: the stored runs as a table, and removing those that came to nothing."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence

from trainrun.cli.arguments import ArgumentParser
from trainrun.run import cleaning
from trainrun.run.directory import ROOT
from trainrun.run.listing import ListedRun, entries
from trainrun.terminal.lines import columns, say, show
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.events import to_line

_ABOUT = f"""List the runs below {ROOT}/, the newest last. A run that says it is running, and that no
process owns, has died. The column run is what to type as RUN."""
_CLEAN = """remove, after asking, what failed or died before its first checkpoint or on numbers that
were not finite, and folders in which no run came to be"""


def run(words: list[str]) -> int:
    """The table goes to stdout, what is said about it to stderr."""
    parser = ArgumentParser(prog="trainrun runs", description=_ABOUT)
    parser.add_argument("--failed", action="store_true", help="only what failed or died, with the reason")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--clean", action="store_true", help=_CLEAN)
    parser.add_argument("--yes", action="store_true", help="with --clean: do not ask")
    arguments = parser.parse_args(words)
    if arguments.clean and (arguments.json or arguments.failed):
        parser.error("--clean takes --yes alone")
    if arguments.yes and not arguments.clean:
        parser.error("--yes answers what --clean asks, which is not given")
    if arguments.clean:
        return _clean(arguments.yes)
    runs = [entry for entry in entries() if not arguments.failed or entry.state in ("failed", "died")]
    if arguments.json:
        from trainrun.report.runs import record

        print("".join(to_line(record(entry)) for entry in runs), end="")
    else:
        _show(runs, arguments.failed)
    return 0


def _show(runs: Sequence[ListedRun], failed: bool) -> None:
    if not runs:
        say("no run failed" if failed else f"no run in {ROOT}/ yet; start one with trainrun")
        return
    from trainrun.report.runs import table, total

    show(table(runs, columns(sys.stdout), time.time(), failed), sys.stdout)
    say("", f"{total(runs)}, below {ROOT}/")
    if lost := cleaning.lost(runs):
        say(f"trainrun runs --clean removes {len(lost)} that came to nothing")


def _clean(yes: bool) -> int:
    """List what would go, ask, remove it. Returns 0 also where the answer was no."""
    runs = entries()
    lost, (remnants, young) = cleaning.lost(runs), cleaning.remnants()
    if lost:
        from trainrun.report.runs import table

        show(table(lost, columns(sys.stderr), time.time(), True), sys.stderr)
    for folder in remnants:
        say(f"{folder}  no run came to be here")
    stays = [run for run in runs if run.state in ("failed", "died") and run not in lost]
    if stays:
        say(f"{len(stays)} more failed or died, and can be resumed. To remove them too:")
        say(f"  rm -r {shlex.join(str(run.path) for run in stays)}")
    if young:
        noun = "folder stays" if len(young) == 1 else "folders stay"
        say(f"{len(young)} {noun} for an hour: a run may be starting there")
    folders = [*(entry.path for entry in lost), *remnants]
    if not folders:
        say("nothing to remove")
        return 0
    noun = "this folder" if len(folders) == 1 else f"these {len(folders)} folders"
    if not yes and not sys.stdin.isatty():
        text = f"nobody can be asked here whether {noun} may go"
        raise ConfigError.of("--clean", text, "trainrun runs --clean --yes")
    if not yes:
        print(f"remove {noun}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            say("nothing was removed")
            return 0
    removed = [folder for folder in folders if cleaning.remove(folder)]
    for folder in set(folders) - set(removed):
        say(f"{folder} stays: it was taken up meanwhile")
    say(f"removed {len(removed)} of {len(folders)}")
    return 0
