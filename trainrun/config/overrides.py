"""One override of the command line, taken apart: `++optimizer.lr=0.1` is a prefix, a key and a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Override:
    """One override of the command line."""

    key: str  # a setting or a group, without the package of `group@package`
    value: str | None = None  # the text behind the first `=`
    prefix: str = ""  # "", "+", "++" or "~"

    @classmethod
    def parse(cls, word: str) -> Override:
        """The parts of a word, by its first signs alone: nothing is said of whether Hydra can read it."""
        head, equals, value = word.partition("=")
        name = head.lstrip("+~")
        return cls(name.partition("@")[0], value if equals else None, head[: len(head) - len(name)])

    @property
    def top(self) -> str:
        """The group or top-level setting that it is about."""
        return self.key.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.prefix}{self.key}" + ("" if self.value is None else f"={self.value}")


def key_of(word: str) -> str:
    """The key or group that an override is about."""
    return Override.parse(word).key
