"""`trainrun [overrides]`: one run, or with -m a sweep with a process for each job."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from trainrun import ranks
from trainrun.cli.child import in_child
from trainrun.cli.farewell import farewell
from trainrun.cli.found import say_what_name_means
from trainrun.cli.summary import Job, summary
from trainrun.config.compose import (
    Composer,
    Composition,
    experiment_files,
    flags,
    parse_arguments,
    problems_of,
)
from trainrun.config.suggest import corrected_line, together
from trainrun.config.words import as_overrides, other_form
from trainrun.errors import ConfigError, FolderBusy, Problem
from trainrun.run.files import read_json

if TYPE_CHECKING:
    from trainrun.cli.session import Result


def run(words: list[str]) -> int:
    """Train as the words say. Returns the exit code."""
    quiet, verbose = "-q" in words, "-v" in words
    _refuse_other_forms(words)
    words = experiment_files([word for word in words if word not in ("-q", "-v")])
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
        return _sweep(composer, arguments.overrides, quiet)
    composition = composer.compose(arguments.overrides)
    _check([composition])
    if composition.settings["resume"] == "auto" and (folder := _used_folder(composition)):
        from trainrun.cli.resume import same_line

        return same_line(folder, composition.overrides, quiet, [*ranks.command(), *words])
    result = train_one(composition, [*ranks.command(), *words], quiet, verbose)
    farewell(result, composition.settings["budget"], quiet)
    return result.exit_code


def train(words: Sequence[str]) -> Result:
    """`trainrun.train([...])`: the same from Python. Raises what the command would print."""
    ranks.join()
    with ranks.hush():
        composition = Composer().checked(words)
        return train_one(composition, [*ranks.command(), *words], quiet=False, verbose=False)


def train_one(
    composition: Composition, command: list[str], quiet: bool, verbose: bool, run_dir: Path | None = None
) -> Result:
    """Build everything, which finds the last mistakes, then claim a folder and train."""
    from trainrun.cli.lineage import Process
    from trainrun.cli.session import start
    from trainrun.cli.stored import weights_from
    from trainrun.config.build import build

    for note in composition.notes:
        print(note, file=sys.stderr)
    source = composition.settings["init_from"]
    parts = build(composition.settings, weights=weights_from(source) if source else None)
    if verbose:
        from trainrun.cli.coverage import coverage
        from trainrun.cli.layers import table

        print("\n".join([*table(parts), "", coverage(parts)]), file=sys.stderr)
    if run_dir is None:
        say_what_name_means(composition.settings["name"], composition.settings["run_dir"])
    return start(composition, parts, Process(command, quiet), run_dir)


def _refuse_other_forms(words: list[str]) -> None:
    """Raises ConfigError for `--lr 0.1` and the like, with every other problem of what was meant."""
    meant = as_overrides(words, flags())
    if meant == words:
        return
    problems: list[Problem] = []
    try:
        arguments = parse_arguments(experiment_files(meant))
        composer = Composer(arguments.config_dir)
        compose = composer.compose_sweep if arguments.multirun else lambda texts: [composer.compose(texts)]
        _check(compose(arguments.overrides))
    except ConfigError as error:
        problems = error.problems
    line = corrected_line(meant, problems) if problems else shlex.join(["trainrun", *meant])
    raise ConfigError([other_form(words, meant, line), *problems])


def _used_folder(composition: Composition) -> Path | None:
    """`run_dir` where it holds a run already; one without a config is unused."""
    folder = Path(composition.settings["run_dir"]).expanduser()
    return folder if ranks.from_first((folder / "config.yaml").is_file()) else None


def _check(compositions: list[Composition]) -> None:
    """Raises ConfigError with the problems of all jobs, each once."""
    if problems := together([problems_of(one) for one in compositions]):
        raise ConfigError(problems)


def _sweep(composer: Composer, overrides: list[str], quiet: bool) -> int:
    """Check every job before the first starts, run them, and tell what became of each."""
    jobs = composer.compose_sweep(overrides)
    _check(jobs)
    run_dir = jobs[0].settings["run_dir"]
    if run_dir and Path(run_dir).exists() and any(Path(run_dir).iterdir()):
        raise FolderBusy(f"run_dir: {run_dir} is not empty; name another folder for the sweep")
    done: list[Job] = []

    def job(composition: Composition, folder: Path) -> None:
        if any(one.status.get("state") == "interrupted" for one in done):
            return  # the signal was meant for the sweep
        done.append(Job(composition.overrides, folder))
        print(f"\njob {len(done)}: {shlex.join(composition.overrides)}", file=sys.stderr, flush=True)
        _run_job(composition, folder, quiet)

    composer.sweep(overrides, job, run_dir)
    lines, code = summary(done)
    print("", *lines, sep="\n", file=sys.stderr)
    return code


def _run_job(composition: Composition, folder: Path, quiet: bool) -> None:
    """One job in a process of its own; what kills it before it can say so is written into its status."""
    command = ["trainrun", *composition.overrides]
    code = in_child(lambda: train_one(composition, command, quiet, False, folder).exit_code, command[1:])
    if code and read_json(folder / "status.json").get("state") in (None, "running"):
        from trainrun.run.record import write_status

        reason = f"killed by signal {-code}" if code < 0 else "failed before training"
        write_status(folder, state="failed", exit_code=128 - code if code < 0 else code, reason=reason)
