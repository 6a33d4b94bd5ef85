"""`trainrun plot scheduler NAME ... [overrides]`: options side by side, without training."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from trainrun.config.compose import Composer, Composition, experiment_files, problems_of
from trainrun.config.diagnose import no_option
from trainrun.config.paths import groups
from trainrun.duration import parse
from trainrun.errors import ConfigError

_ABOUT = "Draw the learning rate of every step of the run that the overrides describe, without training."


def run(words: list[str]) -> int:
    """Curves or the table on stdout; the picture's place on stderr."""
    parser = argparse.ArgumentParser(prog="trainrun plot", description=_ABOUT)
    parser.add_argument("what", choices=["scheduler"])
    parser.add_argument("--at", help="print the rates at these steps, such as 250,500,750")
    parser.add_argument("--out", type=Path, default=Path("scheduler.png"), help="default: scheduler.png")
    parser.add_argument("words", nargs="*", help="schedules, and overrides as for trainrun itself")
    try:
        arguments = parser.parse_intermixed_args(words)
    except SystemExit as end:
        return int(end.code or 0)
    names = [name for word in arguments.words if "=" not in word for name in word.split(",") if name]
    overrides = [word for word in arguments.words if "=" in word]
    for name in names:
        if name not in groups()["scheduler"]:
            raise ConfigError.one("scheduler", no_option("scheduler", name, list(groups()["scheduler"])))
    courses = _courses({name: [*overrides, f"scheduler={name}"] for name in names} or {"": overrides})
    total = max(map(len, courses.values()))
    from trainrun.report import schedules

    if arguments.at:
        print("\n".join(schedules.table(courses, _steps(arguments.at, total))))
    else:
        print("\n".join(schedules.curves(courses, shutil.get_terminal_size().columns)))
    schedules.picture(courses, arguments.out)
    print(f"\npicture: {arguments.out}", file=sys.stderr)
    return 0


def _courses(lines: dict[str, list[str]]) -> dict[str, list[float]]:
    """Learning rate of every step, by the schedule's name. The data are read for the run's length."""
    composed = {name: _composed(words) for name, words in lines.items()}
    first = next(iter(composed.values()))
    if parse(first.settings["budget"]).is_clock:
        raise ConfigError.one("budget", "by the clock no step count is known; give steps", "budget=2ep")
    from trainrun.config.build import build, rates_of

    parts = build(first.settings)
    found = {}
    for name, composition in composed.items():
        rates = rates_of(composition.settings, parts)
        schedule, total = rates.over(parts.state.total_steps), parts.state.total_steps
        label = name or str(composition.choices["scheduler"])
        found[label] = [rates.lr * schedule(update)[0] for update in range(total)]
    return found


def _composed(words: list[str]) -> Composition:
    composition = Composer().compose(experiment_files(words))
    if problems := problems_of(composition):
        raise ConfigError(problems)
    return composition


def _steps(text: str, total: int) -> list[int]:
    """Steps from 1 to `total`. Raises ConfigError for what is none."""
    wrong = [word for word in text.split(",") if not word.isdigit() or not 1 <= int(word) <= total]
    if wrong:
        raise ConfigError.one("--at", f"wants steps from 1 to {total}, got {', '.join(wrong)}")
    return [int(word) for word in text.split(",")]
