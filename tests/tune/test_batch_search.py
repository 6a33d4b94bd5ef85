"""The search for micro-batches, over a machine whose memory is a formula."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from trainrun.tune.batch import TriedSize
from trainrun.tune.batch_search import search_batch
from trainrun.tune.batch_trials import BatchTrials
from trainrun.tune.trial import Survey
from trainrun.vocabulary.errors import OutOfMemoryError, TrainrunError

SURVEY = Survey(
    batch_size=8,
    window=32,
    samples_per_step=32,
    is_full=False,
    scales_lr=False,
    split="val",
    split_size=100,
    eval_batch_size=50,
    device="cpu",
    on_gpu=False,
    has_batch_norm=False,
    built_bytes=0,
    device_bytes=None,
)
MB = 10**6


class Machine(BatchTrials):
    """`room` megabytes; a sample takes 10 in training and 1 in evaluation, and both at once their sum."""

    def __init__(self, room: int, survey: Survey = SURVEY, failure: str = "") -> None:
        self.room, self._survey, self.failure = room, survey, failure
        self.overrides, self.limit = ["model=mlp", "batch_size=8"], f"{room} MB a process"
        self.cautions, self.lengths_differ = {}, False
        self.cuts: list[Sequence[str]] = []

    def survey(self) -> Survey:
        return self._survey

    def _size(self, size: int, pieces: int, megabytes: int, is_beyond: bool = False) -> TriedSize:
        if self.failure:
            return TriedSize(size, pieces, None, self.failure)
        fits = megabytes <= self.room
        why = "" if fits else "takes more than the limit"
        return TriedSize(size, pieces, fits, why, 100.0 * size, 0.0, megabytes * MB, None, is_beyond)

    def train(self, size: int, pieces: int, is_beyond: bool = False) -> TriedSize:
        return self._size(size, pieces, 10 * size, is_beyond)

    def time_evaluation(self, size: int, pieces: int, cut: Sequence[str]) -> TriedSize:
        self.cuts.append(cut)
        return self._size(size, pieces, size)

    def together(self, overrides: Sequence[str]) -> TriedSize:
        values = dict(word.split("=") for word in overrides)
        size = int(values["batch_size"])
        return self._size(size, 1, 10 * size + int(values.get("data.eval_batch_size", 0)))


@pytest.mark.parametrize(("room", "largest"), [(319, 16), (320, 32), (159, 8), (160, 16)])
def test_the_largest_divisor_of_the_window_that_fits_is_taken(room: int, largest: int) -> None:
    result = search_batch(Machine(room, replace(SURVEY, split="")), None)
    assert result.overrides == [f"batch_size={largest}", f"loop.accumulate={32 // largest}"]
    assert result.command == f"trainrun model=mlp batch_size={largest} loop.accumulate={32 // largest}"
    assert result.evaluation is None and "no validation or test split" in result.no_evaluation


def test_an_evaluation_is_tried_in_a_run_cut_as_was_found() -> None:
    machine = Machine(1000)
    result = search_batch(machine, None)
    assert result.evaluation is not None and result.evaluation.largest.size >= 100
    assert set(map(tuple, machine.cuts)) == {("batch_size=32", "loop.accumulate=1")}


def test_where_both_do_not_fit_at_once_the_hungrier_is_made_smaller() -> None:
    result = search_batch(Machine(330), None)  # 32 samples take 320, and an evaluation of 112 alone fits
    assert result.train.largest.size == 16 and "not in a run that trains and evaluates" in "".join(
        trial.why for trial in result.train.tried
    )
    assert result.whole.fits


def test_larger_than_the_window_is_tried_for_its_rate_alone() -> None:
    result = search_batch(Machine(1000, replace(SURVEY, split="")), 128)
    assert [trial.size for trial in result.train.tried if trial.is_beyond][-1] == 128
    assert result.train.largest.size == 32
    below = search_batch(Machine(1000, replace(SURVEY, split="")), 8)
    assert max(trial.size for trial in below.train.tried) == 8


def test_no_size_that_fits_and_none_that_runs_are_told_apart() -> None:
    with pytest.raises(OutOfMemoryError, match="batch_size=1: takes more than the limit, 9 MB a process"):
        search_batch(Machine(9), None)
    with pytest.raises(TrainrunError, match="ValueError; no size that was tried runs"):
        search_batch(Machine(100, failure="ValueError"), None)


def test_batch_norm_and_uneven_inputs_are_noted() -> None:
    machine = Machine(1000, replace(SURVEY, has_batch_norm=True))
    machine.lengths_differ = True
    labels = [label for label, _ in search_batch(machine, None).notes]
    assert labels == ["batch norm", "caution"]
