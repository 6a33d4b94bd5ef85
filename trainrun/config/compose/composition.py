"""One composed run: its settings as plain containers, the overrides and options that made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from trainrun.config.compose.experiments import EXPERIMENTS
from trainrun.config.compose.precedence import words_of
from trainrun.config.paths import CONF, groups
from trainrun.config.plain import COMPILE, PlainRun
from trainrun.config.stored import storable, with_format


@dataclass(frozen=True)
class Composition(PlainRun):
    """One run as Hydra composed it, and what it keeps of that."""

    notes: tuple[str, ...]  # what was left out, and why
    _cfg: DictConfig = field(repr=False)

    @property
    def files(self) -> list[Path]:
        """The user's own YAML files that the settings come from."""
        options = groups()
        options["experiment"] = options.get("experiment", {}) | EXPERIMENTS
        chosen = [options.get(group, {}).get(str(option)) for group, option in self.choices.items()]
        return [file for file in chosen if file and CONF not in file.parents]

    @cached_property
    def storable(self) -> dict[str, Any]:
        """The settings with references to the environment and to run_dir kept."""
        settings = storable(without_hydra(self._cfg))
        settings.pop("sweep", None)  # belongs to the sweep as a whole
        return settings

    @cached_property
    def record(self) -> dict[str, str]:
        """Hydra's own files: name -> YAML."""
        hydra = OmegaConf.to_container(self._cfg.hydra, resolve=False)
        return {
            "overrides.yaml": OmegaConf.to_yaml(self._cfg.hydra.overrides.task),
            "config.yaml": OmegaConf.to_yaml(without_hydra(self._cfg)),
            "hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})),
        }


def composition(cfg: DictConfig, notes: Sequence[str]) -> Composition:
    """The run that Hydra composed; `notes` say what was left out."""
    node = cfg.get("runtime")
    if OmegaConf.is_dict(node) and "compile" in node and not OmegaConf.is_interpolation(node, "compile"):
        node.compile = COMPILE[node.compile] if isinstance(node.compile, bool) else node.compile
    own, choices = without_hydra(cfg), dict(cfg.hydra.runtime.choices)
    return Composition(plain(own, resolve=True), tuple(words_of(cfg)), choices, plain(own), tuple(notes), cfg)


def without_hydra(cfg: DictConfig) -> DictConfig:
    """A copy without Hydra's part."""
    copy = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    OmegaConf.set_struct(copy, False)
    return copy


def plain(node: Any, resolve: bool = False) -> dict[str, Any]:
    """A node as plain containers; empty where it is no mapping."""
    tree = OmegaConf.to_container(node, resolve=resolve)
    return {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else {}


def to_yaml(settings: dict[str, Any]) -> str:
    """The text of a run's config.yaml."""
    return with_format(OmegaConf.to_yaml(OmegaConf.create(settings)))
