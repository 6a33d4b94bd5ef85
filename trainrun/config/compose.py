"""From command-line words to plain settings; the only importer of Hydra and OmegaConf."""

from __future__ import annotations

import io
import logging
import os
import re
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from trainrun.config import settle
from trainrun.config.check import check
from trainrun.config.diagnose import Given, misread, no_option, not_a_mapping, yaml_problem
from trainrun.config.paths import COMBINES, CONF, groups, roots
from trainrun.config.stored import storable
from trainrun.config.suggest import did_you_mean, hydra_value, together
from trainrun.errors import ConfigError, Problem

NAME = "trainrun"
_REPLACEABLE = ("scheduler", "logger")  # whole options that a stored run may change
_EXPERIMENTS: dict[str, Path] = {}  # name -> the single file that was named in the shell


@dataclass(frozen=True)
class Composition:
    """One run's settings as plain containers, and how they came about."""

    settings: dict[str, Any]  # every value resolved, without Hydra's own
    overrides: tuple[str, ...]
    choices: dict[str, Any]  # group -> option
    notes: tuple[str, ...]  # what was left out, and why
    _cfg: DictConfig = field(repr=False)

    @property
    def explicit(self) -> list[str]:
        """The keys and groups named in the shell, in its order."""
        return list(dict.fromkeys(map(_key, self.overrides)))

    def refers(self, key: str) -> bool:
        """Whether a value is taken from elsewhere: `${seed}`."""
        path, _, leaf = key.rpartition(".")
        node = OmegaConf.select(self._cfg, path) if path else self._cfg
        return OmegaConf.is_dict(node) and leaf in node and OmegaConf.is_interpolation(node, leaf)

    @property
    def files(self) -> list[Path]:
        """The user's own YAML files that the settings come from."""
        known = groups()
        chosen = [
            _EXPERIMENTS.get(str(option)) or known.get(group, {}).get(str(option))
            if group == "experiment"
            else known.get(group, {}).get(str(option))
            for group, option in self.choices.items()
        ]
        return [file for file in chosen if file and CONF not in file.parents]

    @cached_property
    def storable(self) -> dict[str, Any]:
        """The settings with references to the environment and to run_dir kept."""
        return storable(_own(self._cfg))

    @cached_property
    def record(self) -> dict[str, str]:
        """Hydra's own files: name -> YAML."""
        hydra = OmegaConf.to_container(self._cfg.hydra, resolve=False)
        return {
            "overrides.yaml": OmegaConf.to_yaml(self._cfg.hydra.overrides.task),
            "config.yaml": OmegaConf.to_yaml(_own(self._cfg)),
            "hydra.yaml": OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})),
        }


class _Loader(ConfigLoaderImpl):
    """Hydra's loader, in which a callable's signature, not a file, says which keys there are.

    So every KEY=VALUE reaches `check`, as if written with `++`. Then the shell's choice of an option
    wins whole (see `settle`).
    """

    def __init__(self, path: Any, own: Sequence[Path]) -> None:
        super().__init__(path)
        self.notes: list[str] = []
        self._files = groups(own)  # Hydra's own listing takes longer than composing

    @property
    def groups(self) -> dict[str, list[str]]:
        """Every group with its options."""
        named = {name: list(options) for name, options in self._files.items()}
        return named | {"experiment": [*named.get("experiment", []), *_EXPERIMENTS]}

    def load_configuration(
        self, config_name: str | None, overrides: list[str], *args: Any, **kw: Any
    ) -> DictConfig:
        def load(words: list[str]) -> DictConfig:
            given = {self._forced(word): word for word in map(_expanded, words)}
            cfg = super(_Loader, self).load_configuration(config_name, list(given), *args, **kw)
            with read_write(cfg), open_dict(cfg):
                cfg.hydra.overrides.task = [given[word] for word in settle.words_of(cfg)]
            settle.mappings(cfg, words, _value_of)
            return cfg

        cfg = load(overrides)
        self.notes = settle.settle(cfg, load, self._experiment(cfg.hydra.runtime.choices.get("experiment")))
        return cfg

    def _experiment(self, name: str | None) -> dict[str, Any]:
        """What the file of an experiment holds itself."""
        found = self.repository.load_config(f"experiment/{name}") if name else None
        tree = OmegaConf.to_container(found.config, resolve=False) if found else {}
        return {str(key): value for key, value in tree.items()} if isinstance(tree, dict) else {}

    def _forced(self, word: str) -> str:
        key, is_value, _ = word.lstrip("+").partition("=")
        elsewhere = key.startswith(("~", "hydra")) or "@" in key or "/" in key or key in self.groups
        return word if elsewhere or not is_value else "++" + word.lstrip("+")


class Composer:
    """An open Hydra over the built-in `conf/`, the user's own before it."""

    def __init__(self, config_dir: str | None = None) -> None:
        version.setbase("1.3")
        os.environ["HYDRA_FULL_ERROR"] = "1"  # raise; we print
        path = create_config_search_path(str(CONF))
        extra = [Path(config_dir)] if config_dir else []
        own = roots()[:-1] + extra
        for folder in own:
            path.prepend(provider="project", path=f"file://{folder.resolve()}", anchor="main")
        GlobalHydra.instance().clear()
        self.loader = _Loader(path, extra)
        self.hydra = Hydra(task_name=NAME, config_loader=self.loader)
        GlobalHydra.instance().initialize(self.hydra)

    def compose(self, overrides: list[str]) -> Composition:
        """One run. Raises ConfigError with every problem of the overrides."""
        self._refuse_misread(overrides, multirun=False)
        with self._explained(overrides):
            cfg = self.hydra.compose_config(NAME, overrides, RunMode.RUN, with_log_configuration=False)
            return _composition(cfg, self.loader.notes)

    def compose_stored(self, stored: dict[str, Any], overrides: list[str], run_dir: Path) -> Composition:
        """Stored settings with overrides; what `conf/` holds today cannot leak in."""
        tree = {key: value for key, value in stored.items() if key != "hydra"} | {"run_dir": str(run_dir)}
        whole = [word for word in overrides if _key(word) in _REPLACEABLE and not word.startswith("~")]
        self._refuse_misread(whole, multirun=False)
        given = [_given(word) for word in whole]
        options = {one.key: one.values if one.is_list else (one.values or [])[0] for one in given}
        overrides = [word for word in overrides if word not in whole]
        problems = [
            Problem(key, "an option cannot change here, its values can; another option is a new run")
            for key in map(_key, overrides)
            if key in self.loader.groups
        ]
        if problems:
            raise ConfigError(problems)
        tree |= {group: {} for group in options}
        defaults = ["_self_", *({group: option} for group, option in options.items())]
        ConfigStore.instance().store(name="_stored", node=OmegaConf.create({"defaults": defaults, **tree}))
        with self._explained(overrides):
            cfg = self.hydra.compose_config("_stored", overrides, RunMode.RUN, with_log_configuration=False)
            return _composition(cfg, [])

    def compose_sweep(self, overrides: list[str]) -> list[Composition]:
        """Every job of a sweep over the basic sweeper's lists and ranges."""
        self._refuse_misread(overrides, multirun=True)
        with self._explained(overrides):
            cfg = self.hydra.compose_config(NAME, overrides, RunMode.MULTIRUN, with_log_configuration=False)
            parsed = OverridesParser.create(self.loader).parse_overrides(settle.words_of(cfg))
            jobs = [job for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]
            return [
                _composition(self.loader.load_sweep_config(cfg, list(job)), self.loader.notes) for job in jobs
            ]

    def sweep(
        self, overrides: list[str], task: Callable[[Composition, Path], Any], run_dir: str | None
    ) -> None:
        """Run every job through Hydra's sweeper and launcher; `task` gets its settings and folder."""
        place = [f"hydra.sweep.dir={hydra_value(run_dir)}"] if run_dir else []
        with self._explained(overrides):
            self.hydra.multirun(NAME, _Task(task), [*overrides, *place], with_log_configuration=False)

    def show(self, what: str, value: str, overrides: list[str], package: str | None, resolve: bool) -> None:
        """Hydra's own --cfg and --info."""
        self._refuse_misread(overrides, multirun=False)
        logging.raiseExceptions = False  # Hydra prints through it, and `| head` closes the pipe
        with self._explained(overrides):
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
    def _explained(self, overrides: list[str]) -> Iterator[None]:
        try:
            yield
        except yaml.YAMLError as error:
            raise ConfigError([yaml_problem(error)]) from None
        except (HydraException, OmegaConfBaseException, ValueError, TypeError, RecursionError) as error:
            raise ConfigError([_why_not(error, overrides, self.loader)]) from None
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno:
                raise
            raise ConfigError([not_a_mapping()]) from None

    def _refuse_misread(self, overrides: list[str], multirun: bool) -> None:
        """Raise for words that cannot be read or choose no option, with every problem of the others too."""
        found = {
            text: misread(_given(text), self.loader.groups, COMBINES, multirun)
            for text in dict.fromkeys(overrides)
        }
        problems = [problem for some in found.values() for problem in some]
        if not problems:
            return
        lost = {some[0].key for some in found.values() if some and not some[0].fix}
        rest = [some[0].fix or "" if some else text for text, some in found.items()]
        rest = [text for text in rest if text and _key(text).split(".")[0] not in lost]
        raise ConfigError(problems + self._problems_of(rest, multirun))

    def _problems_of(self, overrides: list[str], multirun: bool) -> list[Problem]:
        try:
            jobs = self.compose_sweep(overrides) if multirun else [self.compose(overrides)]
            return together([problems_of(job) for job in jobs])
        except ConfigError as error:
            return error.problems


def problems_of(job: Composition) -> list[Problem]:
    """All problems of one run's settings; what merely refers to a faulty value is not told again."""
    problems = check(job.settings, job.explicit, job.files)
    return [one for one in problems if not job.refers(one.key)] or problems


def parse_arguments(argv: list[str]) -> Namespace:
    """Hydra's flags and overrides, in any order. Raises ConfigError for an unknown flag."""
    parser, complaint = get_args_parser(), io.StringIO()
    try:
        with redirect_stderr(complaint):
            parsed: Namespace = parser.parse_intermixed_args(argv)
    except SystemExit:
        text = complaint.getvalue().strip().rpartition("error: ")[2]
        raise ConfigError.one("command line", f"{text}; see trainrun --help") from None
    return parsed


def store_experiment(file: Path) -> str:
    """Make an experiment of one YAML file; returns the override that selects it."""
    try:
        text = file.read_text(encoding="utf-8")
        node = OmegaConf.create(text)
    except OSError as error:
        raise ConfigError.one(str(file), f"cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError([yaml_problem(error, file)]) from None
    if not OmegaConf.is_dict(node):
        raise ConfigError.one(str(file), "is not a mapping of settings")
    ConfigStore.instance().store(
        group="experiment", name=file.stem, node=node, package="_global_", provider=str(file)
    )
    _EXPERIMENTS[file.stem] = file
    return f"experiment={hydra_value(file.stem)}"


def to_yaml(settings: dict[str, Any]) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(settings))


class _Task:
    """What Hydra calls for each job of a sweep."""

    def __init__(self, task: Callable[[Composition, Path], Any]) -> None:
        self.task = task

    def __call__(self, cfg: DictConfig) -> Any:
        hydra = HydraConfig.get()  # run_job takes it out of cfg
        whole = OmegaConf.create({**dict(cfg), "hydra": hydra})
        folder = Path(hydra.runtime.output_dir)
        here = Path.cwd()
        return self.task(
            _composition(whole, []), folder.relative_to(here) if here in folder.parents else folder
        )


def _composition(cfg: DictConfig, notes: Sequence[str]) -> Composition:
    hydra = cfg.hydra
    return Composition(
        settings=_plain(cfg),
        overrides=tuple(settle.words_of(cfg)),
        choices=dict(hydra.runtime.choices),
        notes=tuple(notes),
        _cfg=cfg,
    )


def _own(cfg: DictConfig) -> DictConfig:
    """A copy without Hydra's part."""
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    OmegaConf.set_struct(own, False)
    return own


def _plain(cfg: DictConfig) -> dict[str, Any]:
    plain = OmegaConf.to_container(_own(cfg), resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def _key(word: str) -> str:
    return word.lstrip("+~").split("=")[0].split("@")[0]


def _given(text: str) -> Given:
    """An override as its parts; `problem` where Hydra's grammar cannot read it."""
    try:
        parsed = OverridesParser.create().parse_override(_expanded(text))
    except HydraException:
        known = "=" not in text.strip("=")
        return Given(text, problem="is not KEY=VALUE" if known else "cannot be read; quote it for the shell")
    if not parsed.key_or_group:
        return Given(text, problem="is not KEY=VALUE")
    prefix = "~" if parsed.is_delete() else "++" if parsed.is_force_add() else "+" if parsed.is_add() else ""
    value = None if parsed.is_sweep_override() else parsed.value()
    return Given(
        text,
        parsed.key_or_group,
        prefix,
        _values(parsed),
        isinstance(value, list),
        parsed.is_sweep_override(),
    )


def _expanded(word: str) -> str:
    """`data.root=~/x` with the home folder written out, which no shell does behind a `=`."""
    key, _, value = word.partition("=")
    return f"{key}={hydra_value(os.path.expanduser(value))}" if value.startswith("~/") else word


def _values(parsed: Override) -> list[str] | None:
    if parsed.is_sweep_override():
        return [_text(item) for item in parsed.sweep_string_iterator()]
    value = parsed.value()
    if value is None:
        return None
    return [_text(item) for item in (value if isinstance(value, list) else [value])]


def _value_of(word: str) -> Any:
    """The value of an override as a plain object; None for a sweep."""
    parsed = OverridesParser.create().parse_override(word)
    return None if parsed.is_sweep_override() else parsed.value()


def _text(value: Any) -> str:
    return str(value.text) if isinstance(value, QuotedString) else str(value)


def _why_not(error: Exception, overrides: list[str], loader: _Loader) -> Problem:
    """What a file, a reference or a `~` asks for and cannot have, in our words."""
    text = str(error.__cause__ or error).strip()
    key = getattr(error, "full_key", None) or getattr(error.__cause__, "full_key", None) or "config"
    experiment = next((word for word in overrides if word.startswith("experiment=")), "")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = str(error.missing_cfg_file).rpartition("/")
        if group.startswith("experiment/"):
            return Problem(experiment, f"wants `override /{group[11:]}: {option}` in its defaults")
        text = no_option(group, option, loader.get_group_options(group))
        return Problem(group, f"{text} ({experiment} names it)" if experiment else text)
    if found := re.search(r"Could not override '(.+?)'", text):
        return Problem(
            experiment or found[1],
            f"overrides {found[1]}, which is no group{did_you_mean(found[1], loader.groups)}",
        )
    if found := re.search(r"Could not delete from config\. '(.+?)' does not exist", text):
        return Problem(found[1], "no such setting to leave out")
    if re.search(r"not in (struct|')", text):
        return Problem(key, "no such setting of Hydra")
    reason = text.split("\n")[0]
    inner = re.fullmatch(r"KeyError raised while resolving interpolation: ['\"](.*)['\"]", reason)
    return Problem(key, inner[1] if inner else reason)
