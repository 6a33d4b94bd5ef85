"""Find a run by path, prefix, name or `last`; say so where the name could mean several."""

from __future__ import annotations

from pathlib import Path

from trainrun import ranks
from trainrun.ranks.launcher import recall_folder, remember_folder
from trainrun.run.directory import ROOT, look_up, runs
from trainrun.terminal.lines import say


def find_run(run: str) -> Path:
    """The folder that RUN means; of several runs with that name the newest, with a note."""
    path, others = look_up(run)
    if others:
        say(f"{run}: {path}, the newest of {others + 1} runs with that name")
    return path


def recalled_folder() -> str:
    """The folder of the run that the launcher starts again, on all ranks; empty where it is a new one."""
    return ranks.broadcast_object(recall_folder() if ranks.is_main_process() else "")


def find_run_of_ranks(run: str) -> Path:
    """The folder that RUN means to the first rank, also when the launcher starts it again."""
    run_dir = recalled_folder() or ranks.broadcast_object(str(find_run(run)))
    if ranks.is_main_process():
        remember_folder(run_dir)
    return Path(run_dir)


def say_what_name_means(name: str | None, run_dir: str | None) -> None:
    """Note before a run starts that its name is taken, or will not find it in another folder."""
    if name and run_dir and ROOT.resolve() not in Path(run_dir).expanduser().resolve().parents:
        say(f"name: {name} finds runs below {ROOT} alone; this one is found by its path, {run_dir}")
        return
    older = [path for path, other in runs().items() if other == name] if name else []
    if older:
        say(f"name: {name} is also the name of {older[-1]}; from now on it means this run")
