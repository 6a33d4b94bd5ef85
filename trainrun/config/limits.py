"""Limits on the size, depth, aliases and references of a YAML file (a small one can grow without bound)."""

from __future__ import annotations

import codecs
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from trainrun.config.tree import texts, value_at

# Far above what a config needs (the built-in ones compose to 250 values, 4 levels deep and 8 kB), and far
# below what takes a second to read.
MOST_BYTES = 1 << 18
DEEPEST = 32
MOST_NODES = 10_000
MOST_NESTED = 16  # references, where one stands inside another: each may lead to a whole tree
MOST_DIGITS = 400  # the largest float64 has 309; Python's conversion of long ones takes quadratic time
_NUMBER = re.compile(r"[-+]?(0x[\da-f_]+|0b[01_]+|[\d_.:]+)", re.IGNORECASE)
_REFERENCE = re.compile(r"\$\{\s*(?:oc\.(?:select|dict\.\w+)\s*:)?\s*(\.*)([\w.\[\]/-]+)\s*[,}]")
_CONTROL = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
_NESTED = re.compile(r"\$\{(?!\s*oc\.(?:env|decode)\b)[^{}]*\$\{")  # in a path, not in a text
_OPENING = (
    *(yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken),
    *(yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken),
)
_CLOSING = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


class UnreadableError(ValueError):
    """What cannot be a config, or would grow beyond bounds. `place` is `:LINE`, where a line is at fault."""

    def __init__(self, text: str, place: str = "") -> None:
        super().__init__(text)
        self.place = place


def read_text(file: Path) -> str:
    """Read a file's text. Raises Unreadable for what no config can be, such as a pipe, which would wait."""
    status = file.stat()
    if not stat.S_ISREG(mode := status.st_mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise UnreadableError(f"is {kind}, not a file")
    if status.st_size > MOST_BYTES:
        raise UnreadableError(f"is larger than a config can be, {MOST_BYTES:,} bytes")
    content = file.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in content[:4]:
        raise UnreadableError("is UTF-16 or UTF-32 text; save it as UTF-8", ":1")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        text = f"is not UTF-8 text, it has the byte 0x{content[error.start]:02x}; save it as UTF-8"
        raise UnreadableError(text, f":{line}") from None
    if match := _CONTROL.search(text):
        line = text.count("\n", 0, match.start()) + 1
        raise UnreadableError(f"holds a control character, {match[0]!r}; remove it", f":{line}")
    return text.replace("\r\n", "\n")


def check_text(text: str, with_aliases: bool) -> None:
    """Raise Unreadable for a YAML text that nests too deep, or whose aliases multiply; construct nothing.

    Without `with_aliases` aliases, anchors and tags are refused at all. Raises YAMLError for what is no YAML.
    """
    depth, first_alias = 0, ""
    for token in yaml.scan(text, yaml.SafeLoader):
        place = f":{token.start_mark.line + 1}"
        depth += isinstance(token, _OPENING) - isinstance(token, _CLOSING)
        if isinstance(token, yaml.AliasToken):
            first_alias = first_alias or place
        scalar = token.value if isinstance(token, yaml.ScalarToken) else ""
        if len(scalar) > MOST_DIGITS and _NUMBER.fullmatch(scalar):
            raise UnreadableError(f"holds a number of {len(scalar):,} digits", place)
        if depth > DEEPEST:
            raise UnreadableError("nests too deep", place)
        if isinstance(token, (yaml.AliasToken, yaml.AnchorToken, yaml.TagToken)) and not with_aliases:
            raise UnreadableError("holds an alias, an anchor or a tag", place)
    root = yaml.compose(text, yaml.SafeLoader) if first_alias else None
    if root and _count(root, {}) > MOST_NODES:
        raise UnreadableError(f"has aliases that grow to more than {MOST_NODES:,} values", first_alias)


def child_nodes(node: yaml.Node) -> Iterator[yaml.Node]:
    """The keys and values of a mapping, the items of a list."""
    for item in node.value if isinstance(node, yaml.CollectionNode) else ():
        yield from item if isinstance(item, tuple) else (item,)


def _count(node: yaml.Node, counts: dict[int, int]) -> int:
    """How many values a node holds with its aliases written out; one inside itself counts as too many."""
    if id(node) not in counts:
        counts[id(node)] = MOST_NODES + 1  # until it is counted
        counts[id(node)] = 1 + sum(_count(child, counts) for child in child_nodes(node))
    return counts[id(node)]


def check_references(tree: Mapping[str, Any]) -> None:
    """Raise Unreadable where the references `${a.b}` of an unresolved tree multiply to too many values."""
    referring = [text for text in texts(tree) if "${" in text]
    # What references inside references lead to is not known beforehand, so only few are taken.
    if sum(text.count("${") for text in referring) > MOST_NESTED and any(map(_NESTED.search, referring)):
        raise UnreadableError(f"has references inside references, and more than {MOST_NESTED} in all")
    if referring and _resolved(tree, (), tree, {}) > MOST_NODES:
        raise UnreadableError(f"has references that grow to more than {MOST_NODES:,} values")


def _resolved(value: Any, path: tuple[str, ...], root: Any, counts: dict[tuple[str, ...], int]) -> int:
    """How many values the one at `path` resolves to, with those that it refers to."""
    if path in counts:
        return counts[path]
    counts[path] = 1  # a circle is reported when it is resolved
    if isinstance(value, Mapping):
        inner = [(member, (*path, str(key))) for key, member in value.items()]
    elif isinstance(value, list):
        inner = [(member, (*path, str(index))) for index, member in enumerate(value)]
    else:
        inner = []
        for dots, name in _REFERENCE.findall(value) if isinstance(value, str) else ():
            base = path[: max(0, len(path) - len(dots))] if dots else ()  # each dot is one step up
            target = (*base, *filter(None, re.split(r"[.\[\]]+", name)))
            inner.append((value_at(root, target), target))
    counts[path] = 1 + sum(_resolved(member, place, root, counts) for member, place in inner)
    return counts[path]
