"""Tab completion: `eval "$(trainrun -sc install=bash)"`, or install=zsh."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from contextlib import suppress

from trainrun.config.commands import COMMANDS
from trainrun.config.paths import groups

_OWN_FLAGS = ("-q", "-v")
_FLAGS = {
    "compare": ("--csv", "--json", "--latex", "--out", "--pair"),
    "check": ("--exact", "--steps"),
    "find-batch": ("--json", "--max", "--memory", "--out"),
    "eval": ("--checkpoint", "--split", "--tta"),
    "export": ("--checkpoint",),
    "plot": ("--activation", "--at", "--depth", "--out", "--steps"),
    "predict": ("--checkpoint", "--input", "--out", "--split", "--tta"),
    "runs": ("--clean", "--failed", "--json", "--yes"),
}
_PLOTTED = ("init", "optimizer", "run", "scheduler", "sweep")
_OF_STORED = (["plot", "run"], ["plot", "sweep"])
# What bash completion needs in a zsh that has not started it.
_ZSH = """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i; }
(( $+functions[complete] )) || { autoload -Uz bashcompinit && bashcompinit; }"""


def run(words: list[str]) -> int:
    """Answer the shell's question, or print what installs the completion."""
    if "COMP_LINE" not in os.environ:
        if any(word.endswith("install=zsh") for word in words):
            print(_ZSH)
        return _hydra(words)
    point = os.environ.get("COMP_POINT", "")  # where the cursor stands in the line
    line = os.environ["COMP_LINE"][: int(point) if point.isdigit() else None]
    typed = line.split()[1:]
    current = "" if line[-1:].isspace() else (typed.pop() if typed else "")
    command = typed[0] if typed and typed[0] in COMMANDS else ""
    if command == "show":
        from trainrun.cli.show import TOPICS

        options = [f"{group}/{name}" for group, names in groups().items() for name in names]
        _answer([*groups(), *TOPICS, *options] if current[:1] != "-" else ["--as-code"], current)
    elif command in _FLAGS and (current.startswith("-") or command == "runs"):
        _answer(_FLAGS[command], current)
    elif command == "plot" and len(typed) == 1:
        _answer(_PLOTTED, current)
    elif command and (len(typed) == 1 or command == "compare" or typed[:2] in _OF_STORED):
        pass  # bash falls back to file names, which is what RUN wants
    else:
        if not typed:
            _answer(COMMANDS, current, end=" ")
        if command == "plot" and typed[1] in groups():
            _answer(groups()[typed[1]], current, end=" ")
        os.environ["COMP_LINE"] = " ".join(["trainrun", *_overrides(typed), current])
        with suppress(Exception):  # a half-typed line may not compose, and is no place for a message
            _hydra(words)
    return 0


def _answer(words: Iterable[str], current: str, end: str = "\n") -> None:
    print(" ".join(word for word in words if word.startswith(current)), end=end)


def _hydra(words: list[str]) -> int:
    from trainrun.config.compose.composer import Composer, parse_arguments

    arguments = parse_arguments(words)
    Composer(arguments.config_dir).complete(arguments.overrides)
    return 0


def _overrides(typed: list[str]) -> list[str]:
    """The words before the cursor that Hydra can read: no command and its RUN, quotes, files or own flags."""
    words = typed[2:] if typed and typed[0] in COMMANDS else typed
    plain = []
    for word in words:
        try:
            parts = shlex.split(word)
        except ValueError:  # half of something quoted that has spaces
            continue
        plain += [part for part in parts if part not in _OWN_FLAGS and ("=" in part or part[:1] in "-~")]
    return plain
