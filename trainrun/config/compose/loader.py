"""Hydra's config loader, changed so that a callable's signature says which keys exist."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict, read_write

from trainrun.config import auto
from trainrun.config.compose.composition import plain
from trainrun.config.compose.experiments import EXPERIMENTS
from trainrun.config.compose.grammar import readable, value_of
from trainrun.config.compose.precedence import leave_out_replaced, replace_mappings, words_of
from trainrun.config.limits import UnreadableError, check_references
from trainrun.config.overrides import Override, key_of
from trainrun.config.paths import COMBINES, CONF, groups, roots
from trainrun.config.tree import leaves
from trainrun.config.yaml_file import mark_missing, settings_of
from trainrun.vocabulary.errors import ConfigError, Problem

NAME = "trainrun"
_HOMES = ("hydra._internal.core_plugins.", "hydra_plugins.", "trainrun.sweep.")
_OURS = ("runtime", "overrides", "job.override_dirname", "job.num", "job.id")  # kept by Hydra and by us


class Loader(ConfigLoaderImpl):
    """Hydra's loader, which passes every KEY=VALUE on to `check`, as if written with `++`.

    Then the shell's choice of an option wins whole (see `precedence`).
    """

    def __init__(self, path: Any, folders: Sequence[Path]) -> None:
        super().__init__(path)
        self.repository: _Bounded = _Bounded(path, roots()[:-1] + list(folders))
        self.notes: list[str] = []
        # Hydra's own listing takes longer than composing.
        self._options = {name: list(files) for name, files in groups(folders).items()}
        self._is_plain = not folders and roots() == [CONF]

    @property
    def groups(self) -> dict[str, list[str]]:
        """Every group with its options."""
        return self._options | {"experiment": [*self._options.get("experiment", []), *EXPERIMENTS]}

    @property
    def files(self) -> list[Path]:
        """The user's own files that were read."""
        return [*self.repository.read, *EXPERIMENTS.values()]

    def load_configuration(
        self, config_name: str | None, overrides: list[str], *args: Any, **kw: Any
    ) -> DictConfig:
        followed: list[str] = []

        def load(words: list[str]) -> DictConfig:
            typed = {self._forced(readable(word)): word for word in words}
            chosen = set(map(key_of, words))
            more = [self._forced(word) for word in followed if key_of(word) not in chosen]
            cfg = super(Loader, self).load_configuration(config_name, [*more, *typed], *args, **kw)
            with read_write(cfg), open_dict(cfg):
                cfg.hydra.overrides.task = [typed[word] for word in words_of(cfg) if word not in more]
            replace_mappings(cfg, words, value_of)
            return cfg

        cfg = load(overrides)
        if config_name == NAME and (followed := auto.followed(cfg)):
            cfg = load([word for word in overrides if word not in ("task=auto", "loss=auto")])
        try:
            check_references(plain(cfg))
        except UnreadableError as error:
            raise ConfigError.of("config", str(error)) from None
        words = [str(word) for word in cfg.hydra.overrides.hydra]
        has_users = config_name == NAME and (words or EXPERIMENTS or not self._is_plain)
        if has_users and (problems := foreign(plain(cfg.hydra), _builtin_hydra(), words)):
            raise ConfigError(problems)
        experiment = cfg.hydra.runtime.choices.get("experiment")
        result = self.repository.load_config(f"experiment/{experiment}") if experiment else None
        self.notes = leave_out_replaced(cfg, load, plain(result.config) if result else {})
        return cfg

    def _forced(self, word: str) -> str:
        """A setting of ours written with `++`, so that Hydra takes it whether or not a file has it."""
        override, head = Override.parse(word), word.partition("=")[0]
        is_setting = override.value is not None and override.prefix != "~" and override.key not in self.groups
        is_ours = not override.key.startswith("hydra") and "@" not in head and "/" not in head
        return "++" + word.lstrip("+") if is_setting and is_ours else word


class _Bounded(ConfigRepository):
    """Hydra's config files; those of the user are checked before they are read."""

    def __init__(self, path: Any, folders: Sequence[Path]) -> None:
        super().__init__(path)
        self._folders = folders  # the user's
        self.read: dict[Path, None] = {}  # the user's files that were chosen

    def __deepcopy__(self, memo: dict[int, Any]) -> _Bounded:
        """A copy that notes what it reads in the same place: Hydra loads through copies."""
        twin = memo[id(self)] = copy.copy(self)
        memo[id(self.read)] = self.read
        twin.__dict__ |= copy.deepcopy(vars(self), memo)
        return twin

    def load_config(self, config_path: str) -> ConfigResult | None:
        name = config_path.removesuffix(".yaml")
        file = next(filter(Path.exists, (folder / f"{name}.yaml" for folder in self._folders)), None)
        if file:
            self.read[file] = None
            if "defaults" not in settings_of(file) and name == NAME:
                text = "replaces the built-in file, but chooses no option for any group"
                better = "copy that file, or put these settings into an experiment: trainrun FILE.yaml"
                raise ConfigError.of(str(file.relative_to(Path.cwd())), f"{text}; {better}")
        result = super().load_config(config_path)
        if file and result and isinstance(result.config, DictConfig):
            mark_missing(result.config)
        group, _, option = name.rpartition("/")
        # A call in a group that combines options needs no header to say that it is one of them.
        if result and group in COMBINES and not result.header["package"] and "_target_" in result.config:
            result.header["package"] = f"{group}.{option}"
        return result


@cache
def _builtin_hydra() -> dict[str, Any]:
    """Hydra's part of the config as the built-in files alone have it, unresolved."""
    loader = ConfigLoaderImpl(create_config_search_path(str(CONF)))
    return plain(loader.load_configuration(NAME, [], RunMode.RUN).hydra)


def foreign(hydra: Mapping[str, Any], builtin: Mapping[str, Any], words: Collection[str]) -> list[Problem]:
    """Problems of Hydra's part of a config, unresolved: what neither we nor the shell's `words` said.

    Its callbacks, launchers, folders and logging run code and write files, before anything is checked.
    """
    typed = {key_of(word).replace("/", ".").removeprefix("hydra.") for word in words}
    ours, theirs = dict(leaves(builtin)), dict(leaves(hydra))
    problems: dict[str, str] = {}
    for key in sorted(key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)):
        if key.endswith("_target_") and not str(theirs.get(key)).startswith(_HOMES):
            problems[key] = f"{theirs.get(key)} is not part of Hydra"
        elif not _is_below(key, typed) and not _is_below(key, (*_OURS, "sweeper.params")):
            problems[".".join(key.split(".")[:2])] = "is set in a file; only the command line may set it"
        elif key.startswith("sweeper.params.hydra"):
            problems[key] = "cannot be swept"
    return [Problem(f"hydra.{key}", text) for key, text in problems.items()]


def _is_below(key: str, paths: Collection[str]) -> bool:
    return any(f"{key}.".startswith(f"{path}.") for path in paths)
