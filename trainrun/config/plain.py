"""Compose plain words over the built-in options without Hydra, whose import takes longer than an answer.

Words of any other form, the user's own options, experiments and sweeps are left to Hydra.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from trainrun.config.diagnose import ParsedOverride
from trainrun.config.overrides import key_of
from trainrun.config.paths import CONF, groups, roots
from trainrun.config.tree import value_at

MISSING = "??? "  # `???` of a user's file; OmegaConf's own would leave what another file says

# YAML reads `off` without quotes as false; and false and true were the choices of runs before.
COMPILE: dict[bool, str] = {False: "off", True: "model"}

_KEY = re.compile(r"(?!(hydra|sweep|experiment|task)\b)[a-z]\w*(\.[a-z]\w*)*(?<!_target_)", re.ASCII)
_NUMBER = re.compile(r"-?(0|[1-9]\d{0,14})(\.\d{1,15})?(e-?\d{1,3})?", re.IGNORECASE | re.ASCII)
_TEXT = re.compile(
    r"(?!(nan|inf)$)[a-z_][\w./-]{,80}|(?!-?[\d.]+e[-\d])-?\d{1,15}(\.\d{1,15})?[a-z%-][\w%-]{,80}",
    re.IGNORECASE | re.ASCII,
)
_WORDS = {"true": True, "false": False, "null": None}
_PACKAGE = re.compile(r"# @package (\S+)")
_SELECTED = re.compile(r"^ +- override /(\w+): (\w+)$", re.MULTILINE)
# The parser in C, where PyYAML was built with it, takes a quarter of the time.
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class PlainRun:
    """One run's settings as plain containers, and how they came about."""

    settings: dict[str, Any]  # every value resolved, without Hydra's own
    overrides: tuple[str, ...]
    choices: dict[str, Any]  # group -> option
    unresolved: dict[str, Any]

    @property
    def explicit(self) -> list[str]:
        """The keys and groups named in the shell, in its order."""
        return list(dict.fromkeys(map(key_of, self.overrides)))

    @property
    def files(self) -> list[Path]:
        """The user's own YAML files that the settings come from."""
        return []

    def refers(self, key: str) -> bool:
        """Whether a value is taken from elsewhere: `${seed}`."""
        value = value_at(self.unresolved, key)
        return isinstance(value, str) and "${" in value


def read_option(file: Path, group: str) -> dict[str, Any]:
    """The call that an option's file holds, for what is called without having been composed."""
    content = _read(file)
    return dict(content.get(group, content))  # a file that sets several groups names its own


def parse_plain(word: str) -> ParsedOverride | None:
    """Parse a word as Hydra's grammar does; None where it is not plainly KEY=VALUE."""
    key, _, text = word.partition("=")
    if not _KEY.fullmatch(key) or not (_NUMBER.fullmatch(text) or _TEXT.fullmatch(text)):
        return None
    value = _value(text)
    return ParsedOverride(key, text, text=word, values=None if value is None else [str(value)])


def _value(text: str) -> Any:
    if number := _NUMBER.fullmatch(text):
        return float(text) if number[2] or number[3] else int(text)
    return _WORDS.get(text.lower(), text)


def compose_plain(words: Sequence[str]) -> PlainRun | None:
    """One run as Hydra composes it; None where that takes Hydra."""
    overrides, options = [word for word in map(parse_plain, words) if word], groups()
    if len(overrides) < len(words) or roots() != [CONF]:
        return None
    chosen = {word.key: word.value for word in overrides if word.key in options}
    tree = _read(CONF / "trainrun.yaml")
    del tree["hydra"]
    defaults = {group: name for entry in tree.pop("defaults")[1:] for group, name in entry.items()}
    choices = {group: name for group, name in defaults.items() if "/" not in group} | chosen
    for file in _files(choices):
        choices |= dict(_SELECTED.findall(file.read_text(encoding="utf-8"))) | chosen
    for file in _files(choices):
        content, package = _read(file), _PACKAGE.match(file.read_text(encoding="utf-8"))
        content.pop("defaults", None)
        _merge(tree, content, (package[1] if package else file.parent.name).replace("_global_", ""))
    if "auto" in (choices["task"], choices["loss"], value_at(tree, "data.kind")):
        return None  # left to the data
    for word in overrides:
        if word.key not in options:
            _merge(tree, _value(word.value or ""), word.key)
    mode = tree["runtime"]["compile"]
    tree["runtime"]["compile"] = COMPILE[mode] if isinstance(mode, bool) else mode
    return PlainRun(_resolved(tree, tree), tuple(words), choices, tree)


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), _Loader) or {}  # auto holds no call
    return content


def _files(choices: Mapping[str, Any]) -> list[Path]:
    """The files of the chosen options, in the order in which they are merged."""
    lists = {group: name if isinstance(name, list) else [name] for group, name in choices.items()}
    return [CONF / group / f"{name}.yaml" for group, names in lists.items() for name in names if name]


def _merge(tree: dict[str, Any], content: Any, path: str = "") -> None:
    """Merge mappings, or any value at a dotted path, into a tree."""
    for part in reversed(path.split(".") if path else ()):
        content = {part: content}
    for key, value in content.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = value


def _resolved(value: Any, root: Mapping[str, Any]) -> Any:
    """A copy with references to top-level settings replaced, `${seed}`: no built-in option has others."""
    if isinstance(value, dict):
        return {key: _resolved(member, root) for key, member in value.items()}
    return root[value[2:-1]] if isinstance(value, str) and value.startswith("${") else value
