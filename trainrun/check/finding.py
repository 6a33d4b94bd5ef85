"""What a check says: what it measured, what is wrong with it, and the override that mends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CheckResult:
    """One thing that is wrong. `mend` are overrides; where no setting mends it, `advice` says what does."""

    name: str
    measured: str
    expected: str
    mend: tuple[str, ...] = ()
    advice: str = ""


@dataclass(frozen=True)
class CheckSection:
    """The answer to one question: (label, text) lines for people, the same as numbers, and what is wrong."""

    title: str
    lines: tuple[tuple[str, str], ...]
    findings: tuple[CheckResult, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


def mended(words: Sequence[str], findings: Sequence[CheckResult]) -> list[str]:
    """The user's words with every mend in the place of what it replaces; where two findings want
    different values for one setting, neither. The words themselves where nothing is to be changed.
    """
    wanted: dict[str, set[str]] = {}
    for mend in (one for finding in findings for one in finding.mend):
        wanted.setdefault(key_of(mend), set()).add(mend)
    agreed = {key: mends.pop() for key, mends in wanted.items() if len(mends) == 1}
    line: list[str] = []
    for word in words:
        key = key_of(word)
        if any(key.startswith(f"{group}.") for group in agreed):  # a value of an option that is replaced
            continue
        mend = agreed.get(key, word)
        if mend not in line:
            line.append(mend)
    return line + [mend for mend in agreed.values() if mend not in line]


def key_of(word: str) -> str:
    """`optimizer.lr` of `+optimizer.lr=0.1`."""
    return word.lstrip("+~").partition("=")[0]


def setting(settings: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key; None where there is no such setting."""
    node: Any = settings
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node


def option_of(settings: Mapping[str, Any], group: str) -> str:
    """What a group's call is named: `sigmoid_net` of `my_pkg.sigmoid_net`."""
    return str(settings[group]["_target_"]).rpartition(".")[2]
