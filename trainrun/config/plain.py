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

_KEY = re.compile(r"(?!(hydra|sweep|experiment|task)\b)[a-z]\w*(\.[a-z]\w*)*(?<!_target_)", re.ASCII)
_INT = re.compile(r"-?(0|[1-9]\d{0,14})")
_FLOAT = re.compile(r"-?(0|[1-9]\d{0,9})(\.\d{1,15}([eE]-?\d{1,3})?|[eE]-?\d{1,3})")
_TEXT = re.compile(
    r"[a-z_][\w./-]{,80}|(?!-?[\d.]+e[-\d])-?\d{1,15}(\.\d{1,15})?[a-z%-][\w%-]{,80}",
    re.ASCII | re.IGNORECASE,
)
_WORDS = {"true": True, "false": False, "null": None}
_PACKAGE = re.compile(r"# @package (\S+)")
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
    is_plain = any(form.fullmatch(text) for form in (_INT, _FLOAT, _TEXT))
    if not _KEY.fullmatch(key) or not is_plain or text.lower() in ("nan", "inf"):
        return None
    value = _value(text)
    return ParsedOverride(key, text, text=word, values=None if value is None else [str(value)])


def _value(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    return int(text) if _INT.fullmatch(text) else float(text) if _FLOAT.fullmatch(text) else text


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
    contents = {file: _read(file) for file, _ in _files(choices)}
    for content in contents.values():
        selected = {key: name for entry in content.pop("defaults", ()) for key, name in entry.items()}
        choices |= {key.removeprefix("override /"): name for key, name in selected.items()} | chosen
    for file, group in _files(choices):
        _merge(tree, _placed(file, group, contents.get(file) or _read(file)))
    if "auto" in (choices["task"], choices["loss"], value_at(tree, "data.kind")):
        return None  # left to the data
    values = [
        (word.key.split("."), _value(word.value or "")) for word in overrides if word.key not in options
    ]
    if not all(_set(tree, path, value) for path, value in values):
        return None
    return PlainRun(_resolved(tree, tree), tuple(words), choices, tree)


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load(file.read_text(encoding="utf-8"), _Loader) or {}  # auto holds no call
    return content


def _files(choices: Mapping[str, Any]) -> list[tuple[Path, str]]:
    """(file, group) of every chosen option, in the order in which they are merged."""
    pairs = [(group, choice if isinstance(choice, list) else [choice]) for group, choice in choices.items()]
    return [(CONF / group / f"{name}.yaml", group) for group, names in pairs for name in names if name]


def _placed(file: Path, group: str, content: dict[str, Any]) -> dict[str, Any]:
    """An option's content below the package that its first line names, or below its group."""
    with file.open(encoding="utf-8") as lines:
        package = match[1] if (match := _PACKAGE.match(lines.readline())) else group
    for part in reversed(package.split(".") if package != "_global_" else ()):
        content = {part: content}
    return content


def _merge(tree: dict[str, Any], content: Mapping[str, Any]) -> None:
    for key, value in content.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _merge(tree[key], value)
        else:
            tree[key] = value


def _set(tree: dict[str, Any], path: Sequence[str], value: Any) -> bool:
    """Set the value at a path; False where something else than a mapping stands above it."""
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            return False
    tree[path[-1]] = value
    return True


def _resolved(value: Any, root: Mapping[str, Any]) -> Any:
    """A copy with references to top-level settings replaced, `${seed}`: no built-in option has others."""
    if isinstance(value, dict):
        return {key: _resolved(member, root) for key, member in value.items()}
    is_reference = isinstance(value, str) and value.startswith("${")
    return root[value[2:-1]] if is_reference else value
