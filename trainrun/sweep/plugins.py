"""Hydra's sweeper and launcher: the strategy that chooses points, and how jobs share cores and GPUs."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from trainrun.config.call import call
from trainrun.config.check import check_sweeper
from trainrun.config.compose.composer import Space
from trainrun.config.injection import SLOTS
from trainrun.config.space import Choices, Point, SearchInterval, grid, split_replicates
from trainrun.config.task_facts import metric_modes
from trainrun.session.child import in_child
from trainrun.sweep.strategy import Strategy
from trainrun.vocabulary.errors import ConfigError

_AT_ONCE = (".JoblibLauncher", ".LocalLauncher")  # whose jobs run on this machine, several at once
_SLURM = ".SlurmLauncher"
_TIMEOUTS = 100  # restarts of a job that ran out of its time: as many as a month of hours needs
_ELSEWHERE = 8  # trials asked for together where another scheduler runs them: more queue, fewer learn
SWEEPERS = ("basic", "random", "optuna", "halving")


@dataclass(frozen=True)
class Search:
    """What a search is by, and how its jobs run."""

    name: str  # of the sweeper
    monitor: str
    maximize: bool
    pruner: Mapping[str, Any] | None  # the settings of one that may stop trials while they train
    launcher: Mapping[str, Any]  # what is changed in its settings
    in_turn: bool
    is_local: bool
    threads: int | None  # of each rank where several jobs run at once on this machine
    gpus: Sequence[str]  # for each job that runs at once, as CUDA_VISIBLE_DEVICES names one for each rank
    chunk: int | None  # jobs that a launcher gets at a time; None: all of a batch


def search_of(space: Space, settings: Mapping[str, Any], folder: Path) -> tuple[Search, Strategy]:
    """The search that the words ask for, with its study in `folder`; `settings` are its first job's."""
    name, launcher = _name(space), str(space.launcher.get("_target_"))
    in_turn, is_many = launcher.endswith(".BasicLauncher"), launcher.endswith(_AT_ONCE)
    at_once, threads, gpus = 1, None, list[str]()
    changes: dict[str, Any] = {}
    ranks = settings["sweep"]["ranks"]
    for key in ("tasks_per_node", "nodes"):
        if int(space.launcher.get(key) or 1) > 1:
            text = (
                f"a job starts its ranks itself, on one machine; set {key}=1, gpus_per_node and sweep.ranks"
            )
            raise ConfigError.of(f"hydra.launcher.{key}", text)
    if is_many:
        n_jobs = int(space.launcher.get("n_jobs", -1))
        at_once, threads, gpus = _shares(n_jobs, settings["runtime"]["device"], ranks)
        changes = {"n_jobs": at_once} if "n_jobs" in space.launcher else {}
    elif launcher.endswith(_SLURM):
        changes = {"max_num_timeout": space.launcher.get("max_num_timeout") or _TIMEOUTS}
    elif launcher.endswith(".RayLauncher"):
        changes = {"ray": {"init": _quiet(space.launcher["ray"].get("init") or {})}}
    monitor, mode = "val/" + settings["monitor"].removeprefix("val/"), settings["monitor_mode"]
    maximize = mode == "max" or (mode == "auto" and metric_modes().get(monitor[4:]) == "max")
    is_local = in_turn or is_many
    if name == "basic":
        count = len(grid([axis for axis in space.axes if isinstance(axis, Choices)])) - len(space.samples)
        strategy = Strategy(map(Point, space.samples), f"every combination{space.excludes.note(count)}")
    else:
        offered = {"axes": space.axes, "excludes": space.excludes, "maximize": maximize, "folder": folder}
        offered |= {"trials": settings["sweep"]["trials"], "at_once": at_once if is_local else _ELSEWHERE}
        strategy = call(space.sweeper, "hydra.sweeper", SLOTS["hydra.sweeper"], offered)
    pruner = None
    if strategy.prunes:
        pruner = {key: space.sweeper[key] for key in ("pruner", "startup_trials", "warmup")}
    chunk = at_once if launcher.endswith(".LocalLauncher") else 1 if in_turn else None
    search = Search(name, monitor, maximize, pruner, changes, in_turn, is_local, threads, gpus, chunk)
    return search, strategy


def _quiet(given: Mapping[str, Any]) -> dict[str, Any]:
    """Ray's settings as `given`, but it prints errors alone, and every line of every job unchanged."""
    # Jobs' last lines differ only in numbers: it would merge them.
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_COLOR_PREFIX", "0")
    is_cluster = given.get("address") is not None  # which refuses the launcher's own default of memory
    init = {"object_store_memory": None} if is_cluster else {"include_dashboard": False}
    return {"logging_level": logging.ERROR, **init, **given}


def _name(space: Space) -> str:
    if space.is_grid:
        return "basic"
    home, _, name = str(space.sweeper.get("_target_")).rpartition(".")
    if not home.startswith("trainrun.sweep."):
        raise ConfigError.of("hydra/sweeper", f"{name} is not supported; choose one of {', '.join(SWEEPERS)}")
    return home.rpartition(".")[2]


def check_search(space: Space, trials: int | None) -> None:
    """Raise ConfigError for a search or launcher that lacks trials, what it could search, or a library."""
    name = _name(space)
    intervals = [axis.key for axis in space.axes if isinstance(axis, SearchInterval)]
    if name == "basic":
        _check_grid(intervals, trials)
    else:
        if trials is None and (name != "halving" or intervals):
            text = f"hydra/sweeper={name} needs the number of points to try; sweep.trials=20"
            raise ConfigError.of("sweep.trials", text)
        if not split_replicates(space.axes)[0]:
            raise ConfigError.of("hydra/sweeper", f"{name} has nothing to search; give a key several values")
        if problems := check_sweeper(space.sweeper):
            raise ConfigError(problems)
    if name == "optuna" and find_spec("optuna") is None:
        raise ConfigError.of("hydra/sweeper", "optuna is not installed: pip install 'trainrun[sweep]'")
    if str(space.launcher.get("_target_")).endswith(_SLURM) and shutil.which("srun") is None:
        text = "submitit_slurm needs a machine of a Slurm cluster; there is no srun here"
        raise ConfigError.of("hydra/launcher", text, "hydra/launcher=submitit_local")


def _check_grid(intervals: Sequence[str], trials: int | None) -> None:
    if intervals:
        text = "is an interval, whose points have no end; add hydra/sweeper=random or optuna, or list values"
        raise ConfigError.of(intervals[0], text)
    if trials is not None:
        text = "is the number of points of a search; a grid takes every combination"
        raise ConfigError.of("sweep.trials", f"{text}; add hydra/sweeper=random, optuna or halving")


def _shares(n_jobs: int, device: str, ranks: int) -> tuple[int, int | None, list[str]]:
    """(jobs at once, threads of a rank or None, each job's GPUs): a GPU for each rank, else a core."""
    from trainrun.runtime.machine import cores

    visible = visible_gpus() if device in ("auto", "cuda") else []
    if visible and len(visible) < ranks:
        text = f"{ranks} ranks of a job need a GPU each, there are {len(visible)}"
        raise ConfigError.of("sweep.ranks", text, f"sweep.ranks={len(visible)}")
    groups = [",".join(visible[i * ranks :][:ranks]) for i in range(len(visible) // ranks)]
    at_once = n_jobs if n_jobs > 0 else len(groups) or max(1, cores() // ranks)
    gpus = [groups[number % len(groups)] for number in range(at_once)] if groups else []
    return at_once, max(1, cores() // (at_once * ranks)) if at_once > 1 else None, gpus


def visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them, counted in a fork: this process must not ask CUDA."""
    import torch

    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.version.cuda or names == "":
        return []
    if names is not None and names.startswith("MIG-"):  # parts of GPUs: a process sees only the first
        return names.split(",")
    count = in_child(_count, [])
    return list(map(str, range(count))) if names is None else names.split(",")[:count]


def _count() -> int:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no driver
            return torch.cuda.device_count()
    except Exception:  # a broken driver's; a run that needs the GPU reports it
        return 0
