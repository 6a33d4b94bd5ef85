"""Which run a name means, said in a line where it could have meant another."""

from __future__ import annotations

from pathlib import Path

from trainrun.run.directory import ROOT, look_up, runs
from trainrun.terminal.lines import say


def find_run(run: str) -> Path:
    """The folder that RUN means; of several runs with that name the newest, and that is said."""
    path, others = look_up(run)
    if others:
        say(f"{run}: {path}, the newest of {others + 1} runs with that name")
    return path


def say_what_name_means(name: str | None, run_dir: str | None) -> None:
    """Before a run starts: its name may be taken, or find nothing where the run lies elsewhere."""
    if name and run_dir and ROOT.resolve() not in Path(run_dir).expanduser().resolve().parents:
        text = f"finds runs below {ROOT} alone; this one is found by its path, {run_dir}"
        say(f"name: {name} {text}")
        return
    older = [path for path, known in runs().items() if known == name] if name else []
    if older:
        say(f"name: {name} is also the name of {older[-1]}; from now on it means this run")
