"""A loader process that dies is told with its fate, and an exit code that says which kind it is."""

from __future__ import annotations

import os
import signal
from multiprocessing import Pipe, get_context
from multiprocessing.process import BaseProcess
from typing import Any, cast

import pytest

from trainrun.data.workers import workers_error
from trainrun.vocabulary.errors import DataError, OutOfMemoryError


@pytest.mark.parametrize(
    ("words", "kind", "said"),
    [
        ("(pid 7) is killed by signal: Killed. ", OutOfMemoryError, "killed by SIGKILL"),
        ("(pid 7) is killed by signal: Bus error. It is possible that", OutOfMemoryError, "/dev/shm"),
        ("(pid 7) is killed by signal: Segmentation fault. ", DataError, "killed by SIGSEGV"),
        ("(pid(s) 7, 8) exited unexpectedly", DataError, "loader process died"),
    ],
)
def test_what_torch_says_of_one_is_told_in_words(words: str, kind: type[Exception], said: str) -> None:
    error = workers_error(RuntimeError(f"DataLoader worker {words}"))
    assert type(error) is kind
    assert said in str(error) and "data.num_workers" in str(error)


@pytest.mark.parametrize(
    "error", [RuntimeError("out of luck"), ValueError("DataLoader worker (pid 7)"), OSError()]
)
def test_another_error_is_none_of_theirs(error: Exception) -> None:
    assert workers_error(error) is None


def test_a_broken_connection_is_explained_by_the_process_behind_it() -> None:
    context = get_context("fork")
    worker = context.Process(target=lambda: os.kill(os.getpid(), signal.SIGKILL))
    worker.start()
    worker.join()
    assert "SIGKILL" in str(workers_error(ConnectionResetError(), [worker]))
    other = context.Process(target=lambda: os._exit(3))
    other.start()
    other.join()
    assert "exit code 3" in str(workers_error(EOFError(), [other]))


class Closing:
    """A process whose pipe has closed already, and that the system lets be collected a moment later."""

    def __init__(self) -> None:
        self.exitcode: int | None = None
        self.sentinel, other_end = Pipe()
        other_end.close()

    def join(self, timeout: float) -> None:
        self.exitcode = -signal.SIGKILL


def test_a_process_is_waited_for_between_its_closed_pipe_and_its_exit_code() -> None:
    ended: Any = get_context("fork").Process(target=int)
    ended.start()
    ended.join()
    workers = [ended, cast(BaseProcess, Closing())]
    assert "SIGKILL" in str(workers_error(EOFError(), workers))
