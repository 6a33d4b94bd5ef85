"""`trainrun check [overrides]`: what usually breaks late; with --exact, that a killed run goes on exactly."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from trainrun.cli.arguments import ArgumentParser
from trainrun.config.compose.composer import Composer
from trainrun.terminal.lines import columns, say, show
from trainrun.terminal.visible import visible
from trainrun.vocabulary.errors import ConfigError

FOUND = 3
_ABOUT = """Ask of a run, without training it, what usually breaks late: data, layers, gradients, modes, the
first loss, overfitting ten samples, one evaluation, a checkpoint. Exit 0: nothing found, 3: something,
with the override that fixes it. With --exact, train some steps twice, and once killed and resumed, and
compare every weight and the optimizer's memory after every step."""


def run(words: list[str]) -> int:
    """0: nothing found, 3: something was, with the evidence on stdout."""
    parser = ArgumentParser(prog="trainrun check", description=_ABOUT)
    drawn = "draw the first batch, augmented, with its labels"
    parser.add_argument("--picture", type=_png, metavar="FILE.png", help=drawn)
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    parser.add_argument("--exact", action="store_true", help="train, kill, resume and compare every step")
    parser.add_argument("--steps", type=int, default=20, help="to compare, killed half way; default: 20")
    parser.add_argument("overrides", nargs="*", help="as for trainrun itself")
    arguments = parser.parse_intermixed_args(words)
    if arguments.steps < 2:
        parser.error("--steps: at least 2")
    if arguments.exact and (arguments.picture or arguments.json):
        parser.error("--exact takes --steps alone")
    if arguments.exact:
        return _exact(arguments.overrides, arguments.steps)
    return _examine(arguments.overrides, arguments.picture, arguments.json)


def _examine(words: Sequence[str], picture: Path | None, as_json: bool) -> int:
    """Build the run, ask, and print the answers; nothing is left on the disk but the picture."""
    composer = Composer()
    composition = composer.checked(words)
    for note in composition.notes:
        say(note)
    from trainrun.check.batch import picture as draw
    from trainrun.check.checks import examine
    from trainrun.check.context import context_of
    from trainrun.check.finding import command_with_fixes
    from trainrun.report import checked
    from trainrun.session.open_run import build_new

    parts = build_new(composition.settings)
    drawn = draw(context_of(parts), picture) if picture else None
    sections = examine(parts)
    findings = [finding for section in sections for finding in section.findings]
    line = command_with_fixes(composer, words, findings)
    code = FOUND if findings else 0
    if as_json:
        print(json.dumps(checked.record(parts.plan, sections, line, code), indent=1))
        return code
    plan = [*parts.plan, ("settings", "all have an effect: one without is refused when a run is composed")]
    plan += [("picture", drawn)] if drawn else []
    show(checked.report(plan, sections, line, columns(sys.stdout)), sys.stdout)
    return code


def _png(name: str) -> Path:
    """Raises ConfigError for another kind of file, or one in a folder that does not exist."""
    file = Path(name)
    if file.suffix.lower() != ".png":
        raise ConfigError.of("--picture", f"is written as PNG, got {name}; name it FILE.png")
    if not file.absolute().parent.is_dir():
        raise ConfigError.of("--picture", f"there is no folder {file.parent}")
    return file


def _exact(words: Sequence[str], steps: int) -> int:
    """Every process is a fork of this one, which never computes."""
    from trainrun.check.exact import prove_resumed

    result = prove_resumed(words, steps)
    print(*map(visible, result.lines), sep="\n", flush=True)
    return 0 if result.is_exact else FOUND
