"""`trainrun find-lr [overrides]`: a learning-rate range test over the run's own first steps."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainrun.cli.image_output import paint, picture_file
from trainrun.config.compose.composer import Composer, Composition
from trainrun.config.overrides import key_of
from trainrun.session.child import in_child
from trainrun.terminal.lines import Line, say, show
from trainrun.vocabulary.errors import ConfigError

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts
    from trainrun.report.range_test import RangeTest
    from trainrun.tune.lr import LRPoint

NONE = 3
_FEWEST = 20
_ABOUT = """Train the first steps of the run that the overrides describe while the learning rate rises from
--min to --max, and read off the loss which rate suits it, where three of four criteria agree. All else is
the run's: data, accumulation, parameter groups, precision, clipping, regularisers. It happens in a process
of its own that is thrown away; nothing is left but the picture. What is found is the largest rate of the
run's schedule. Exit 0: a suggestion, 3: none, with the reason."""


def run(words: list[str]) -> int:
    """0: there is a suggestion, on stdout; 3: there is none, and why. With --apply the run's exit code."""
    parser = argparse.ArgumentParser(prog="trainrun find-lr", description=_ABOUT)
    parser.add_argument("--min", type=float, default=1e-7, help="of the first step; default: 1e-7")
    parser.add_argument("--max", type=float, default=10.0, help="of the last; default: 10")
    parser.add_argument("--steps", type=int, default=100, help="fewer where the loss diverges; default: 100")
    parser.add_argument("--out", type=Path, default=Path("find-lr.png"), help="default: find-lr.png")
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    parser.add_argument("--apply", action="store_true", help="then start the run with the suggestion")
    parser.add_argument("overrides", nargs="*", help="as for trainrun itself")
    try:
        arguments = parser.parse_intermixed_args(words)
    except SystemExit as end:
        return int(end.code or 0)
    _refuse(arguments)
    picture_file(arguments.out)
    composition = Composer().checked(arguments.overrides)
    for note in composition.notes:
        say(note)
    receive, send = os.pipe()
    try:
        code = in_child(lambda: _search(composition, arguments, send), ["find-lr", *words])
    finally:
        os.close(send)
    with os.fdopen(receive) as told:
        line = [word for word in told.read().split("\0") if word]
    if arguments.apply and line and not code:
        from trainrun.cli import train

        return train.run(line)
    if arguments.apply and code == NONE:
        say("without a suggestion the run is not started")
    return 128 - code if code < 0 else code


def _refuse(arguments: argparse.Namespace) -> None:
    """Raises ConfigError for a range that is none."""
    if not 0 < arguments.min < math.inf:
        raise ConfigError.one("--min", f"wants a learning rate above 0, got {arguments.min:g}")
    if not arguments.min < arguments.max < math.inf:
        raise ConfigError.one("--max", f"wants more than --min, {arguments.min:g}, got {arguments.max:g}")
    if arguments.steps < _FEWEST:
        raise ConfigError.one("--steps", f"wants at least {_FEWEST}, for a curve; got {arguments.steps}")


def _search(composition: Composition, arguments: argparse.Namespace, send: int) -> int:
    """Build, ramp, judge and tell; the words of the run with the suggestion go into `send`."""
    from trainrun.assembly.build import build
    from trainrun.report.range_test import RangeTest, picture
    from trainrun.session.init_from import weights_from
    from trainrun.tune.criteria import curve, suggest_lr
    from trainrun.tune.lr import Divergence, peak, ramp

    source = composition.settings["init_from"]
    parts = build(composition.settings, weights=weights_from(source) if source else None)
    size, low, high = parts.samples_per_step, arguments.min, arguments.max
    top = peak(parts).factor
    say(f"{arguments.steps} steps of {size} samples, lr {low:g} to {high:g}")
    points = list(_counted(ramp(parts, low, high, arguments.steps)))
    found = curve(*([getattr(one, name) for one in points] for name in ("lr", "loss", "start")))
    watch = Divergence()
    diverged = any(watch.seen(point.loss) for point in points)
    told = RangeTest(found, suggest_lr(found, diverged), diverged)
    lr = told.verdict.suggestion
    written = f"{lr / _per_lr(parts, top):.2g}" if lr else None
    line = _line(arguments.overrides, written) if written else []
    if arguments.json:
        print(json.dumps(_record(told, arguments, written, line), indent=1))
    else:
        _tell(told, arguments, written, line)
    paint(arguments.out, partial(picture, told))
    os.write(send, "\0".join(line).encode())
    return 0 if line else NONE


def _counted(points: Iterable[LRPoint]) -> Iterator[LRPoint]:
    """The same, with the number of the step on a terminal."""
    live = sys.stderr.isatty()
    for count, point in enumerate(points, 1):
        if live:
            print(f"\rstep {count}", end="", file=sys.stderr, flush=True)
        yield point
    if live:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _per_lr(parts: Parts, top: float) -> float:
    """What the run's largest learning rate is, per unit of `optimizer.lr`: its scaling, and its schedule."""
    return parts.rates.lr / float(parts.settings["optimizer"].get("lr", parts.rates.lr)) * top


def _line(overrides: Sequence[str], written: str) -> list[str]:
    """The run's words with the rate, in the place of one that was typed."""
    before = next((word for word in overrides if key_of(word) == "optimizer.lr"), "")
    plus = before[: len(before) - len(before.lstrip("+"))]
    return [*(word for word in overrides if word != before), f"{plus}optimizer.lr={written}"]


def _instead(arguments: argparse.Namespace, other: dict[str, float]) -> list[str]:
    """The command that may find more: with another range, or of checks where no range would help."""
    if not other:
        return ["trainrun", "check", *arguments.overrides]
    flags = {"--min": arguments.min, "--max": arguments.max, "--steps": arguments.steps} | other
    given = [word for flag, value in flags.items() for word in (flag, f"{value:g}")]
    return ["trainrun", "find-lr", *given, *arguments.overrides]


def _tell(told: RangeTest, arguments: argparse.Namespace, written: str | None, line: Sequence[str]) -> None:
    from trainrun.report.range_test import chart, table

    verdict = told.verdict
    lines: list[Line] = [*chart(told, shutil.get_terminal_size().columns), *table(verdict)]
    if verdict.suggestion:
        rates = [verdict.criteria[name] or 0.0 for name in verdict.agreeing]
        many = f"{len(rates)} of {len(verdict.criteria)} criteria agree"
        lines += ["", *([f"the loss diverged at lr {told.curve.lr[-1]:.2g}"] if told.diverged else [])]
        lines += [f"{many} within a factor of {rates[-1] / rates[0]:.2g}; the upper two make the suggestion"]
        lines += [f"optimizer.lr={written} makes it the largest rate of the run's schedule:", ""]
        lines += [f"  {shlex.join(['trainrun', *line])}"]
    else:
        lines += [*([""] if lines else []), f"no suggestion: {verdict.reason}; rather:", ""]
        lines += [f"  {shlex.join(_instead(arguments, dict(verdict.instead)))}"]
    show(lines, sys.stdout)


def _record(
    told: RangeTest, arguments: argparse.Namespace, written: str | None, line: Sequence[str]
) -> dict[str, Any]:
    """The same for programs."""
    curve, verdict = told.curve, told.verdict
    points = zip(curve.lr.tolist(), curve.loss.tolist(), curve.smooth.tolist(), strict=True)
    other = _instead(arguments, dict(verdict.instead))
    return {
        "exit_code": 0 if line else NONE,
        "points": [dict(zip(("lr", "loss", "smooth"), point, strict=True)) for point in points],
        "diverged": told.diverged,
        "criteria": dict(verdict.criteria),
        "agreeing": list(verdict.agreeing),
        "lr": verdict.suggestion,  # of a step, where the schedule is at its largest
        "optimizer.lr": float(written) if written else None,
        "reason": verdict.reason or None,
        "command": shlex.join(["trainrun", *line] if line else other),
    }
