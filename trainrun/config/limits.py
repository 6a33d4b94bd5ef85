"""Bounds on what a small YAML file may grow to: aliases and references multiply."""

from __future__ import annotations

import codecs
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

MOST_BYTES = 1 << 18
DEEPEST = 32
MOST_NODES = 10_000
MOST_NESTED = 16
MOST_DIGITS = 400  # more than the largest number has that torch knows
_NUMBER = re.compile(r"[-+]?(0x[\da-f_]+|0b[01_]+|[\d_.:]+)", re.IGNORECASE)
_REFERENCE = re.compile(r"\$\{\s*(?:oc\.(?:select|dict\.\w+)\s*:)?\s*(\.*)([\w.\[\]/-]+)\s*[,}]")
_CONTROL = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_NESTED = re.compile(r"\$\{(?!\s*oc\.(?:env|decode)\b)[^{}]*\$\{")  # in a path, not in a text
_OPENING = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


class Unreadable(ValueError):
    """What cannot be a config, or would grow beyond bounds. `place`: `:LINE` where that was seen."""

    def __init__(self, text: str, place: str = "") -> None:
        super().__init__(text)
        self.place = place


def read_text(file: Path) -> str:
    """A file's text. Raises Unreadable rather than read what no config can be."""
    check_regular(file)
    if file.stat().st_size > MOST_BYTES:
        raise Unreadable(f"is larger than a config can be, {MOST_BYTES:,} bytes")
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        raise Unreadable("is UTF-16 or UTF-32 text; save it as UTF-8", ":1")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        text = f"is not UTF-8 text, it has the byte 0x{content[error.start]:02x}; save it as UTF-8"
        raise Unreadable(text, f":{line}") from None
    if match := _CONTROL.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise Unreadable(f"holds a control character, {match[0]!r}; take it out", f":{line}")
    return text.replace("\r\n", "\n")


def check_regular(file: Path) -> None:
    """Raise Unreadable for a pipe, which would be waited for, a device or a folder."""
    mode = file.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise Unreadable(f"is {kind}, not a file")


def check_text(text: str, with_aliases: bool) -> None:
    """Raise Unreadable for a YAML text that nests too deep, or whose aliases multiply.

    Nothing is constructed. Without `with_aliases` aliases, anchors and tags are refused at all.
    Raises yaml.YAMLError for what is no YAML.
    """
    depth, alias = 0, None
    for token in yaml.scan(text, yaml.SafeLoader):
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        alias = alias or (token if isinstance(token, yaml.AliasToken) else None)
        marked = isinstance(token, (yaml.AliasToken, yaml.AnchorToken, yaml.TagToken))
        if (
            isinstance(token, yaml.ScalarToken)
            and len(token.value) > MOST_DIGITS
            and _NUMBER.fullmatch(token.value)
        ):
            raise Unreadable(
                f"holds a number of {len(token.value):,} digits", f":{token.start_mark.line + 1}"
            )
        if depth > DEEPEST:
            raise Unreadable("nests too deep", f":{token.start_mark.line + 1}")
        if marked and not with_aliases:
            raise Unreadable("holds an alias, an anchor or a tag", f":{token.start_mark.line + 1}")
    if alias and _count(yaml.compose(text, yaml.SafeLoader), {}) > MOST_NODES:
        place = f":{alias.start_mark.line + 1}"
        raise Unreadable(f"has aliases that grow to more than {MOST_NODES:,} values", place)


def _count(node: Any, known: dict[int, int]) -> int:
    """How many values a node holds once its aliases are written out; one inside itself counts as too many."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = MOST_NODES + 1  # until it is counted
    pairs = node.value if isinstance(node, yaml.CollectionNode) else ()
    inner = [one for pair in pairs for one in (pair if isinstance(pair, tuple) else (pair,))]
    known[id(node)] = 1 + sum(_count(one, known) for one in inner)
    return known[id(node)]


def check_references(tree: Mapping[str, Any]) -> None:
    """Raise Unreadable where the references `${a.b}` of an unresolved tree multiply to too many values.

    Where one stands inside another only few are taken: what they lead to is not known beforehand.
    """
    texts = [text for text in _texts(tree) if "${" in text]
    if sum(text.count("${") for text in texts) > MOST_NESTED and any(map(_NESTED.search, texts)):
        raise Unreadable(f"has references inside references, and more than {MOST_NESTED} in all")
    if texts and _resolved(tree, (), tree, {}) > MOST_NODES:
        raise Unreadable(f"has references that grow to more than {MOST_NODES:,} values")


def _resolved(value: Any, path: tuple[str, ...], root: Any, known: dict[tuple[str, ...], int]) -> int:
    """How many values there are to make of the one at `path`, with those that it refers to."""
    if path in known:
        return known[path]
    known[path] = 1  # a circle is told when it is resolved
    if isinstance(value, Mapping):
        inner = [(one, (*path, str(key))) for key, one in value.items()]
    elif isinstance(value, list):
        inner = [(one, (*path, str(index))) for index, one in enumerate(value)]
    else:
        found = _REFERENCE.findall(value) if isinstance(value, str) and "${" in value else ()
        targets = [_target(dots, name, path) for dots, name in found]
        inner = [(_at(root, target), target) for target in targets]
    known[path] = 1 + sum(_resolved(one, at, root, known) for one, at in inner)
    return known[path]


def _target(dots: str, name: str, path: tuple[str, ...]) -> tuple[str, ...]:
    """The path that a reference at `path` leads to; each dot before it is one step up."""
    base = path[: max(0, len(path) - len(dots))] if dots else ()
    return (*base, *filter(None, re.split(r"[.\[\]]+", name)))


def _at(root: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if isinstance(root, list):
            root = root[int(key)] if key.isdigit() and int(key) < len(root) else None
        else:
            root = root.get(key) if isinstance(root, Mapping) else None
    return root


def _texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from _texts(value)
    elif isinstance(tree, str):
        yield tree
