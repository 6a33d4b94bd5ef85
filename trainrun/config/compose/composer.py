"""Compose settings from command-line overrides with Hydra, and explain what cannot be composed."""

from __future__ import annotations

import io
import logging
import os
import re
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from trainrun.config.check import located, problems_of
from trainrun.config.compose.composition import Composition, composition, to_yaml
from trainrun.config.compose.experiments import experiment_files, store_experiment
from trainrun.config.compose.grammar import as_path, parse_override
from trainrun.config.compose.loader import NAME, Loader
from trainrun.config.compose.sweep import Space, space_of
from trainrun.config.diagnose import ParsedOverride, misread, no_option, sort_out, yaml_problem
from trainrun.config.overrides import key_of
from trainrun.config.paths import COMBINES, CONF, roots
from trainrun.config.suggest import did_you_mean, together
from trainrun.vocabulary.errors import ConfigError, Problem

__all__ = ["Composer", "Composition", "Space", "experiment_files", "store_experiment", "to_yaml"]

_REPLACEABLE = ("scheduler", "logger", "parallel")  # whole options that a stored run may change
_TYPED = ("launcher", "sweeper", "searchpath", "verbose")  # of Hydra's own settings, in the shell
_EXTRAS = {"joblib": "sweep", "submitit_local": "slurm", "submitit_slurm": "slurm", "ray": "ray"}


class Composer:
    """An open Hydra over the built-in `conf/`, the user's own before it."""

    def __init__(self, config_dir: str | None = None) -> None:
        version.setbase("1.3")
        os.environ["HYDRA_FULL_ERROR"] = "1"  # raise; we print
        path = create_config_search_path(str(CONF))
        extra = [Path(config_dir)] if config_dir else []
        users = roots()[:-1] + extra
        for folder in users:
            path.prepend(provider="project", path=f"file://{folder.resolve()}", anchor="main")
        GlobalHydra.instance().clear()
        self.loader = Loader(path, extra)
        unread = (file for folder in users for file in sorted(folder.rglob("*.yml")))
        names = (str(file).removeprefix(f"{Path.cwd()}/") for file in unread)
        self.unread = tuple(f"{name} is not read; an option's file ends in .yaml" for name in names)
        self.hydra = Hydra(task_name=NAME, config_loader=self.loader)
        GlobalHydra.instance().initialize(self.hydra)

    def compose(self, overrides: list[str]) -> Composition:
        """One run. Raises ConfigError with every problem of the overrides."""
        overrides = [as_path(word) for word in overrides]
        self._refuse_misread(overrides, multirun=False)
        with self.explained(overrides):
            cfg = self.hydra.compose_config(NAME, overrides, RunMode.RUN, with_log_configuration=False)
            return composition(cfg, [*self.unread, *self.loader.notes])

    def checked(self, words: Sequence[str]) -> Composition:
        """One run of the words as typed. Raises ConfigError with every problem, of its settings too."""
        job = self.compose(experiment_files(list(words)))
        if problems := problems_of(job):
            raise ConfigError(problems)
        return job

    def compose_stored(self, stored: dict[str, Any], overrides: list[str], run_dir: Path) -> Composition:
        """Stored settings with overrides; what `conf/` holds today cannot leak in."""
        tree = {key: value for key, value in stored.items() if key != "hydra"} | {"run_dir": str(run_dir)}
        words = list(map(parse_override, overrides))
        whole = [word for word in words if word.key in _REPLACEABLE and not word.prefix]
        self._refuse_misread([word.text for word in whole], multirun=False)
        options = {word.key: word.values if word.is_list else (word.values or [])[0] for word in whole}
        overrides = [as_path(word.text) for word in words if word not in whole]
        if problems := [problem for text in overrides for problem in self._unfit(text)]:
            raise ConfigError(problems)
        tree |= {group: {} for group in options}
        defaults = ["_self_", *({group: option} for group, option in options.items())]
        ConfigStore.instance().store(name="_stored", node=OmegaConf.create({"defaults": defaults, **tree}))
        with self.explained(overrides):
            cfg = self.hydra.compose_config("_stored", overrides, RunMode.RUN, with_log_configuration=False)
            return composition(cfg, [])

    def _unfit(self, text: str) -> list[Problem]:
        word = parse_override(text)
        reason = "another option makes a new run; only the values of this one can change"
        is_group = word.key in self.loader.groups
        return [Problem(word.key, reason)] if is_group else _misplaced(word) or misread(word, {}, (), False)

    def space(self, overrides: list[str]) -> Space:
        """What a sweep varies. Raises ConfigError with every problem of the overrides."""
        self._refuse_misread(overrides, multirun=True)
        with self.explained(overrides):
            cfg = self.hydra.compose_config(NAME, overrides, RunMode.MULTIRUN, with_log_configuration=False)
            try:
                return space_of(cfg, self.loader)
            except ConfigError as error:
                words, files = list(map(key_of, overrides)), self.loader.files
                raise ConfigError([located(problem, words, files) for problem in error.problems]) from None

    def compose_sweep(self, overrides: list[str]) -> list[Composition]:
        """The jobs of a sweep that is taken in full, or where one is searched every value at least once."""
        space = self.space(overrides)
        with self.explained(overrides):
            return [space.job(words) for words in space.samples]

    def show(self, what: str, value: str, overrides: list[str], package: str | None, resolve: bool) -> None:
        """Hydra's own --cfg and --info."""
        self._refuse_misread(overrides, multirun=False)
        logging.raiseExceptions = False  # Hydra prints through it, and `| head` closes the pipe
        with self.explained(overrides):
            if what == "cfg":
                self.hydra.show_cfg(NAME, overrides, value, package, resolve)
            else:
                self.hydra.show_info(value, NAME, overrides)

    def complete(self, overrides: list[str]) -> None:
        self.hydra.shell_completion(NAME, overrides)

    def help(self, arguments: Namespace) -> None:
        """Hydra's help about itself."""
        self.hydra.hydra_help(NAME, get_args_parser(), arguments)

    @contextmanager
    def explained(self, overrides: list[str]) -> Iterator[None]:
        """Within, what Hydra refuses of `overrides` is a ConfigError."""
        try:
            yield
        except yaml.YAMLError as error:
            raise ConfigError([yaml_problem(error)]) from None
        except (HydraException, OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
            problem, files = _why_not(error, overrides, self.loader), self.loader.files
            raise ConfigError([located(problem, list(map(key_of, overrides)), files)]) from None

    def _refuse_misread(self, overrides: list[str], multirun: bool) -> None:
        """Raise for words that cannot be read or choose no option, with every problem of the others."""
        words, options = map(parse_override, dict.fromkeys(overrides)), self.loader.groups
        problems, rest, unread = sort_out(
            (word, _misplaced(word) or misread(word, options, COMBINES, multirun)) for word in words
        )
        if not problems:
            return
        rest = experiment_files(rest)
        try:
            jobs = self.compose_sweep(rest) if multirun else [self.compose(rest)]
            others = together([problems_of(job) for job in jobs])
        except ConfigError as error:
            others = error.problems
        raise ConfigError(problems + [other for other in others if other.key not in unread])


def _misplaced(word: ParsedOverride) -> list[Problem]:
    """Problems of a word of the shell that is about Hydra."""
    key = word.key.replace("/", ".")
    if key in ("hydra.run.dir", "hydra.sweep.dir"):
        return [Problem(word.key, "is called run_dir here", f"run_dir={word.value}")]
    if key.startswith("hydra.") and key.split(".")[1] not in _TYPED:
        allowed = ", ".join(f"hydra.{name}" for name in _TYPED)
        return [Problem(word.key, f"cannot be set here; of Hydra's own settings you can set {allowed}")]
    return []


def flags() -> set[str]:
    """Every flag of the command line."""
    return {"-q", "-v", *get_args_parser()._option_string_actions}


def parse_arguments(argv: list[str]) -> Namespace:
    """Hydra's flags and overrides, in any order. Raises ConfigError for an unknown flag."""
    parser, errors = get_args_parser(), io.StringIO()
    try:
        with redirect_stderr(errors):
            parsed: Namespace = parser.parse_intermixed_args(argv)
    except SystemExit:
        text = errors.getvalue().strip().rpartition("error: ")[2]
        raise ConfigError.of("command line", f"{text}; see trainrun --help") from None
    for name in ("config_name", "config_path", "experimental_rerun"):
        if getattr(parsed, name):
            text = "is not supported; put your own options into ./conf, or give --config-dir"
            raise ConfigError.of("command line", f"--{name.replace('_', '-')} {text}")
    if parsed.config_dir and not Path(parsed.config_dir).is_dir():
        raise ConfigError.of("command line", f"--config-dir must be a folder, got {parsed.config_dir}")
    return parsed


def _why_not(error: Exception, overrides: list[str], loader: Loader) -> Problem:
    """Describe what a file, a reference or a `~` asks for in vain."""
    text = str(error.__cause__ or error).strip()
    key = getattr(error, "full_key", None) or getattr(error.__cause__, "full_key", None) or "config"
    experiment = next((word for word in overrides if word.startswith("experiment=")), "")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        if group.startswith("experiment/"):
            return Problem(experiment, f"needs `override /{group[11:]}: {option}` in its defaults")
        if group == "hydra/launcher" and option in _EXTRAS:
            return Problem(group, f"{option} is not installed: pip install 'trainrun[{_EXTRAS[option]}]'")
        text = no_option(group, option, loader.get_group_options(group))
        return Problem(group, f"{text} ({experiment} names it)" if experiment else text)
    if match := re.search(r"Could not override '(.+?)'", text):
        hint = did_you_mean(match[1], loader.groups)
        return Problem(experiment or match[1], f"overrides {match[1]}, which is no group{hint}")
    if match := re.search(r"Could not delete from config\. '(.+?)' does not exist", text):
        return Problem(match[1], "no such setting to leave out")
    if re.search(r"not in (struct|')", text):
        return Problem(key, "no such setting of Hydra")
    if match := re.match(r"In '(.+?)': \w+ raised while composing config:\s*(.*)", text):
        inside = str(error.__cause__ or "").partition("\n")[0] or match[2]
        return Problem(f"{match[1]}.yaml", inside or "does not fit the settings of Hydra")
    reason = text.split("\n")[0]
    inner = re.fullmatch(r"KeyError raised while resolving interpolation: ['\"](.*)['\"]", reason)
    return Problem(key, inner[1] if inner else reason)
