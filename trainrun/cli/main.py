"""Dispatches the command line; the one place that prints errors and chooses exit codes."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from trainrun import ranks
from trainrun.cli.arguments import ParserExitError
from trainrun.config import imports
from trainrun.config.arguments import as_overrides
from trainrun.config.commands import COMMANDS
from trainrun.config.paths import is_file, is_run
from trainrun.config.suggest import did_you_mean
from trainrun.runtime.signals import end_at_once
from trainrun.session.exit_code import run_guarded
from trainrun.terminal.streams import clear_sign, open_streams, show_sign, stop_before
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.version import __version__

SHARED = ("train", "resume")  # among the processes that torchrun or srun starts
_SLOW = ("train", "resume", "evaluate", "predict", "export", "check", "find_lr", "find_batch", "plot")
# What opens stored runs, which may be a stranger's, and so imports nothing of this folder by itself.
STORED = ("resume", "evaluate", "predict", "export", "doctor", "compare", "runs")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Never raises for a user's mistake."""
    if argv is None:  # the process is ours
        open_streams()
        end_at_once()
        stop_before(clear_sign)
    words = list(sys.argv[1:] if argv is None else argv)
    gc.disable()  # until parts are built: composing makes many small objects and hardly any garbage
    # libgomp's threads spin at every barrier; where other processes want the cores a step then takes
    # up to ten times as long. It reads this once, when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    code = run_guarded(lambda: _dispatch(words), words)
    clear_sign()
    _thaw()
    ranks.leave(clean=False)  # where it was, it has left
    if argv is None and ranks.launched().size > 1:
        ranks.end(code)
    return code


def _thaw() -> None:
    """Let the collector see what was there before: at the end it closes what a user's module left open."""
    if gc.get_freeze_count():
        from trainrun.config.call import IMPORTED

        if IMPORTED:
            gc.unfreeze()


def _dispatch(words: list[str]) -> int:
    if "COMP_LINE" in os.environ or any(w in ("-sc", "--shell-completion") for w in words):
        return _run("complete", words)
    if _asks_for_help(words):
        return _run("help", words[1:])
    if words and words[0] == "--version":
        print(f"trainrun {__version__}")
        return 0
    if words[:1] in (["-q"], ["-v"]) and words[1:2] and words[1] in COMMANDS:
        words = [*words[1:], words[0]]
    if words and words[0] in COMMANDS:
        return _run(words[0], words[1:])
    # A setting in another form is no command, and is refused where it is composed.
    if words and _is_command(words[0]) and as_overrides(words, ())[:1] == words[:1]:
        raise _no_such_command(words[0])
    return _run("train", words)


def _asks_for_help(words: list[str]) -> bool:
    """As the first word, or a flag anywhere among settings; a command has a help of its own."""
    of_command = bool(words) and words[0] in COMMANDS
    return words[:1] == ["help"] or (not of_command and any(word in ("-h", "--help") for word in words))


def _no_such_command(word: str) -> ConfigError:
    if is_file(f"{word}.yaml"):
        return ConfigError.of(word, "no such command, but there is a file of that name", f"{word}.yaml")
    hint = did_you_mean(word, COMMANDS)
    commands = f"{', '.join(COMMANDS)}, and settings such as optimizer.lr=0.1"
    text = f"no such command{hint} There are {commands}" if hint else f"no such command; there are {commands}"
    return ConfigError.of(word, text)


def _is_command(word: str) -> bool:
    """A word that cannot be an override, a flag or a file is a command."""
    return "=" not in word and word[:1] not in ("-", "+", "~") and not word.endswith((".yaml", ".yml"))


def _run(name: str, words: list[str]) -> int:
    """Run a command's module, imported only now: --help and mistakes must not wait for torch."""
    ranks.join()
    if ranks.size() > 1 and name not in SHARED:
        text = f"is the work of one process; run it without {ranks.command()[0]}"
        raise ConfigError.of(name, text, shlex.join(["trainrun", name, *words]))
    name = {"eval": "evaluate"}.get(name, name.replace("-", "_"))  # of its module
    is_stored = name in STORED or (name == "plot" and words[:1] in (["run"], ["sweep"]))
    if not is_stored and not is_run(Path.cwd()):  # what lies in a run's folder may have come from anybody
        sys.path.insert(0, os.getcwd())  # the user's own modules
    if name in _SLOW and "-q" not in words and ranks.is_main_process():
        show_sign("trainrun is starting")
    with ranks.silence_other_ranks(), imports.held_back() if is_stored else contextlib.nullcontext():
        try:
            code: int = importlib.import_module(f"trainrun.cli.{name}").run(words)
        except ParserExitError as end:
            code = end.code
    ranks.leave(clean=True)
    return code
