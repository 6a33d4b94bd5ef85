"""A sweep's words as fixed overrides and axes; each of its jobs composed, and handed to a launcher."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from trainrun.config import overrides as settle
from trainrun.config.compose.composition import Composition, composition
from trainrun.config.compose.grammar import readable
from trainrun.config.compose.loader import Loader
from trainrun.config.space import Axis, Choices, SearchInterval, Words, corners, grid, paired, zipped
from trainrun.config.suggest import hydra_value
from trainrun.vocabulary.errors import ConfigError, Problem

Task = Callable[[Composition, Path], Any]

BASIC = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"  # every combination


@dataclass(frozen=True)
class Space:
    """A sweep as its words tell it: what is fixed and what varies, and its two plugins' settings."""

    fixed: Words
    axes: tuple[Axis, ...]
    sweeper: Mapping[str, Any]
    launcher: Mapping[str, Any]
    loader: Loader = field(repr=False)
    _cfg: DictConfig = field(repr=False)

    @property
    def is_grid(self) -> bool:
        """Whether every combination is meant."""
        return self.sweeper.get("_target_") == BASIC

    @property
    def samples(self) -> list[Words]:
        """Every point of a grid; where points are searched, each value at least once."""
        lists = [axis for axis in self.axes if isinstance(axis, Choices)]
        return grid(lists) if self.is_grid and len(lists) == len(self.axes) else list(corners(self.axes))

    def job(self, words: Words) -> Composition:
        """The run of one point."""
        cfg = self.loader.load_sweep_config(self._cfg, [*self.fixed, *words])
        return composition(cfg, self.loader.notes)

    def launch(self, jobs: Mapping[str, Words], task: Task, folder: Path, changes: Mapping[str, Any]) -> None:
        """Have Hydra's launcher call `task` with each job's run and folder, `folder`/KEY.

        `changes` are merged into the launcher's settings.
        """
        cfg = self._cfg.copy()
        placed = [f"hydra.sweep.dir={hydra_value(str(folder))}", "hydra.output_subdir=null"]
        with read_write(cfg), open_dict(cfg):
            cfg.hydra.overrides.hydra.extend(placed)
            cfg.hydra.sweep.dir = str(folder)
            cfg.hydra.launcher.merge_with(changes)
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=self.loader, callbacks=Callbacks(cfg)),
            task_function=_Called(task),
            config=cfg,
        )
        overrides = [[*self.fixed, *words, f"hydra.sweep.subdir='{key}'"] for key, words in jobs.items()]
        ended = launcher.launch(overrides, initial_job_idx=0)
        for error in (one._return_value for one in ended):  # of Hydra's making: the task has none
            if isinstance(error, Exception):
                raise error


def space_of(cfg: DictConfig, loader: Loader) -> Space:
    """The axes of a composed sweep: those of its files (`hydra.sweeper.params`), then the shell's."""
    sweeper, launcher = _plain(cfg.hydra.sweeper), _plain(cfg.hydra.launcher)
    params = sweeper.get("params") or {}
    texts = [*(f"{key}={value}" for key, value in params.items()), *settle.words_of(cfg)]
    texts = [readable(text) for text in texts]
    last = {one.get_key_element(): one for one in OverridesParser.create(loader).parse_overrides(texts)}
    fixed = [
        f"{key}={one.get_value_element_as_str()}" for key, one in last.items() if not one.is_sweep_override()
    ]
    axes: list[Axis] = [_axis(word, one) for word, one in last.items() if one.is_sweep_override()]
    if swept := [axis.key for axis in axes if axis.key.split(".")[0] in _UNSWEPT]:
        raise ConfigError([Problem(key, "cannot be swept") for key in swept])
    axes = zipped(axes, paired(_plain(cfg.sweep).get("zip")))
    return Space(tuple(fixed), tuple(axes), sweeper, launcher, loader, cfg)


_UNSWEPT = ("sweep", "hydra", "run_dir", "resume", "name")  # of the sweep as a whole


def _axis(word: str, one: Override) -> Axis:
    """`word` is the key as it was written: `++optimizer.lr`."""
    key = settle.key_of(word)
    if one.is_discrete_sweep():
        return Choices(key, tuple((f"{word}={value}",) for value in one.sweep_string_iterator()))
    value = one.value()
    assert isinstance(value, IntervalSweep) and value.start is not None and value.end is not None
    is_log, is_int = "log" in value.tags, isinstance(value.start, int) and isinstance(value.end, int)
    if value.start >= value.end or (is_log and value.start <= 0):
        wants = "a low end above 0" if is_log and value.start <= 0 else "a low end below its high one"
        raise ConfigError.one(key, f"an interval has {wants}, got {value.start} to {value.end}")
    return SearchInterval(key, value.start, value.end, is_log, is_int)


def _plain(node: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(node, resolve=False)
    return {str(key): value for key, value in plain.items()} if isinstance(plain, dict) else {}


class _Called:
    """What Hydra calls for each job, in this process or a launcher's."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.here = os.getcwd()

    def __call__(self, cfg: DictConfig) -> Any:
        os.chdir(self.here)  # a launcher's process may have begun elsewhere
        hydra = HydraConfig.get()  # run_job takes it out of cfg
        whole = OmegaConf.create({**dict(cfg), "hydra": hydra})
        folder, here = Path(hydra.runtime.output_dir), Path(self.here)
        is_below = here in folder.parents
        return self.task(composition(whole, []), folder.relative_to(here) if is_below else folder)
