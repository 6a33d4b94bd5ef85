"""The verdict that a run waits for its data: when it is due, once, with what helps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from toy import ToyData, mlp, new_state

from trainrun.loop import clock as module
from trainrun.loop.clock import Clock


class Time:
    """A clock that moves when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    time = Time()
    monkeypatch.setattr(module, "time", time)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    return time


def warnings_after(time: Time, windows: list[tuple[float, float]], data: Any = None) -> list[str | None]:
    """What is said after log windows of one step each: (seconds of waiting, of computing)."""
    state = new_state(mlp())
    clock, said = Clock(state), []

    def batches(waits: float) -> Any:
        time.now += waits
        yield []

    for waits, computes in windows:
        clock.fetch(batches(waits))
        time.now += computes
        clock.record_step()
        assert clock.data_wait() == pytest.approx(waits / (waits + computes))
        clock.restart(state)
        said.append(clock.starved(data or ToyData()))
    return said


def test_it_is_said_once_and_with_the_remedy(time: Time) -> None:
    assert warnings_after(time, [(1, 1), (4, 4), (4, 4), (4, 4)]) == [
        None,
        None,  # 4 s are few
        "waiting for data took 50% of 16 s of steps; resume with data.num_workers=4, or have them in memory",
        None,
    ]


@pytest.mark.parametrize(
    "windows",
    [
        [(60, 1), (0.1, 9), (0.1, 9)],  # loaders that start
        [(0, 1), (20, 80), (20, 80)],  # a fifth
        [(0, 1), (2, 1)],  # a moment
    ],
)
def test_nothing_is_said_of_little(time: Time, windows: list[tuple[float, float]]) -> None:
    assert warnings_after(time, windows) == [None] * len(windows)


def test_the_remedy_fits_the_data(time: Time) -> None:
    resident, on_disk, loading = ToyData(), ToyData(), ToyData()
    resident.info = replace(resident.info, in_memory=True)
    on_disk.info = replace(resident.info, files="0123")
    loading.num_workers = 4  # type: ignore[attr-defined]
    for data, word in (
        (resident, "batch_size"),
        (on_disk, "data.memory_mib"),
        (loading, "4 loader processes on 4 cores"),
    ):
        assert word in str(warnings_after(time, [(1, 1), (9, 1)], data)[-1])


def test_time_is_that_of_the_innermost_part_and_the_rest_are_steps(time: Time) -> None:
    state = new_state(mlp())
    state.seconds_by_part = {"steps": 100.0, "save": 10.0, "logging": 1.0}  # by the processes before
    clock = Clock(state)
    time.now += 1
    clock.fetch(iter([[]]))
    with clock.part("evaluation"):
        time.now += 2
        with clock.part("logging"):
            time.now += 4
        time.now += 8
    with clock.part("save"):
        time.now += 16
    time.now += 32
    here = {"steps": 33, "data": 0, "evaluation": 10, "save": 16, "logging": 4, "profiling": 0}
    assert clock.seconds_here() == here
    assert clock.seconds_by_part() == {**here, "steps": 133, "save": 26, "logging": 5}


def test_waiting_counts_as_data_also_where_a_signal_ends_it(time: Time) -> None:
    def waits() -> Any:
        time.now += 3
        yield []
        time.now += 5
        raise KeyboardInterrupt

    clock, windows = Clock(new_state(mlp())), waits()
    clock.fetch(windows)
    time.now += 7
    clock.record_step()
    with pytest.raises(KeyboardInterrupt):
        clock.fetch(windows)
    assert (clock.seconds_here()["data"], clock.seconds_here()["steps"]) == (8, 7)


def test_a_part_ends_where_it_fails(time: Time) -> None:
    clock = Clock(new_state(mlp()))

    def fail() -> None:
        time.now += 1
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), clock.part("evaluation"):
        fail()
    time.now += 2
    assert clock.seconds_here()["steps"] == 2
