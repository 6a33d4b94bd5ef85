"""A sweep's overrides as fixed ones and axes; compose its jobs and hand them to Hydra's launcher."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from trainrun.config.compose.composition import Composition, composition, plain
from trainrun.config.compose.grammar import readable
from trainrun.config.compose.loader import Loader
from trainrun.config.compose.precedence import words_of
from trainrun.config.overrides import key_of
from trainrun.config.space import Axis, Choices, SearchInterval, Words, corners, grid, paired, zipped
from trainrun.config.suggest import hydra_value
from trainrun.vocabulary.errors import ConfigError, Problem

if TYPE_CHECKING:
    from trainrun.config.compose.exclusion import Exclusion

Task = Callable[[Composition, Path], Any]

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"  # every combination


@dataclass(frozen=True)
class Space:
    """What a sweep fixes and what it varies, and the settings of its sweeper and launcher."""

    fixed: Words
    axes: tuple[Axis, ...]
    sweeper: Mapping[str, Any]
    launcher: Mapping[str, Any]
    excludes: Exclusion
    loader: Loader = field(repr=False)
    _cfg: DictConfig = field(repr=False)

    @property
    def is_grid(self) -> bool:
        """Whether every combination is run."""
        return self.sweeper.get("_target_") == BASIC

    @property
    def samples(self) -> list[Words]:
        """Every point of a grid; where points are searched, each value at least once. None is excluded."""
        lists = [axis for axis in self.axes if isinstance(axis, Choices)]
        points = grid(lists) if self.is_grid and len(lists) == len(self.axes) else corners(self.axes)
        return [words for words in points if not self.excludes(words)]

    def job(self, words: Words) -> Composition:
        """The run of one point."""
        cfg = self.loader.load_sweep_config(self._cfg, [*self.fixed, *words])
        return composition(cfg, self.loader.notes)

    def launch(self, jobs: Mapping[str, Words], task: Task, folder: Path, changes: Mapping[str, Any]) -> None:
        """Have Hydra's launcher call `task` with each job's run and folder, `folder`/KEY.

        `changes` are merged into the launcher's settings.
        """
        cfg = self._cfg.copy()
        with read_write(cfg), open_dict(cfg):
            where = f"hydra.sweep.dir={hydra_value(str(folder))}"
            cfg.hydra.overrides.hydra.extend([where, "hydra.output_subdir=null"])
            cfg.hydra.sweep.dir = str(folder)
            cfg.hydra.launcher.merge_with(changes)
        context = HydraContext(config_loader=self.loader, callbacks=Callbacks(cfg))
        launcher = Plugins.instance().instantiate_launcher(context, partial(_run_job, task, Path.cwd()), cfg)
        overrides = [[*self.fixed, *words, f"hydra.sweep.subdir='{key}'"] for key, words in jobs.items()]
        for ended in launcher.launch(overrides, initial_job_idx=0):
            if isinstance(ended._return_value, Exception):  # Hydra's own: the task catches its errors
                raise ended._return_value


def space_of(cfg: DictConfig, loader: Loader) -> Space:
    """The axes of a composed sweep: those of its files (`hydra.sweeper.params`), then the shell's."""
    sweeper, launcher = plain(cfg.hydra.sweeper), plain(cfg.hydra.launcher)
    params = sweeper.get("params") or {}
    words = [*(f"{key}={value}" for key, value in params.items()), *words_of(cfg)]
    overrides = OverridesParser.create(loader).parse_overrides(list(map(readable, words)))
    last = {override.get_key_element(): override for override in overrides}
    fixed, axes = list[str](), list[Axis]()
    for head, override in last.items():
        if override.is_sweep_override():
            axes.append(_axis(head, override))
        else:
            fixed.append(f"{head}={override.get_value_element_as_str()}")
    if swept := [axis.key for axis in axes if axis.key.split(".")[0] in _UNSWEPT]:
        raise ConfigError([Problem(key, "cannot be swept") for key in swept])
    axes = zipped(axes, paired(plain(cfg.sweep).get("zip")))
    from trainrun.config.compose.exclusion import exclusion  # of a sweep alone

    excludes = exclusion(plain(cfg.sweep).get("exclude"), axes, sweeper.get("_target_") == BASIC)
    return Space(tuple(fixed), tuple(axes), sweeper, launcher, excludes, loader, cfg)


_UNSWEPT = ("sweep", "hydra", "run_dir", "resume", "name")  # belong to the sweep as a whole


def _axis(head: str, override: Override) -> Axis:
    """The axis of a swept override; `head` is the key as it was written: `++optimizer.lr`."""
    key = key_of(head)
    if override.is_discrete_sweep():
        return Choices(key, tuple((f"{head}={value}",) for value in override.sweep_string_iterator()))
    value = override.value()
    assert isinstance(value, IntervalSweep) and value.start is not None and value.end is not None
    is_log, is_int = "log" in value.tags, isinstance(value.start, int) and isinstance(value.end, int)
    if value.start >= value.end or (is_log and value.start <= 0):
        rule = "start above 0 on a log scale" if is_log and value.start <= 0 else "start below its end"
        raise ConfigError.of(key, f"an interval must {rule}, got {value.start} to {value.end}")
    return SearchInterval(key, value.start, value.end, is_log, is_int)


def _run_job(task: Task, here: Path, cfg: DictConfig) -> Any:
    """What Hydra calls for each job, in this process or a launcher's."""
    os.chdir(here)  # a launcher's process may have begun elsewhere
    hydra = HydraConfig.get()  # run_job takes it out of cfg
    whole = OmegaConf.create({**dict(cfg), "hydra": hydra})
    folder = Path(hydra.runtime.output_dir)
    return task(composition(whole, []), folder.relative_to(here) if here in folder.parents else folder)
