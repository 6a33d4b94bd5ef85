"""Windows end with the epoch, and go on from where a rollback leads to."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from toy import ToyData, mlp, new_state

from trainrun.loop.windows import Windows
from trainrun.protocols import Batch, BatchSpec, Position


def sizes(windows: Windows, count: int) -> list[list[int]]:
    cut = itertools.islice(windows(new_state(mlp())), count)
    return [[len(batch) for batch in window] for window in cut]


def test_the_last_window_of_an_epoch_is_short() -> None:
    epoch = [[4, 4, 4]] * 3 + [[4, 1]]  # 41 samples
    assert sizes(Windows(ToyData(), BatchSpec(4, 3), 1), 8) == epoch * 2


def test_a_whole_epoch_may_be_one_window() -> None:
    assert sizes(Windows(ToyData(), BatchSpec(41, 1), 1), 3) == [[41]] * 3


class Ending(ToyData):
    """Data that end, which only a stub's do."""

    def train_batches(self, *place: object) -> Iterator[Batch]:
        yield from itertools.islice(super().train_batches(*place), 5)  # type: ignore[arg-type]


def test_data_that_end_are_not_begun_again() -> None:
    assert sizes(Windows(Ending(), BatchSpec(4, 3), 1), 9) == [[4, 4, 4]]


@pytest.mark.parametrize("back_to", [Position(0, 12), Position(1, 0)])
def test_after_a_rollback_windows_come_from_its_position(back_to: Position) -> None:
    state, windows = new_state(mlp()), Windows(ToyData(), BatchSpec(4, 3), 1)
    expected_state = new_state(mlp())
    expected_state.position = back_to
    expected = [list(batch.indices) for batch in next(windows(expected_state))]
    running = windows(state)
    next(running), next(running)
    for _ in range(2):  # more than once
        state.rollbacks, state.position = state.rollbacks + 1, back_to
        assert [list(batch.indices) for batch in next(running)] == expected


def test_the_first_epoch_is_whole_and_its_own() -> None:
    windows = Windows(ToyData(), BatchSpec(4, 3, num_ranks=2, rank=1), 1)
    indices = [int(i) for batch in windows.first_epoch() for i in batch.indices]
    assert sorted(indices) == list(range(41))


class Stream(ToyData):
    def __init__(self) -> None:
        super().__init__()
        self.info = self.info.__class__(**{**vars(self.info), "sizes": {"train": None}})

    def train_batches(self, position: Position, batch_spec: BatchSpec, seed: int) -> Iterator[Batch]:
        for offset in itertools.count(1):
            batch = next(super().train_batches(Position(), batch_spec, seed))
            yield Batch(batch.inputs, batch.targets, batch.indices, Position(0, offset))


def test_of_a_stream_a_hundred_batches_stand_for_an_epoch() -> None:
    windows = Windows(Stream(), BatchSpec(4, 1), 1)
    assert len(list(windows.first_epoch())) == 100
    assert windows.epoch(Position(0, 12)) is None


def test_an_epoch_is_counted_in_samples() -> None:
    windows = Windows(ToyData(), BatchSpec(4, 3), 1)
    assert windows.epoch(Position(2, 0)) == 2.0
    assert windows.epoch(Position(1, 12)) == round(1 + 12 / 41, 4)
