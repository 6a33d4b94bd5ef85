"""The result of a check: what it measured, what is wrong with it, and the override that fixes it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from trainrun.config.compose.composer import Composer
from trainrun.config.overrides import key_of
from trainrun.vocabulary.errors import ConfigError


@dataclass(frozen=True)
class CheckResult:
    """One thing that is wrong. `fix` are overrides; where no setting fixes it, `advice` says what does."""

    name: str
    measured: str
    expected: str
    fix: tuple[str, ...] = ()
    advice: str = ""


@dataclass
class CheckSection:
    """The answer to one question: (label, text) lines for people, the same as numbers, and what is wrong."""

    title: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    findings: list[CheckResult] = field(default_factory=list)
    values: Mapping[str, Any] = field(default_factory=dict)

    def add(self, name: str, measured: str, expected: str, *fix: str, advice: str = "") -> None:
        """Add a finding."""
        self.findings.append(CheckResult(name, measured, expected, fix, advice))


def with_fixes(words: Sequence[str], findings: Sequence[CheckResult]) -> list[str]:
    """Return the user's words with every fix in the place of what it replaces.

    Where two findings propose different values for one setting, neither is taken.
    """
    proposed: dict[str, set[str]] = {}
    for fix in (fix for finding in findings for fix in finding.fix):
        proposed.setdefault(key_of(fix), set()).add(fix)
    agreed = {key: fixes.pop() for key, fixes in proposed.items() if len(fixes) == 1}
    replaced = tuple(f"{group}." for group in agreed)  # values of an option that is replaced
    line = [agreed.get(key_of(word), word) for word in words if not key_of(word).startswith(replaced)]
    return list(dict.fromkeys([*line, *agreed.values()]))


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
