"""`trainrun [overrides]`: one run, or with -m a sweep with a process for each job."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from trainrun import ranks
from trainrun.config.arguments import as_overrides, other_form
from trainrun.config.compose.composer import (
    Composer,
    Composition,
    experiment_files,
    flags,
    parse_arguments,
    problems_of,
)
from trainrun.config.suggest import corrected_line, together
from trainrun.session.find_run import say_what_name_means
from trainrun.session.summary import farewell
from trainrun.session.user_code import current_code
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError, Problem

if TYPE_CHECKING:
    from trainrun.session.session import Judge, Result


@dataclass(frozen=True)
class Ended:
    """What a line came to. `result` is None where the run in `run_dir` had nothing left to do."""

    result: Result | None
    run_dir: Path
    budget: str


def run(words: list[str]) -> int:
    """Train as the words say. Returns the exit code."""
    ended = trained(words)
    if isinstance(ended, int):
        return ended
    if ended.result is None:
        return 0
    farewell(ended.result, ended.budget, "-q" in words)
    return ended.result.exit_code


def trained(
    words: list[str], around: Callable[[], AbstractContextManager[None]] = nullcontext
) -> Ended | int:
    """The run that the words mean, or the exit code of a sweep and of what only shows settings.

    `around` is entered for what needs torch, once no mistake is left that can be told without it.
    """
    quiet, verbose = "-q" in words, "-v" in words
    _refuse_other_forms(words)
    typed = [word for word in words if word not in ("-q", "-v")]
    words = _with_experiments(typed)
    arguments = parse_arguments(words)
    composer = Composer(arguments.config_dir)
    if arguments.hydra_help:
        composer.help(arguments)
        return 0
    if arguments.cfg or arguments.info:
        what, value = ("cfg", arguments.cfg) if arguments.cfg else ("info", arguments.info)
        composer.show(what, value, arguments.overrides, arguments.package, arguments.resolve)
        return 0
    if arguments.multirun:
        if ranks.size() > 1:
            text = "a sweep starts one process for each job; run it without torchrun, or its jobs one by one"
            raise ConfigError.one("-m", text)
        from trainrun.sweep.engine import sweep

        return sweep(composer, arguments.overrides, typed, quiet)
    _refuse_search(arguments.overrides)
    composition = composer.compose(arguments.overrides)
    with current_code(composition.settings):
        _check([composition])
    command, budget = [*ranks.command(), *typed], composition.settings["budget"]
    with around():
        if composition.settings["resume"] == "auto" and (folder := _used_folder(composition)):
            from trainrun.cli.resume import changes_of_line, resumed
            from trainrun.session.rebuild import targets_of

            changes = changes_of_line(folder, composition.overrides)
            typed_targets = {target for _, target in targets_of(composition.settings)}
            ended = resumed(folder, changes, quiet, command, typed=typed_targets)
            return Ended(None, folder, budget) if ended is None else Ended(ended[0], folder, ended[1])
        result = train_one(composition, command, quiet, verbose)
        return Ended(result, result.run_dir, budget)


def train_one(
    composition: Composition,
    command: list[str],
    quiet: bool,
    verbose: bool,
    run_dir: Path | None = None,
    judge: Judge | None = None,
) -> Result:
    """Build everything, which finds the last mistakes, then claim a folder and train.

    A sweep's job has its folder already, and may have a judge.
    """
    from trainrun.assembly.build import build
    from trainrun.session.changes import Process
    from trainrun.session.rebuild import weights_from
    from trainrun.session.session import start

    for note in composition.notes:
        say(note)
    source = composition.settings["init_from"]
    parts = build(composition.settings, weights=weights_from(source) if source else None)
    if verbose:
        from trainrun.assembly.coverage import coverage
        from trainrun.cli.layers import table

        say(*table(parts), "", *coverage(parts).split("\n"))
    if run_dir is None:
        say_what_name_means(composition.settings["name"], composition.settings["run_dir"])
    return start(composition, parts, Process(command, quiet, judge=judge), run_dir)


def _refuse_other_forms(words: list[str]) -> None:
    """Raises ConfigError for `--lr 0.1` and the like, with every other problem of what was meant."""
    meant = as_overrides(words, flags())
    if meant == words:
        return
    problems = _problems_of(meant)
    line = corrected_line(meant, problems) if problems else shlex.join(["trainrun", *meant])
    raise ConfigError([other_form(words, meant, line), *problems])


def _with_experiments(words: list[str]) -> list[str]:
    """The words, YAML files as experiments. Of a file that is not there all other problems are told, too."""
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


def _used_folder(composition: Composition) -> Path | None:
    """`run_dir` where it holds a run already; one without a config is unused."""
    folder = Path(composition.settings["run_dir"]).expanduser()
    return folder if ranks.from_first((folder / "config.yaml").is_file()) else None


def _refuse_search(overrides: Sequence[str]) -> None:
    """What only a sweep reads, in the words of a single run."""
    names = [word.partition("=")[0].lstrip("+~") for word in overrides]
    idle = [
        name for name in names if name.split(".")[0] == "sweep" or name in ("hydra/sweeper", "hydra/launcher")
    ]
    if idle:
        raise ConfigError([Problem(name, "is of a sweep, which is started with -m") for name in idle])


def _check(compositions: list[Composition]) -> None:
    """Raises ConfigError with the problems of all jobs, each once."""
    if problems := together([problems_of(one) for one in compositions]):
        raise ConfigError(problems)
