"""Options as `trainrun plot` takes them: `adam`, `normal(0.01)`, `adam(0.01,betas=[0.9,0.99])`.

Several stand side by side, or with commas between them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from trainrun.config.compose.composer import Composer, Composition
from trainrun.config.diagnose import no_option
from trainrun.config.paths import groups
from trainrun.config.show import option
from trainrun.vocabulary.errors import ConfigError, Problem

_OPTION = re.compile(r"([\w/-]+)(?:\((.*)\))?")


@dataclass(frozen=True)
class PlotChoice:
    """An option with values of its own: `label` as typed, and the overrides that it stands for."""

    label: str
    overrides: tuple[str, ...]


def choices(group: str, words: Sequence[str]) -> tuple[list[PlotChoice], list[str]]:
    """The options among `words`, and the overrides, which are of all of them.

    Raises ConfigError for what is neither, for an option that is not there, and for more values than it
    takes.
    """
    overrides = [word for word in words if _is_override(word)]
    named = [text for word in words if word not in overrides for text in _apart(word)]
    return [_choice(group, text) for text in named], overrides


def compose(group: str, chosen: Sequence[PlotChoice], overrides: Sequence[str]) -> dict[str, Composition]:
    """label -> what each comes to; without any the run's own. Raises ConfigError with its problems."""
    composer, composed = Composer(), {}
    for choice in chosen or [PlotChoice("", ())]:
        composition = composer.checked([*overrides, *choice.overrides])
        composed[choice.label or str(composition.choices[group])] = composition
    return composed


def mendable(error: ConfigError, words: Sequence[str]) -> ConfigError:
    """The same error without corrections of what is not among `words` as an override.

    Those would be added to a line that goes on saying otherwise.
    """
    typed = {word.lstrip("+~").partition("=")[0] for word in words if _is_override(word)}
    return ConfigError([p if p.key in typed else Problem(p.key, p.text) for p in error.problems])


def _is_override(word: str) -> bool:
    return "=" in word.partition("(")[0] or word[:1] in "+~" or word.endswith((".yaml", ".yml"))


def _choice(group: str, text: str) -> PlotChoice:
    match, options = _OPTION.fullmatch(text), groups()[group]
    if match is None:
        raise ConfigError.of(group, f"must be a name, or a name with values as in name(0.1), got {text}")
    name, values = match[1], match[2] or ""
    if name not in options:
        raise ConfigError.of(group, no_option(group, name, list(options)))
    keys = [argument.key for argument in option(group, name).arguments]
    overrides = [f"{group}={name}"]
    for index, value in enumerate(_apart(values)):
        key, equals, after = value.partition("=")
        if equals:
            overrides.append(f"{group}.{key.strip()}={after.strip()}")
        elif index < len(keys):
            overrides.append(f"{keys[index]}={value}")
        else:
            raise ConfigError.of(group, f"{name} takes {len(keys)} values, got {text}")
    return PlotChoice(text, tuple(overrides))


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
