"""Run a sweep from Python in a subprocess, whose jobs are forks of a process that has computed nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from trainrun.config.compose.composer import Composer, experiment_files, parse_arguments
from trainrun.session.child import ENDING, handled
from trainrun.sweep.engine import planned
from trainrun.sweep.folder import FILE, StoredSweep, find_named, read
from trainrun.vocabulary.errors import TrainrunError


def sweep(words: list[str]) -> StoredSweep:
    """Sweep as `trainrun WORDS` would. Raises ConfigError with the problems of all jobs."""
    arguments = parse_arguments(experiment_files(words))
    _, _, path = planned(Composer(arguments.config_dir), arguments.overrides, None)
    return sweep_in_process(words, path)


def resume_sweep(name: str, words: list[str]) -> StoredSweep | None:
    """Resume the sweep of that name as `trainrun resume` would; None where there is none."""
    path = find_named(name)
    return None if path is None else sweep_in_process(["resume", name, *words], path)


def sweep_in_process(words: Sequence[str], folder: Path) -> StoredSweep:
    """Run `trainrun WORDS` and read the sweep's record; a signal is raised again once the jobs are saved."""
    before, received = _stamp(folder), list[int]()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.Popen([sys.executable, "-m", "trainrun", *words], env=environment)

    def pass_on(number: int, frame: object) -> None:
        received.append(number)
        child.send_signal(number)

    is_main = threading.current_thread() is threading.main_thread()
    with handled(ENDING if is_main else (), pass_on):
        code = child.wait()
    if received:
        raise KeyboardInterrupt if received[0] == signal.SIGINT else SystemExit(128 + received[0])
    if _stamp(folder) == before:
        error = TrainrunError(f"the sweep ended with exit code {code}; the error is printed above")
        error.exit_code = code
        raise error
    return read(folder)


def _stamp(folder: Path) -> int | None:
    file = folder / FILE
    return file.stat().st_mtime_ns if file.exists() else None
