"""Options as `trainrun plot` takes them: `adam`, `normal(0.01)`, `adam(0.01,betas=[0.9,0.99])`, or several
apart by commas.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from trainrun.config.compose import Composer, Composition, experiment_files, problems_of
from trainrun.config.diagnose import no_option
from trainrun.config.paths import groups
from trainrun.config.show import option
from trainrun.errors import ConfigError, Problem

_NAMES = re.compile(r"\w+(\(.*\))?(,\w+(\(.*\))?)*")


@dataclass(frozen=True)
class Choice:
    """An option with values of its own: `label` as typed, and the overrides that it stands for."""

    label: str
    overrides: tuple[str, ...]


def choices(group: str, words: Sequence[str]) -> tuple[list[Choice], list[str]]:
    """The options among `words`, and the overrides, which are of all of them.

    Raises ConfigError for an option that is not there, and for more values than it takes.
    """
    named = [word for word in words if _NAMES.fullmatch(word)]
    found = [_choice(group, text) for word in named for text in _apart(word)]
    return found, [word for word in words if word not in named]


def compose(group: str, chosen: Sequence[Choice], overrides: Sequence[str]) -> dict[str, Composition]:
    """label -> what each comes to; without any the run's own. Raises ConfigError with its problems."""
    composer = Composer()
    found = {}
    for one in chosen or [Choice("", ())]:
        composition = composer.compose(experiment_files([*overrides, *one.overrides]))
        if problems := problems_of(composition):  # no corrected line: it would not have the parentheses
            raise ConfigError([Problem(p.key, p.text) for p in problems] if one.overrides[1:] else problems)
        found[one.label or str(composition.choices[group])] = composition
    return found


def _choice(group: str, text: str) -> Choice:
    name, _, rest = text.partition("(")
    known = groups()[group]
    if name not in known:
        raise ConfigError.one(group, no_option(group, name, list(known)))
    keys = [one.key for one in option(group, name).arguments]
    overrides = [f"{group}={name}"]
    for at, value in enumerate(_apart(rest.removesuffix(")"))):
        key, equals, after = value.partition("=")
        if equals:
            overrides.append(f"{group}.{key.strip()}={after.strip()}")
        elif at < len(keys):
            overrides.append(f"{keys[at]}={value}")
        else:
            raise ConfigError.one(group, f"{name} takes {len(keys)} values, got {text}")
    return Choice(text, tuple(overrides))


def _apart(text: str) -> list[str]:
    """What commas divide, but for those within brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
