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
from trainrun.config.signature import Parameter, Signature, signature, source_signature
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
        settings = _arguments(root, "", "", "", lines)
        selects += tuple(f"{setting.key}={setting.default}" for setting in settings)
        root, package = (_children(node) if isinstance(node, yaml.MappingNode) else {}), group
    target = _scalar(root.get("_target_"))
    takes, slot = signature(target) if target else None, slot_of(package)
    others = {name: p for name, p in takes.parameters.items() if name not in root} if takes else {}
    offers = slot.offers if slot else ()
    return Option(
        target,
        _doc(takes, target),
        selects,
        tuple(_arguments(root, package, package, "", lines)),
        tuple(name for name, p in others.items() if name in offers and p.required),
        tuple(name for name in others if name not in offers),
    )


def dials() -> list[Argument]:
    """The run's top-level settings, with the values that a plain `trainrun` takes."""
    root, lines = _parsed(CONF / "trainrun.yaml")
    root = {key: node for key, node in root.items() if key in NAMES}
    rows = _rows(root, "", "", source_signature(DIALS).parameters, "", lines)
    selects = map(Override.parse, option("data", defaults()["data"]).selects)
    by_data = {override.key: override.value for override in selects}
    return [replace(row, default=by_data.get(row.name) or row.default) for row in rows]


def defaults() -> dict[str, str]:
    """group -> the option that a plain `trainrun` takes."""
    root, lines = _parsed(CONF / "trainrun.yaml")
    entries = [entry for entry in root["defaults"].value if isinstance(entry, yaml.MappingNode)]
    pairs = [pair for entry in entries for pair in entry.value]
    return {str(key.value): _text(value, lines) for key, value in pairs if "/" not in key.value}


def _arguments(
    node: Mapping[str, yaml.Node], path: str, prefix: str, above: str, lines: list[str]
) -> Iterator[Argument]:
    """The settings of one call, including those of the calls inside it."""
    target = _scalar(node.get("_target_"))
    takes, slot = signature(target) if target else None, slot_of(path)
    parameters = {**(extra_parameters(slot) if slot else {}), **(takes.parameters if takes else {})}
    top = {key: value for key, value in node.items() if key != "_target_" or above}
    yield from _rows(top, path, prefix, parameters, above, lines)


def _rows(
    node: Mapping[str, yaml.Node],
    path: str,
    prefix: str,
    parameters: Mapping[str, Parameter],
    above: str,
    lines: list[str],
) -> Iterator[Argument]:
    for name, value in node.items():
        key = f"{prefix}.{name}" if prefix else name
        inner = _children(value) if isinstance(value, yaml.MappingNode) else {}
        if inner and ("_target_" in inner or not _is_flow(value)):
            yield from _arguments(inner, f"{path}.{name}" if path else name, key, f"{above}{name}.", lines)
            continue
        meaning = _comment(value, lines)
        if name == "_target_" and not meaning:
            continue  # a part that nobody is meant to replace
        takes = kind_of(parameters[name].annotation).words if name in parameters else "anything"
        takes = "a dotted name" if name == "_target_" else takes
        yield Argument(f"{above}{name}", key, _text(value, lines), takes, meaning)


def _selected(node: yaml.Node | None) -> Iterator[str]:
    """The overrides that a file's own defaults list amounts to."""
    for entry in node.value if node else ():
        for key, value in entry.value if isinstance(entry, yaml.MappingNode) else ():
            if key.value.startswith("override /"):
                yield f"{key.value.removeprefix('override /')}={hydra_value(_plain(value))}"


def _doc(takes: Signature | None, target: str | None) -> str:
    """Our own docstrings whole; of others, which may run to pages, the first paragraph."""
    if takes is None or target is None:
        return ""
    return takes.doc if target.startswith("trainrun.") else takes.doc.split("\n\n")[0]


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
    return _children(node) if isinstance(node, yaml.MappingNode) else {}, text.splitlines()


def _children(node: yaml.MappingNode) -> dict[str, yaml.Node]:
    return {str(key.value): value for key, value in node.value}


def _scalar(node: yaml.Node | None) -> str | None:
    return str(node.value) if isinstance(node, yaml.ScalarNode) else None


def _text(node: yaml.Node, lines: list[str]) -> str:
    """A value as its file writes it, or on one line where that takes several."""
    start, end = node.start_mark, node.end_mark
    if start.line == end.line:
        return lines[start.line][start.column : end.column] or "null"
    return hydra_value(_plain(node))


def _is_flow(node: yaml.Node) -> bool:
    """Whether it is written in braces, as one value, and not as settings below each other."""
    return isinstance(node, yaml.CollectionNode) and bool(node.flow_style)


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
