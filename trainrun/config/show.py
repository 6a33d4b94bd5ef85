"""Describe an option from its file: what it calls, its arguments, defaults and meanings; without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from trainrun.config.diagnose import yaml_problem
from trainrun.config.injection import extra_parameters, slot_of
from trainrun.config.limits import UnreadableError, read_text
from trainrun.config.overrides import Override
from trainrun.config.paths import CONF, groups
from trainrun.config.signature import signature
from trainrun.config.suggest import hydra_value
from trainrun.config.top_level import DIALS, NAMES
from trainrun.config.values import kind_of
from trainrun.vocabulary.errors import ConfigError


@dataclass(frozen=True)
class Argument:
    """One setting: its `name` below its option, its `key` in an override, and the rest in words."""

    name: str
    key: str
    default: str
    takes: str
    meaning: str


@dataclass(frozen=True)
class Option:
    """One option. It brings the overrides `selects`; the run passes `given`; only the code has `more`."""

    target: str | None
    doc: str
    selects: tuple[str, ...]
    arguments: tuple[Argument, ...]
    given: tuple[str, ...]
    more: tuple[str, ...]


def is_yours(file: Path) -> bool:
    """Whether an option is the user's own, not a built-in one."""
    return CONF not in file.parents


def about(file: Path) -> str:
    """An option's description: the head of its file, else the first line of what it calls."""
    if head := header(file):
        return " ".join(head[0])
    call = next((line for line in _read(file).splitlines() if line.startswith("_target_:")), "")
    takes = signature(call.partition(":")[2].partition("#")[0].strip()) if call else None
    return takes.doc.split("\n")[0] if takes else ""


def header(file: Path) -> list[list[str]]:
    """The comment that a file begins with: its paragraphs, each as its lines without the `# `."""
    paragraphs: list[list[str]] = [[]]
    for line in _read(file).splitlines():
        if not line.startswith("#"):
            break
        if text := line.removeprefix("#").removeprefix(" ").rstrip():
            paragraphs[-1] += [] if text.startswith("@package") else [text]
        else:
            paragraphs.append([])
    return [lines for lines in paragraphs if lines]


def option(group: str, name: str) -> Option:
    """Describe GROUP/NAME by its file. Raises ConfigError where that is not valid YAML."""
    file = groups()[group][name]
    root, lines = _parsed(file)
    packages = [line.split()[2] for line in lines if line.startswith("# @package ")]
    package = packages[0].replace("_group_", group) if packages else group
    selects = tuple(_selected(root.pop("defaults", None)))
    if package == "_global_":
        node = root.pop(group, None)
        selects += tuple(f"{setting.key}={setting.default}" for setting in _arguments(root, "", lines))
        root, package = _children(node), group
    target = _scalar(root.get("_target_")) or ""
    takes, slot = signature(target) if target else None, slot_of(package)
    others = {name: p for name, p in takes.parameters.items() if name not in root} if takes else {}
    offers = slot.offers if slot else ()
    doc = takes.doc if takes else ""
    return Option(
        target or None,
        doc if target.startswith("trainrun.") else doc.split("\n\n")[0],  # others' may run to pages
        selects,
        tuple(_arguments(root, package, lines)),
        tuple(name for name, p in others.items() if name in offers and p.required),
        tuple(name for name in others if name not in offers),
    )


def dials() -> list[Argument]:
    """The run's top-level settings, with the values that a plain `trainrun` takes."""
    root, lines = _parsed(CONF / "trainrun.yaml")
    root = {key: node for key, node in root.items() if key in NAMES}
    selects = map(Override.parse, option("data", defaults()["data"]).selects)
    by_data = {override.key: override.value for override in selects}
    rows = _arguments(root, "", lines, target=DIALS)
    return [replace(row, default=by_data.get(row.name) or row.default) for row in rows]


def defaults() -> dict[str, str]:
    """group -> the option that a plain `trainrun` takes."""
    root, lines = _parsed(CONF / "trainrun.yaml")
    pairs = [pair for entry in root["defaults"].value for pair in _children(entry).items()]
    return {group: _text(value, lines) for group, value in pairs if "/" not in group}


def _arguments(
    node: Mapping[str, yaml.Node], path: str, lines: list[str], above: str = "", target: str | None = None
) -> Iterator[Argument]:
    """The settings of one call at `path`, including those of the calls inside it."""
    target = target or _scalar(node.get("_target_"))
    takes, slot = signature(target) if target else None, slot_of(path)
    parameters = {**(extra_parameters(slot) if slot else {}), **(takes.parameters if takes else {})}
    for name, value in node.items():
        key, inner = f"{path}.{name}" if path else name, _children(value)
        if inner and ("_target_" in inner or not getattr(value, "flow_style", None)):  # no value in braces
            yield from _arguments(inner, key, lines, f"{above}{name}.")
            continue
        meaning = _comment(value, lines)
        if name == "_target_" and not (above and meaning):
            continue  # a part that nobody is meant to replace
        words = kind_of(parameters[name].annotation).words if name in parameters else "anything"
        words = "a dotted name" if name == "_target_" else words
        yield Argument(f"{above}{name}", key, _text(value, lines), words, meaning)


def _selected(node: yaml.Node | None) -> Iterator[str]:
    """The overrides that a file's own defaults list amounts to."""
    for entry in node.value if node else ():
        for key, value in _children(entry).items():
            if key.startswith("override /"):
                yield f"{key.removeprefix('override /')}={hydra_value(_plain(value))}"


def _read(file: Path) -> str:
    try:
        return read_text(file)
    except UnreadableError as error:
        raise ConfigError.of(f"{file}{error.place}", str(error)) from None
    except OSError as error:
        raise ConfigError.of(str(file), f"cannot be read: {error.strerror}") from None


def _parsed(file: Path) -> tuple[dict[str, yaml.Node], list[str]]:
    """(a file's top-level settings, its lines)."""
    text = _read(file)
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise ConfigError([yaml_problem(error, file)]) from None
    return _children(node), text.splitlines()


def _children(node: yaml.Node | None) -> dict[str, yaml.Node]:
    return {str(key.value): value for key, value in node.value} if isinstance(node, yaml.MappingNode) else {}


def _scalar(node: yaml.Node | None) -> str | None:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else None


def _text(node: yaml.Node, lines: list[str]) -> str:
    """A value as its file writes it, or on one line where that takes several."""
    start, end = node.start_mark, node.end_mark
    if start.line == end.line:
        return lines[start.line][start.column : end.column] or "null"
    return hydra_value(_plain(node))


def _plain(node: yaml.Node) -> object:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _comment(node: yaml.Node, lines: list[str]) -> str:
    """The comment behind a value."""
    end = node.end_mark
    rest = lines[end.line][end.column :] if end.line < len(lines) else ""
    return rest.partition("#")[2].strip()
