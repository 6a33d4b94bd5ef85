"""Train one run from command-line words: parse, compose, check, build, start."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainrun import ranks
from trainrun.config.arguments import as_overrides, other_form
from trainrun.config.check import problems_of
from trainrun.config.compose.composer import (
    Composer,
    Composition,
    experiment_files,
    flags,
    parse_arguments,
)
from trainrun.config.overrides import key_of
from trainrun.config.suggest import corrected_line, together
from trainrun.session.find_run import recalled_folder, say_what_name_means
from trainrun.session.process_state import current_code
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError, Problem

if TYPE_CHECKING:
    from trainrun.session.resume import RunEnd
    from trainrun.session.session import Result, ShouldStop


@dataclass(frozen=True)
class Line:
    """A command line without mistakes of form. `typed` are its words but for -q and -v."""

    typed: list[str]
    quiet: bool
    verbose: bool
    arguments: Namespace
    composer: Composer


def read_line(words: list[str]) -> Line:
    """The words, YAML files as experiments. Raises ConfigError for what Hydra could not read."""
    _refuse_other_forms(words)
    typed = [word for word in words if word not in ("-q", "-v")]
    arguments = parse_arguments(_with_experiments(typed))
    return Line(typed, "-q" in words, "-v" in words, arguments, Composer(arguments.config_dir))


def show_settings(line: Line) -> bool:
    """Answer --hydra-help, --cfg and --info; whether one of them was asked."""
    arguments, composer = line.arguments, line.composer
    if arguments.hydra_help:
        composer.help(arguments)
    elif arguments.cfg or arguments.info:
        what, value = ("cfg", arguments.cfg) if arguments.cfg else ("info", arguments.info)
        composer.show(what, value, arguments.overrides, arguments.package, arguments.resolve)
    else:
        return False
    return True


def trained(line: Line, around: Callable[[], AbstractContextManager[None]] = nullcontext) -> RunEnd:
    """Train the run that a line means; with `resume=auto` go on with what its folder holds.

    `around` is entered for what needs torch, once no mistake is left that can be told without it.
    """
    _refuse_search(line.arguments.overrides)
    composition = line.composer.compose(line.arguments.overrides)
    with current_code(composition.settings):
        _check([composition])
    command, settings = [*ranks.command(), *line.typed], composition.settings
    with around():
        from trainrun.session.resume import RunEnd, changes_of_line, resumed

        again = recalled_folder()
        folder = Path(again or settings["run_dir"] or "").expanduser()
        may_resume = bool(again) or settings["resume"] == "auto"
        # A folder without a config is unused.
        if may_resume and ranks.broadcast_object((folder / "config.yaml").is_file()):
            if again:
                say(f"started again by torchrun: going on in {folder}")
            changes = changes_of_line(folder, composition.overrides)
            return resumed(folder, changes, line.quiet, command, typed=settings)
        result = train_one(composition, command, line.quiet, line.verbose)
        return RunEnd(result, result.run_dir, settings["budget"])


def train_one(
    composition: Composition,
    command: list[str],
    quiet: bool,
    verbose: bool,
    run_dir: Path | None = None,
    should_stop: ShouldStop | None = None,
) -> Result:
    """Build everything, which finds the last mistakes, then claim a folder and train.

    A sweep's job has its folder already, and may be stopped early.
    """
    from trainrun.session.open_run import build_new
    from trainrun.session.session import RunOptions, start

    for note in composition.notes:
        say(note)
    parts = build_new(composition.settings)
    if verbose:
        from trainrun.assembly.coverage import coverage
        from trainrun.assembly.layers import table

        say(*table(parts), "", *coverage(parts).split("\n"))
    if run_dir is None:
        say_what_name_means(composition.settings["name"], composition.settings["run_dir"])
    return start(composition, parts, RunOptions(command, quiet, should_stop=should_stop), run_dir)


def _refuse_other_forms(words: list[str]) -> None:
    """Raise ConfigError for `--lr 0.1` and the like, with every other problem of what was meant."""
    meant = as_overrides(words, flags())
    if meant == words:
        return
    problems = _problems_of(meant)
    line = corrected_line(meant, problems) if problems else shlex.join(["trainrun", *meant])
    raise ConfigError([other_form(words, meant, line), *problems])


def _with_experiments(words: list[str]) -> list[str]:
    """The words, YAML files as experiments. A file that is missing is reported with all other problems."""
    try:
        return experiment_files(words)
    except ConfigError as error:
        meant = {problem.key: problem.fix for problem in error.problems if problem.fix}
        others = _problems_of([meant.get(word, word) for word in words]) if meant else []
        others = [problem for problem in others if not problem.key.startswith(tuple(meant.values()))]
        raise ConfigError([*error.problems, *others]) from None


def _problems_of(words: list[str]) -> list[Problem]:
    try:
        arguments = parse_arguments(experiment_files(words))
        composer = Composer(arguments.config_dir)
        compose = composer.compose_sweep if arguments.multirun else lambda texts: [composer.compose(texts)]
        _check(compose(arguments.overrides))
    except ConfigError as error:
        return error.problems
    return []


def _refuse_search(overrides: Sequence[str]) -> None:
    """Raise ConfigError for settings of a sweep among the words of a single run."""
    keys = [
        key for key in map(key_of, overrides) if re.fullmatch(r"sweep(\..*)?|hydra/(sweeper|launcher)", key)
    ]
    if keys:
        raise ConfigError([Problem(key, "is a setting of a sweep; start one with -m") for key in keys])


def _check(compositions: list[Composition]) -> None:
    """Raise ConfigError with the problems of all jobs, each once."""
    if problems := together([problems_of(composition) for composition in compositions]):
        raise ConfigError(problems)
