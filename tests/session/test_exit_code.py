"""Every error has its exit code and its words on stderr."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from trainrun import ranks
from trainrun.session.exit_code import run_guarded
from trainrun.vocabulary.errors import (
    ConfigError,
    DataError,
    FolderBusyError,
    NonFiniteError,
    Problem,
    ResumeError,
    StorageError,
)


def raising(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_that_raises_nothing_has_its_own_code(
    code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_guarded(lambda: code, []) == code
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigError.of("seed", "is wrong"), 2, "seed: is wrong"),
        (DataError("data: the file is gone"), 4, "data: the file is gone"),
        (ResumeError("checkpoint: none"), 5, "checkpoint: none"),
        (FolderBusyError("run_dir: held"), 6, "run_dir: held"),
        (StorageError("disk: full"), 9, "disk: full"),
        (
            OSError(errno.ENOSPC, "No space left", "a.txt"),
            9,
            "a.txt: cannot be written: No space left; make room",
        ),
        (MemoryError(), 8, "out of memory before training began"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), 8, "SIGKILL"),
        (KeyboardInterrupt(), 130, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_errors_have_their_codes(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_guarded(raising(error), []) == code
    out, err = capsys.readouterr()
    assert out == "" and said in err and "Traceback" not in err
    assert bool(err) == bool(said)


@pytest.mark.parametrize("error", [ValueError("of the user's\nown code"), OSError(errno.ENOENT, "not there")])
def test_an_unexpected_error_has_its_traceback(error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_guarded(raising(error), []) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert f"unexpected {type(error).__name__}: " in err
    assert "line" in err and "raise error" in err


def test_another_rank_says_who_it_is_unless_all_ranks_met_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ranks, "is_lowest_living", lambda: False)
    monkeypatch.setattr(ranks, "rank", lambda: 1)
    for error in (DataError("data: gone"), NonFiniteError("the gradient's norm is nan")):
        run_guarded(raising(error), [])
    assert capsys.readouterr().err == "rank 1: data: gone\nthe gradient's norm is nan\n"


def test_a_mistake_is_answered_with_the_corrected_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = ConfigError([Problem("epochs", "is called budget here", "budget=3ep")])
    assert run_guarded(raising(error), ["check", "epochs=3", "seed=1"]) == 2
    assert "check budget=3ep seed=1" in capsys.readouterr().err
