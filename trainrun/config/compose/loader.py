"""Hydra's loader, in which a callable's signature, not a file, says which keys there are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from trainrun.config import auto
from trainrun.config import overrides as settle
from trainrun.config.compose.experiments import EXPERIMENTS
from trainrun.config.compose.grammar import readable, value_of
from trainrun.config.hydra_keys import foreign
from trainrun.config.limits import Unreadable, check_references
from trainrun.config.paths import COMBINES, CONF, groups, roots
from trainrun.config.yaml_file import mark_missing, settings_of
from trainrun.vocabulary.errors import ConfigError, Problem

NAME = "trainrun"


class Loader(ConfigLoaderImpl):
    """Hydra's loader, in which a callable's signature, not a file, says which keys there are.

    So every KEY=VALUE reaches `check`, as if written with `++`. Then the shell's choice of an option
    wins whole (see `settle`).
    """

    def __init__(self, path: Any, own: Sequence[Path]) -> None:
        super().__init__(path)
        self.repository: _Bounded = _Bounded(path, roots()[:-1] + list(own))
        self.notes: list[str] = []
        self._files = groups(own)  # Hydra's own listing takes longer than composing
        self._is_plain = not own and roots() == [CONF]

    @property
    def groups(self) -> dict[str, list[str]]:
        """Every group with its options."""
        named = {name: list(options) for name, options in self._files.items()}
        return named | {"experiment": [*named.get("experiment", []), *EXPERIMENTS]}

    @property
    def files(self) -> list[Path]:
        """The user's own files that were read."""
        return [*self.repository.read, *EXPERIMENTS.values()]

    def load_configuration(
        self, config_name: str | None, overrides: list[str], *args: Any, **kw: Any
    ) -> DictConfig:
        followed: list[str] = []

        def load(words: list[str]) -> DictConfig:
            given = {self._forced(readable(word)): word for word in words}
            chosen = {settle.key_of(word) for word in words}
            more = [self._forced(word) for word in followed if settle.key_of(word) not in chosen]
            cfg = super(Loader, self).load_configuration(config_name, [*more, *given], *args, **kw)
            with read_write(cfg), open_dict(cfg):
                cfg.hydra.overrides.task = [given[word] for word in settle.words_of(cfg) if word not in more]
            settle.mappings(cfg, words, value_of)
            return cfg

        cfg = load(overrides)
        if config_name == NAME and (followed := auto.followed(cfg)):
            cfg = load([word for word in overrides if word not in ("task=auto", "loss=auto")])
        try:
            check_references(_tree(cfg))
        except Unreadable as error:
            raise ConfigError.one("config", str(error)) from None
        if config_name == NAME and (problems := self._foreign(cfg)):
            raise ConfigError(problems)
        self.notes = settle.resolve_overrides(
            cfg, load, self._experiment(cfg.hydra.runtime.choices.get("experiment"))
        )
        return cfg

    def _foreign(self, cfg: DictConfig) -> list[Problem]:
        """What the user's files say of Hydra itself."""
        words = [str(word) for word in cfg.hydra.overrides.hydra]
        if not words and not EXPERIMENTS and self._is_plain:
            return []
        return foreign(_tree(cfg.hydra), _tree(_hydras_own()), words)

    def _experiment(self, name: str | None) -> dict[str, Any]:
        """What the file of an experiment holds itself."""
        found = self.repository.load_config(f"experiment/{name}") if name else None
        return _tree(found.config) if found else {}

    def _forced(self, word: str) -> str:
        key, is_value, _ = word.lstrip("+").partition("=")
        elsewhere = key.startswith(("~", "hydra")) or "@" in key or "/" in key or key in self.groups
        return word if elsewhere or not is_value else "++" + word.lstrip("+")


class _Bounded(ConfigRepository):
    """Hydra's files, of which the user's are looked at before they are read."""

    def __init__(self, path: Any, own: Sequence[Path]) -> None:
        super().__init__(path)
        self._own = own
        self.read: dict[Path, None] = {}  # of the user's files those that were chosen

    def load_config(self, config_path: str) -> ConfigResult | None:
        name = config_path.removesuffix(".yaml")
        own = next(
            (file for file in (folder / f"{name}.yaml" for folder in self._own) if file.exists()), None
        )
        if own:
            self.read[own] = None
            settings = settings_of(own)
            if name == NAME and "defaults" not in settings:
                text = "stands in place of the built-in one, and chooses no option for any group"
                better = "copy that one, or put these settings into an experiment's file: trainrun FILE.yaml"
                raise ConfigError.one(str(own.relative_to(Path.cwd())), f"{text}; {better}")
        result = super().load_config(config_path)
        if own and result and isinstance(result.config, DictConfig):
            mark_missing(result.config)
        group, _, option = name.rpartition("/")
        # A call in a group of several needs no header to say that it is one of them.
        if result and group in COMBINES and not result.header["package"] and "_target_" in result.config:
            result.header["package"] = f"{group}.{option}"
        return result


@cache
def _hydras_own() -> DictConfig:
    """Hydra's part of the config where no file but the built-in ones is asked."""
    loader = ConfigLoaderImpl(create_config_search_path(str(CONF)))
    cfg: DictConfig = loader.load_configuration(NAME, [], RunMode.RUN).hydra
    return cfg


def _tree(cfg: Any) -> dict[str, Any]:
    """Unresolved, as plain containers; empty where it is no mapping."""
    tree = OmegaConf.to_container(cfg, resolve=False)
    return {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else {}
