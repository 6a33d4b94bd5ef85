"""Dispatches the command line; the one place that prints errors and chooses exit codes."""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from trainrun import __version__, ranks
from trainrun.config import imports
from trainrun.config.arguments import as_overrides
from trainrun.config.paths import is_file, is_run
from trainrun.config.suggest import corrected_line, did_you_mean
from trainrun.runtime.interrupt import end_at_once
from trainrun.terminal.lines import say
from trainrun.terminal.streams import clear_sign, open_streams, show_sign
from trainrun.vocabulary.errors import ConfigError, OutOfMemory, StorageFailed, TrainrunError

COMMANDS = {
    "resume": "continue a run: trainrun resume RUN [overrides]",
    "eval": "evaluate a stored run: trainrun eval RUN [--checkpoint best|last|STEP] [--split train|val|test]",
    "predict": "predict samples, as CSV: trainrun predict RUN [--split SPLIT | --input FILE] [--out FILE]",
    "export": "for other programs: trainrun export RUN FILE.safetensors|.pt2|.onnx [--checkpoint STEP]",
    "check": "what usually breaks late, before training: trainrun check [--picture FILE.png] [overrides]",
    "find-lr": "a learning rate for the run: trainrun find-lr [--min LR] [--max LR] [--apply] [overrides]",
    "find-batch": "the largest batch that fits: trainrun find-batch [--memory SIZE] [--out FILE] [overrides]",
    "doctor": "what went wrong in a run, and what to try: trainrun doctor RUN [--json]",
    "compare": "what differs: trainrun compare RUN RUN ... [--out FILE.png] [--json]",
    "runs": "list the stored runs: trainrun runs [--failed] [--json] [--clean]",
    "plot": "side by side: trainrun plot scheduler|optimizer|init NAME ... [overrides] | run RUN ... | sweep",
    "show": "what can be chosen: trainrun show [TOPIC | GROUP | GROUP/OPTION]",
}
SHARED = ("train", "resume")  # among the processes that torchrun starts
_SLOW = ("train", "resume", "evaluate", "predict", "export", "check", "find_lr", "find_batch", "plot")
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # of a disk, not of the code
# What opens stored runs, which may be a stranger's, and so imports nothing of this folder by itself.
STORED = ("resume", "evaluate", "predict", "export", "doctor", "compare", "runs")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Never raises for a user's mistake."""
    if argv is None:  # the process is ours
        open_streams()
        end_at_once()
    words = list(sys.argv[1:] if argv is None else argv)
    gc.disable()  # until parts are built: composing makes many small objects and hardly any garbage
    # libgomp's threads spin at every barrier; where other processes want the cores a step then takes
    # up to ten times as long. It reads this once, when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    code = guarded(lambda: _dispatch(words), words)
    clear_sign()
    ranks.leave(clean=False)  # where it was, it has left
    if argv is None and ranks.launched().size > 1:
        ranks.end(code)
    return code


def guarded(command: Callable[[], int], words: list[str]) -> int:
    """The command's exit code, or that of what it raised, which is reported."""
    try:
        return command()
    except TrainrunError as error:
        if ranks.tell(error):
            _report(error, words)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads the rest
        return 0
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _STORAGE:
            if ranks.tell(error):
                text = f"{error.filename or 'output'}: cannot be written: {error.strerror}"
                _report(StorageFailed(f"{text}; make room, or write elsewhere"), words)
            return StorageFailed.exit_code
        if _is_out_of_memory(error):
            text = "out of memory before training began; take a smaller model, fewer data, or precision=bf16"
            _report(OutOfMemory(text), words)
            return OutOfMemory.exit_code
        if (dead := _dead_worker(error)) is not None:
            _report(dead, words)
            return dead.exit_code
        if ranks.tell(error):
            say(*_traceback(error), "", f"{_who()}unexpected {type(error).__name__}: {error}")
        return 1


def _traceback(error: Exception) -> Iterator[str]:
    """The lines of a traceback; what an exception says is one of them, whatever it holds."""
    for part in traceback.format_exception(error):
        yield from part.splitlines() if part.startswith("  ") else [part.strip("\n")]


def _is_out_of_memory(error: Exception) -> bool:
    from trainrun.runtime.machine import is_out_of_memory

    return is_out_of_memory(error)


def _dead_worker(error: Exception) -> TrainrunError | None:
    from trainrun.data.workers import workers_error

    return workers_error(error)


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
    if words and _is_command(words[0]):
        if words[0] not in COMMANDS:
            if as_overrides(words, ())[:1] == words[:1]:
                raise _no_such_command(words[0])
            return _run("train", words)  # a setting in another form, which is refused there
        name = {"eval": "evaluate"}.get(words[0], words[0].replace("-", "_"))
        return _run(name, words[1:])
    return _run("train", words)


def _asks_for_help(words: list[str]) -> bool:
    """As the first word, or a flag anywhere among settings; a command has a help of its own."""
    of_command = bool(words) and words[0] in COMMANDS
    return words[:1] == ["help"] or (not of_command and any(word in ("-h", "--help") for word in words))


def _no_such_command(word: str) -> ConfigError:
    if is_file(f"{word}.yaml"):
        return ConfigError.one(word, "no such command, but there is a file of that name", f"{word}.yaml")
    hint = did_you_mean(word, COMMANDS)
    known = f"{', '.join(COMMANDS)}, and settings such as optimizer.lr=0.1"
    text = f"no such command{hint} There are {known}" if hint else f"no such command; there are {known}"
    return ConfigError.one(word, text)


def _is_command(word: str) -> bool:
    """A word that cannot be an override, a flag or a file is a command."""
    return "=" not in word and word[:1] not in ("-", "+", "~") and not word.endswith((".yaml", ".yml"))


def _run(name: str, words: list[str]) -> int:
    """Run a command's module, imported only now: --help and mistakes must not wait for torch."""
    ranks.join()
    if ranks.size() > 1 and name not in SHARED:
        raise ConfigError.one(name, "is the work of one process; run it without torchrun")
    is_stored = name in STORED or (name == "plot" and words[:1] in (["run"], ["sweep"]))
    if not is_stored and not is_run(Path.cwd()):  # what lies in a run's folder may have come from anybody
        sys.path.insert(0, os.getcwd())  # the user's own modules
    if name in _SLOW and "-q" not in words and ranks.is_first():
        show_sign("trainrun is starting")
    with ranks.hush(), imports.held_back() if is_stored else contextlib.nullcontext():
        code: int = importlib.import_module(f"trainrun.cli.{name}").run(words)
    ranks.leave(clean=True)
    return code


def _who() -> str:
    return "" if ranks.is_first() else f"rank {ranks.rank()}: "


def _report(error: TrainrunError, words: list[str]) -> None:
    if not isinstance(error, ConfigError):
        first, *more = error.args or ("",)
        say(f"{_who()}{first}", *more)
    else:
        say(*error.problems)
        command, rest = shlex.join(ranks.command()), words
        if words and words[0] in COMMANDS:
            command, rest = f"{command} {words[0]}", words[1:]
        if line := corrected_line(rest, error.problems, command):
            say("", f"  {line}")
