"""Nested settings as trees: leaves, texts, the value at a dotted key; reading that stops at a faulty one."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def leaves(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every value that is no mapping; an empty mapping counts as a value."""
    for key, value in tree.items():
        here = f"{path}.{key}" if path else str(key)
        if isinstance(value, Mapping) and value:
            yield from leaves(value, here)
        else:
            yield here, value


def value_at(tree: Any, key: str | Iterable[str]) -> Any:
    """The value at a dotted key or its parts, of which a number is a place in a list; None without any."""
    for part in key.split(".") if isinstance(key, str) else key:
        if isinstance(tree, list):
            tree = tree[int(part)] if part.isdecimal() and int(part) < len(tree) else None
        else:
            tree = tree.get(part) if isinstance(tree, Mapping) else None
    return tree


def target_of(settings: Mapping[str, Any], group: str) -> str:
    """The callable that a group's settings name; empty without any."""
    node = settings.get(group)
    return str(node.get("_target_", "")) if isinstance(node, Mapping) else ""


def texts(tree: Any) -> Iterator[str]:
    """Every text among the values, also in lists."""
    if isinstance(tree, (Mapping, list)):
        for value in tree.values() if isinstance(tree, Mapping) else tree:
            yield from texts(value)
    elif isinstance(tree, str):
        yield tree


class FaultyValueError(Exception):
    """A faulty value was read."""


class ReadableSettings(UserDict[str, Any]):
    """Nested settings. Reading a faulty key raises FaultyValueError, so that nothing is concluded from it."""

    def __init__(self, settings: Mapping[str, Any], faulty: Collection[str], above: str = "") -> None:
        super().__init__(settings)
        self._faulty, self._above = faulty, above

    def __getitem__(self, key: str) -> Any:
        path = f"{self._above}{key}"
        if path in self._faulty:
            raise FaultyValueError(path)
        value = self.data[key]
        return ReadableSettings(value, self._faulty, f"{path}.") if isinstance(value, Mapping) else value

    get = Mapping.get  # UserDict's would not read a faulty key that is absent


def until_faulty(items: Iterator[T]) -> Iterator[T]:
    """The items of an iterator, until it reads a faulty value."""
    with suppress(FaultyValueError):
        yield from items
