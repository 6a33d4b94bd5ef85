"""Train a PyTorch model from YAML: one command, every piece of training advice one flag away."""

from __future__ import annotations

import sys as _sys
from collections.abc import Sequence as _Sequence
from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

from trainrun.vocabulary.errors import ConfigError, TrainrunError
from trainrun.vocabulary.version import __version__

if TYPE_CHECKING:
    from trainrun.session.python import evaluate, export, load, predict
    from trainrun.session.run import Run, history

__all__ = [
    "ConfigError",
    "Run",
    "TrainrunError",
    "__version__",
    "evaluate",
    "export",
    "history",
    "load",
    "predict",
    "resume",
    "train",
]


def __dir__() -> list[str]:
    return sorted(__all__)


def train(overrides: _Sequence[str] = ()) -> Any:
    """Train as `trainrun` would with these words, such as ["model=mlp", "budget=3ep"] or ["my.yaml"].

    Returns the run's result: `run_dir`, `state`, `reason`, `step`, `best`, `seconds` and `metrics` by
    split. With "-m" it returns the sweep's record: `path`, `jobs`, `settings` and `best`.

    Raises ConfigError with all problems of the configuration at once. Ctrl-C saves the run and raises
    KeyboardInterrupt, SIGTERM saves and raises SystemExit(143). What a run sets in this process, such
    as generators and threads, is afterwards as it was.
    """
    from trainrun.session.python import train
    from trainrun.sweep.process import sweep

    return train(overrides, sweep)


def resume(run: str, overrides: _Sequence[str] = ()) -> Any:
    """Go on with a run, or a sweep, as `trainrun resume` would; returns what `train` returns.

    `run`: a path, the beginning of one, a name, or last. `overrides` may change what does not make it
    another run, such as ["budget=40ep"]. A run that is complete is returned as it is.
    """
    from trainrun.session.python import resume
    from trainrun.sweep.process import resume_sweep

    return resume(run, overrides, resume_sweep)


def __getattr__(name: str) -> Any:
    """What is looked up when it is first asked for: importing the package alone stays quick."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "run" if name in ("Run", "history") else "python"
    globals()[name] = getattr(_import_module(f"trainrun.session.{home}"), name)
    return globals()[name]


def _plainly(kind: type[BaseException], error: BaseException, traceback: Any) -> None:
    """Show a mistake that a script does not catch as the command would: its text, and its exit code."""
    if not isinstance(error, TrainrunError):
        _others(kind, error, traceback)
        return
    if _sys.stderr is not None:
        _sys.stderr.write(f"trainrun: {error}\n")
    raise SystemExit(error.exit_code)


_others, _sys.excepthook = _sys.excepthook, _plainly
