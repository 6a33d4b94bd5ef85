"""Read arguments in other tools' forms as overrides: `--lr 0.1`, `lr = 0.1`, `optimizer adam`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence

from trainrun.config.paths import groups
from trainrun.config.suggest import SPELLINGS
from trainrun.config.top_level import NAMES
from trainrun.vocabulary.errors import Problem

_DASHED = re.compile(r"--?([A-Za-z][\w.-]*)(?:=(.*))?", re.DOTALL)
_TRAIN = (["train"], ["run"], ["fit"])  # as a first word: what other tools call the command
_FILE = (".yaml", ".yml")


def as_overrides(words: list[str], flags: Collection[str]) -> list[str]:
    """The words with every clear setting written KEY=VALUE; `flags` and what follows them stay."""
    keys = {*groups(), *NAMES, *SPELLINGS}
    rest, settings = list(words[1:] if words[:1] in _TRAIN else words), list[str]()
    is_after_flag = False
    while rest:
        word = rest.pop(0)
        dashed = _DASHED.fullmatch(word)
        head = word.partition("=")[0]
        is_flag = dashed is not None and (
            head in flags or (head.startswith("--") and sum(flag.startswith(head) for flag in flags) == 1)
        )
        if dashed and not is_flag:
            value = dashed[2]
            if value is None:
                value = rest.pop(0) if rest and _is_value(rest[0]) else "true"
            settings.append(value if value.endswith(_FILE) else f"{dashed[1].replace('-', '_')}={value}")
        elif not dashed and (taken := _separate_value(word, rest, is_after_flag, keys)):
            settings.append(word + "".join(taken) if "=" in "".join((word, *taken)) else f"{word}={taken[0]}")
            del rest[: len(taken)]
        else:
            settings.append(word)
        is_after_flag = is_flag
    return settings


def other_form(words: list[str], overrides: list[str], line: str | None) -> Problem:
    """The problem of words that are no overrides; `line` is the whole corrected command."""
    given = [word for word in words if word not in overrides]
    text = f"a setting is written KEY=VALUE, without dashes and spaces, got {shlex.join(given)}"
    text = f"training needs no command, got {given[0]}" if given in _TRAIN else text
    return Problem("command line", text, line)


def _separate_value(word: str, rest: Sequence[str], is_after_flag: bool, keys: Collection[str]) -> list[str]:
    """The words after `word` that belong to it: `= 0.1`, `=0.1`, `0.1`; none where it stands alone."""
    first, second = (*rest, "", "")[:2]
    if "=" not in word and not is_after_flag and not word.endswith(_FILE):
        if first == "=" and _is_value(second):
            return ["=", second]
        if first.startswith("=") and len(first) > 1:
            return [first]
        if word.split(".")[0] in keys and _is_value(first) and not first.endswith(_FILE):
            return [first]
    elif word.endswith("=") and word.count("=") == 1 and _is_value(first) and not first.endswith(_FILE):
        return [first]
    return []


def _is_value(word: str) -> bool:
    return bool(word) and "=" not in word and (word[0] != "-" or bool(re.match(r"-[.\d]", word)))
