"""Settings some of which are faulty: a rule that reads one of these ends without a verdict."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class FaultyValueError(Exception):
    """A faulty value was read."""


class ReadableSettings(Mapping[str, Any]):
    """Nested settings. Reading a faulty key raises FaultyValueError, so that nothing is concluded from it."""

    def __init__(self, settings: Mapping[str, Any], faulty: Collection[str], above: str = "") -> None:
        self._settings, self._faulty, self._above = settings, faulty, above

    def __getitem__(self, key: str) -> Any:
        path = f"{self._above}{key}"
        if path in self._faulty:
            raise FaultyValueError(path)
        value = self._settings[key]
        return ReadableSettings(value, self._faulty, f"{path}.") if isinstance(value, Mapping) else value

    def __contains__(self, key: object) -> bool:
        return key in self._settings

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)

    def __repr__(self) -> str:
        return repr(self._settings)


def until_faulty(items: Iterator[T]) -> Iterator[T]:
    """The items of an iterator, until it reads a faulty value."""
    with suppress(FaultyValueError):
        yield from items
