"""The result of a check: what it measured, what is wrong with it, and the override that fixes it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainrun.vocabulary.errors import ConfigError

if TYPE_CHECKING:
    from trainrun.config.compose.composer import Composer


@dataclass(frozen=True)
class CheckResult:
    """One thing that is wrong. `fix` are overrides; where no setting fixes it, `advice` says what does."""

    name: str
    measured: str
    expected: str
    fix: tuple[str, ...] = ()
    advice: str = ""


@dataclass(frozen=True)
class CheckSection:
    """The answer to one question: (label, text) lines for people, the same as numbers, and what is wrong."""

    title: str
    lines: tuple[tuple[str, str], ...]
    findings: tuple[CheckResult, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


def with_fixes(words: Sequence[str], findings: Sequence[CheckResult]) -> list[str]:
    """Return the user's words with every fix in the place of what it replaces.

    Where two findings propose different values for one setting, neither is taken.
    """
    proposed: dict[str, set[str]] = {}
    for finding in findings:
        for fix in finding.fix:
            proposed.setdefault(key_of(fix), set()).add(fix)
    agreed = {key: fixes.pop() for key, fixes in proposed.items() if len(fixes) == 1}
    line: list[str] = []
    for word in words:
        key = key_of(word)
        if any(key.startswith(f"{group}.") for group in agreed):  # a value of an option that is replaced
            continue
        word = agreed.get(key, word)
        if word not in line:
            line.append(word)
    return line + [fix for fix in agreed.values() if fix not in line]


def command_with_fixes(
    composer: Composer, words: Sequence[str], findings: Sequence[CheckResult]
) -> str | None:
    """Return the command that checks again; None where nothing is fixed, or the fixes do not go together."""
    line = with_fixes(words, findings)
    if line == list(words):
        return None
    try:
        composer.checked(line)
    except ConfigError:
        return None
    return shlex.join(["trainrun", "check", *line])


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
