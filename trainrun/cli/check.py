"""`trainrun check [overrides]`: build everything; with --exact, prove that a killed run goes on exactly."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from trainrun.config.compose import Composer, Composition
from trainrun.duration import CLOCK_UNITS, parse
from trainrun.errors import ConfigError

FOUND = 3
_ABOUT = """Build everything that a run needs, without training. With --exact, train some steps twice,
and once killed and resumed, and compare every weight and the optimizer's memory after every step."""
# What --exact sets itself: it changes no weight.
_OWN = ("logger", "loop.log_every", "loop.eval_every", "checkpoint.every", "run_dir", "resume", "name")


def run(words: list[str]) -> int:
    """0: nothing found, 3: the resumed run differs, with where and the likely cause on stdout."""
    parser = argparse.ArgumentParser(prog="trainrun check", description=_ABOUT)
    parser.add_argument("--exact", action="store_true", help="train, kill, resume and compare every step")
    parser.add_argument("--steps", type=int, default=20, help="to compare, killed half way; default: 20")
    parser.add_argument("overrides", nargs="*", help="as for trainrun itself")
    try:
        arguments = parser.parse_intermixed_args(words)
        if arguments.steps < 2:
            parser.error("--steps: at least 2")
    except SystemExit as end:
        return int(end.code or 0)
    if arguments.exact:
        return _exact(arguments.overrides, arguments.steps)
    from trainrun.config.build import build

    for label, text in build(Composer().checked(arguments.overrides).settings).plan:
        print(f"{label:<10} {text}")
    return 0


def _exact(words: Sequence[str], steps: int) -> int:
    """Every process is a fork of this one, which never computes."""
    from trainrun.cli.exact import prove

    theirs = [word for word in words if word.partition("=")[0].lstrip("+") not in _OWN]

    def killed_at(half: int) -> Composition:
        ours = ["logger=none", "loop.log_every=1step", f"checkpoint.every={half}step"]
        ours += [f"loop.eval_every={max(1, half // 2)}step", "resume=never"]
        return Composer().checked([*theirs, *ours])

    if parse(killed_at(1).settings["budget"]).unit in CLOCK_UNITS:
        raise ConfigError.one("budget", "by the clock no run is twice the same; give steps", "budget=2ep")
    verdict = prove(killed_at, steps)
    for line in verdict.lines:
        print(line)
    sys.stdout.flush()
    return 0 if verdict.is_exact else FOUND
