"""`trainrun check [overrides]`: what usually breaks late; with --exact, that a killed run goes on exactly."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainrun.config.compose.composer import Composer, Composition
from trainrun.terminal.lines import columns, say, show
from trainrun.terminal.visible import visible
from trainrun.vocabulary.duration import CLOCK_UNITS, parse
from trainrun.vocabulary.errors import ConfigError

if TYPE_CHECKING:
    from trainrun.check.checks import CheckSection

FOUND = 3
_ABOUT = """Ask of a run, without training it, what usually breaks late: data, layers, gradients, modes, the
first loss, ten samples learned by heart, one evaluation, a checkpoint. Exit 0: nothing found, 3: something,
with the override that mends it. With --exact, train some steps twice, and once killed and resumed, and
compare every weight and the optimizer's memory after every step."""
# What --exact sets itself: it changes no weight.
_OWN = ("logger", "loop.log_every", "loop.eval_every", "checkpoint.every", "run_dir", "resume", "name")


def run(words: list[str]) -> int:
    """0: nothing found, 3: something was, with the evidence on stdout."""
    parser = argparse.ArgumentParser(prog="trainrun check", description=_ABOUT)
    parser.add_argument(
        "--picture", metavar="FILE.png", help="draw the first batch, augmented, with its labels"
    )
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    parser.add_argument("--exact", action="store_true", help="train, kill, resume and compare every step")
    parser.add_argument("--steps", type=int, default=20, help="to compare, killed half way; default: 20")
    parser.add_argument("overrides", nargs="*", help="as for trainrun itself")
    try:
        arguments = parser.parse_intermixed_args(words)
        if arguments.steps < 2:
            parser.error("--steps: at least 2")
        if arguments.exact and (arguments.picture or arguments.json):
            parser.error("--exact takes --steps alone")
    except SystemExit as end:
        return int(end.code or 0)
    if arguments.exact:
        return _exact(arguments.overrides, arguments.steps)
    return _examine(arguments.overrides, arguments.picture, arguments.json)


def _examine(words: Sequence[str], picture: str | None, as_json: bool) -> int:
    """Build the run, ask, and print the answers; nothing is left on the disk but the picture."""
    file = None if picture is None else _png(picture)
    composer = Composer()
    composition = composer.checked(words)
    for note in composition.notes:
        say(note)
    from trainrun.assembly.build import build
    from trainrun.check.batch import picture as draw
    from trainrun.check.checks import examine
    from trainrun.check.context import bench_of
    from trainrun.session.init_from import weights_from

    source = composition.settings["init_from"]
    parts = build(composition.settings, weights=weights_from(source) if source else None)
    drawn = draw(bench_of(parts), file) if file else None
    sections = examine(parts)
    line = _mended(composer, words, sections)
    code = FOUND if any(section.findings for section in sections) else 0
    if as_json:
        print(json.dumps(_record(parts.plan, sections, line, code), indent=1))
        return code
    from trainrun.report.checked import report

    told = [*parts.plan, ("settings", "all have an effect: one without is refused when a run is composed")]
    told += [("picture", drawn)] if drawn else []
    show(report(told, sections, line, columns(sys.stdout)), sys.stdout)
    return code


def _png(name: str) -> Path:
    """Raises ConfigError for another kind of file, or one in a folder that does not exist."""
    file = Path(name)
    if file.suffix.lower() != ".png":
        raise ConfigError.one("--picture", f"is written as PNG, got {name}; name it FILE.png")
    if not file.absolute().parent.is_dir():
        raise ConfigError.one("--picture", f"there is no folder {file.parent}")
    return file


def _mended(composer: Composer, words: Sequence[str], sections: Sequence[CheckSection]) -> str | None:
    """This command with every finding mended; None where none can be, or the mends do not go together."""
    from trainrun.check.finding import mended

    line = mended(words, [finding for section in sections for finding in section.findings])
    if line == list(words):
        return None
    try:
        composer.checked(line)
    except ConfigError:
        return None
    return shlex.join(["trainrun", "check", *line])


def _record(
    plan: Sequence[tuple[str, str]], sections: Sequence[CheckSection], line: str | None, code: int
) -> dict[str, Any]:
    """The answers for programs; numbers that are not finite are null."""
    return {
        "exit_code": code,
        "plan": [list(row) for row in plan],
        "sections": {
            one.title: {"lines": [list(row) for row in one.lines], "values": _finite(one.values)}
            for one in sections
        },
        "findings": [vars(finding) | {"section": one.title} for one in sections for finding in one.findings],
        "command": line,
    }


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value


def _exact(words: Sequence[str], steps: int) -> int:
    """Every process is a fork of this one, which never computes."""
    from trainrun.check.exact import prove

    theirs = [word for word in words if word.partition("=")[0].lstrip("+") not in _OWN]

    def killed_at(half: int) -> Composition:
        ours = ["logger=none", "loop.log_every=1step", f"checkpoint.every={half}step"]
        ours += [f"loop.eval_every={max(1, half // 2)}step", "resume=never"]
        return Composer().checked([*theirs, *ours])

    if parse(killed_at(1).settings["budget"]).unit in CLOCK_UNITS:
        raise ConfigError.one("budget", "by the clock no run is twice the same; give steps", "budget=2ep")
    verdict = prove(killed_at, steps)
    for line in verdict.lines:
        print(visible(line))
    sys.stdout.flush()
    return 0 if verdict.is_exact else FOUND
