"""What an option's file says of it: description, call, arguments, defaults and meanings; without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from trainrun.config.injection import Slot, slot_of
from trainrun.config.limits import Unreadable, read_text
from trainrun.config.paths import CONF, groups
from trainrun.config.signature import Parameter, Signature, signature
from trainrun.config.suggest import hydra_value
from trainrun.config.top_level import NAMES
from trainrun.config.values import kind_of
from trainrun.vocabulary.errors import ConfigError

_DIALS = "trainrun.config.top_level.Dials"


@dataclass(frozen=True)
class Argument:
    """One setting: `name` below its option, `key` as an override names it, the rest in words."""

    name: str
    key: str
    default: str
    takes: str
    meaning: str


@dataclass(frozen=True)
class Option:
    """`selects` are overrides that come with it; `given` the run hands over; `more` only the code knows."""

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
    found = signature(call.partition(":")[2].partition("#")[0].strip()) if call else None
    return found.doc.split("\n")[0] if found else ""


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
    """All that the file of GROUP/NAME says. Raises ConfigError where it is not valid YAML."""
    file = groups()[group][name]
    text = _read(file)
    root = _mapping(text, file)
    package = next(
        (line.split()[2] for line in text.splitlines() if line.startswith("# @package ")), group
    ).replace("_group_", group)
    selects = tuple(_selected(root.pop("defaults", None)))
    lines = text.splitlines()
    if package == "_global_":
        node = root.pop(group, None)
        selects += tuple(f"{one.key}={one.default}" for one in _arguments(root, "", "", "", lines))
        root, package = (_children(node) if isinstance(node, yaml.MappingNode) else {}), group
    target = _scalar(root.get("_target_"))
    found, slot = signature(target) if target else None, slot_of(package)
    written = set(root)
    others = {name: p for name, p in found.parameters.items() if name not in written} if found else {}
    offers = slot.offers if slot else ()
    return Option(
        target,
        _doc(found, target),
        selects,
        tuple(_arguments(root, package, package, "", lines)),
        tuple(name for name, p in others.items() if name in offers and p.required),
        tuple(name for name in others if name not in offers),
    )


def dials() -> list[Argument]:
    """The run's top-level settings, with the values that a plain `trainrun` takes."""
    file = CONF / "trainrun.yaml"
    text = _read(file)
    root = {key: node for key, node in _mapping(text, file).items() if key in NAMES}
    found = signature(_DIALS)
    rows = _rows(root, "", "", found.parameters if found else {}, "", text.splitlines())
    by_data = dict(one.partition("=")[::2] for one in option("data", defaults()["data"]).selects)
    return [replace(one, default=by_data.get(one.name, one.default)) for one in rows]


def defaults() -> dict[str, str]:
    """group -> the option that a plain `trainrun` takes."""
    file = CONF / "trainrun.yaml"
    entries = _mapping(_read(file), file)["defaults"].value
    pairs = [pair for entry in entries if isinstance(entry, yaml.MappingNode) for pair in entry.value]
    return {
        str(key.value): _text(value, _read(file).splitlines()) for key, value in pairs if "/" not in key.value
    }


def _arguments(
    node: Mapping[str, yaml.Node], path: str, prefix: str, above: str, lines: list[str]
) -> Iterator[Argument]:
    """The settings of one call, those of the calls inside it included."""
    target = _scalar(node.get("_target_"))
    found, slot = signature(target) if target else None, slot_of(path)
    known = {**(_extras(slot) if slot else {}), **(found.parameters if found else {})}
    top = {key: value for key, value in node.items() if key != "_target_" or above}
    yield from _rows(top, path, prefix, known, above, lines)


def _rows(
    node: Mapping[str, yaml.Node],
    path: str,
    prefix: str,
    known: Mapping[str, Parameter],
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
        if name == "_target_":
            if not meaning:
                continue  # a part that nobody is meant to replace
            takes = "a dotted name"
        else:
            takes = kind_of(known[name].annotation).words if name in known else "anything"
        yield Argument(f"{above}{name}", key, _text(value, lines), takes, meaning)


def _extras(slot: Slot) -> dict[str, Parameter]:
    """The keys that every option of a slot takes."""
    found = {name: signature(target) for name, target in slot.extras.items()}
    return {name: one.parameters[name] for name, one in found.items() if one}


def _selected(node: yaml.Node | None) -> Iterator[str]:
    """The overrides that a file's own defaults list amounts to."""
    for entry in node.value if node else ():
        for key, value in entry.value if isinstance(entry, yaml.MappingNode) else ():
            if key.value.startswith("override /"):
                yield f"{key.value.removeprefix('override /')}={hydra_value(_plain(value))}"


def _doc(found: Signature | None, target: str | None) -> str:
    """Our own docstrings whole; of others, which may run to pages, the first paragraph."""
    if found is None or target is None:
        return ""
    return found.doc if target.startswith("trainrun.") else found.doc.split("\n\n")[0]


def _read(file: Path) -> str:
    try:
        return read_text(file)
    except Unreadable as error:
        raise ConfigError.one(f"{file}{error.place}", str(error)) from None
    except OSError as error:
        raise ConfigError.one(str(file), f"cannot be read: {error.strerror}") from None


def _mapping(text: str, file: Path) -> dict[str, yaml.Node]:
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise ConfigError.one(where, f"is not valid YAML: {getattr(error, 'problem', error)}") from None
    return _children(node) if isinstance(node, yaml.MappingNode) else {}


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
    """Written in braces, as one value, and not as settings below each other."""
    return isinstance(node, yaml.CollectionNode) and bool(node.flow_style)


def _plain(node: yaml.Node) -> object:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _comment(node: yaml.Node, lines: list[str]) -> str:
    """The comment behind a value."""
    at = node.end_mark
    rest = lines[at.line][at.column :] if at.line < len(lines) else ""
    return rest.partition("#")[2].strip()
