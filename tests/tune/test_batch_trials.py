"""A size in a process of its own: what becomes of that process is what is said of the size."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainrun.assembly.costs import megabytes
from trainrun.tune import batch_trials
from trainrun.tune.batch_trials import BatchTrialError, BatchTrials, cut_of, replaced
from trainrun.tune.trial import Measured, Survey
from trainrun.vocabulary.errors import ConfigError, OutOfMemoryError

MB = 1_000_000


def survey(**changes: Any) -> Survey:
    facts = {"batch_size": 8, "window": 8, "samples_per_step": 8, "is_full": False, "scales_lr": False}
    facts |= {"split": "val", "split_size": 40, "eval_batch_size": 64, "device": "cpu", "on_gpu": False}
    facts |= {"has_batch_norm": False, "built_bytes": 200 * MB, "device_bytes": None}
    return Survey(**(facts | changes))


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> BatchTrials:
    """Children that build nothing: their `parts` have a plan alone."""
    monkeypatch.setattr(batch_trials, "available_bytes", lambda root: 1000 * MB)
    monkeypatch.setattr(batch_trials, "held_bytes", lambda: 100 * MB)
    # Children are forks of this process, and it may hold more than that limit after other tests.
    monkeypatch.setattr(batch_trials, "watched", nullcontext)
    plan = [("batch norm", "sees 4"), ("data", "iris"), ("caution", "slow")]
    monkeypatch.setattr(BatchTrials, "_built", lambda self, words: SimpleNamespace(plan=plan, words=words))
    monkeypatch.setattr(batch_trials, "survey", lambda parts: survey())
    tries = BatchTrials(["--json"], ["data=iris"], None)
    tries.survey()
    return tries


def measure(monkeypatch: pytest.MonkeyPatch, work: Any) -> None:
    monkeypatch.setattr(batch_trials, "train", work)
    monkeypatch.setattr(batch_trials, "time_evaluation", lambda parts, split: work(parts))
    monkeypatch.setattr(batch_trials, "together", lambda parts, split: work(parts))


def measured(peak_mb: int = 500, samples: int = 4, lengths_differ: bool = False) -> Measured:
    return Measured(samples, 123.0, 0.1, peak_mb * MB, None, lengths_differ)


@pytest.mark.parametrize(("peak_mb", "fits"), [(1000, True), (1001, False)])
def test_what_it_takes_decides(
    peak_mb: int, fits: bool, tries: BatchTrials, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nine tenths of what is available, and what this process holds already."""
    measure(monkeypatch, lambda parts: measured(peak_mb))
    tried = tries.train(4, 2)
    assert (tried.size, tried.pieces, tried.fits, tried.peak_bytes) == (4, 2, fits, peak_mb * MB)
    assert tried.why == ("" if fits else "takes more than the limit")
    assert tries.cautions[4] == ["slow"]


def test_a_gpu_has_its_own_limit(tries: BatchTrials, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_trials, "survey", lambda parts: survey(on_gpu=True, device_bytes=2000 * MB))
    tries.survey()
    assert tries.limit == f"{megabytes(2000 * MB)} MB of it"
    measure(monkeypatch, lambda parts: measured(5000))
    assert tries.train(4, 2).fits


def kill(number: int) -> Any:
    def work(parts: Any) -> Measured:
        os.kill(os.getpid(), number)
        return measured()

    return work


def leave(code: int) -> Any:
    return lambda parts: os._exit(code)


def fail(error: Exception) -> Any:
    def work(parts: Any) -> Measured:
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "fits", "why"),
    [
        (kill(signal.SIGKILL), False, "killed by the system, out of memory"),
        (kill(signal.SIGALRM), False, "died of SIGALRM"),
        (leave(OutOfMemoryError.exit_code), False, "takes more than the limit"),
        (leave(3), None, "ended with exit 3"),
        (fail(MemoryError()), False, "out of memory"),
        (fail(ConfigError.of("data", "is wrong")), None, "data: is wrong"),
        (fail(ValueError("first\nsecond")), None, "ValueError: first"),
        (fail(KeyError()), None, "KeyError: "),
    ],
)
def test_what_ends_it_is_said(
    work: Any,
    fits: bool | None,
    why: str,
    tries: BatchTrials,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    measure(monkeypatch, work)
    tried = tries.train(4, 2)
    assert (tried.fits, tried.why, tried.samples_per_s) == (fits, why, 0.0)
    assert "Traceback" not in capfd.readouterr().err  # a child says nothing itself


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_the_command(
    number: int, code: int, tries: BatchTrials, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure(monkeypatch, kill(number))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        with pytest.raises(BatchTrialError) as ended:
            tries.train(4, 2)
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended.value.code == code


def test_a_run_that_cannot_be_built_ends_the_command_with_its_own_code(
    tries: BatchTrials, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(batch_trials, "survey", fail(ConfigError.of("data", "is wrong")))
    with pytest.raises(BatchTrialError) as ended:
        tries.survey()
    assert ended.value.code == 2 and "data: is wrong" in capfd.readouterr().err
    monkeypatch.setattr(batch_trials, "survey", kill(signal.SIGKILL))
    with pytest.raises(OutOfMemoryError, match=r"before training began \(SIGKILL\)"):
        tries.survey()


@pytest.mark.parametrize(("limit_mb", "has_room"), [(200, True), (199, False)])
def test_a_limit_below_what_is_built_is_refused(
    limit_mb: int, has_room: bool, tries: BatchTrials, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = BatchTrials([], ["data=iris"], limit_mb * MB)
    if has_room:
        limited.survey()
        assert limited.limit == "200 MB a process"
    else:
        with pytest.raises(OutOfMemoryError, match="no size fits into 199 MB a process: 200 MB are taken"):
            limited.survey()


def test_a_larger_limit_than_there_is_changes_nothing(tries: BatchTrials) -> None:
    generous = BatchTrials([], ["data=iris"], 10**15)
    generous.survey()
    assert generous.limit == tries.limit
    assert "leaves a tenth of the memory available now" in tries.limit


def test_a_stream_too_short_for_a_batch_does_not_fit_it(
    tries: BatchTrials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_trials, "survey", lambda parts: survey(split_size=None))
    tries.survey()
    measure(monkeypatch, lambda parts: measured(samples=30, lengths_differ=True))
    assert tries.time_evaluation(30, 1, []).fits
    tried = tries.time_evaluation(31, 1, [])
    assert (tried.fits, tried.why) == (False, "the stream has 30 samples")
    assert tries.lengths_differ


def test_each_try_has_its_own_overrides(
    tries: BatchTrials, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def work(parts: Any) -> Measured:
        with (tmp_path / "words").open("a") as file:
            file.write(" ".join(parts.words) + "\n")
        return measured()

    measure(monkeypatch, work)
    tries.train(4, 2)
    tries.time_evaluation(16, 3, cut_of(4, 2))
    tries.together(["batch_size=8"])
    assert (tmp_path / "words").read_text().splitlines() == [
        "data=iris batch_size=4 loop.accumulate=2",
        "data=iris batch_size=4 loop.accumulate=2 data.eval_batch_size=16",
        "data=iris batch_size=8",
    ]


@pytest.mark.parametrize(
    ("words", "overrides", "line"),
    [
        (["a=1", "batch_size=2", "b=3"], ["batch_size=4"], ["a=1", "batch_size=4", "b=3"]),
        (["+batch_size=2", "batch_size=3"], ["batch_size=4"], ["batch_size=4"]),
        (["a=1"], ["batch_size=4", "loop.accumulate=2"], ["a=1", "batch_size=4", "loop.accumulate=2"]),
        ([], [], []),
    ],
)
def test_an_override_stands_where_the_key_stood(
    words: list[str], overrides: list[str], line: list[str]
) -> None:
    assert replaced(words, overrides) == line
