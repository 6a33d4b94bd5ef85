"""The baton of the benchmarks: whose turn it is, and what a turn holds. Nothing is timed here."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, groupby

import pytest
from benchmarks.turns import Contestant, race

EPOCH = 4


def test_one_loop_at_a_time_takes_its_steps() -> None:
    log: list[str] = []

    def loop(contestant: Contestant, name: str) -> None:
        for _ in contestant.feed(count()):
            log.append(name)

    contestants = {name: Contestant(lambda it, name=name: loop(it, name)) for name in "abc"}
    assert log == []
    turns = race(contestants, steps=5, turns=3, warm_up=1)
    assert [(name, len(list(steps))) for name, steps in groupby(log)] == [(name, 5) for name in "abc"] * 4
    assert {name: len(taken) for name, taken in turns.items()} == dict.fromkeys("abc", 3)


def test_a_batch_is_made_only_when_its_step_is_due() -> None:
    made: list[int] = []

    def batches() -> Iterator[int]:
        for number in count():
            made.append(number)
            yield number

    contestant = Contestant(lambda it: [None for _ in it.feed(batches())])
    assert made == []
    contestant.turn(3)
    assert made == [0, 1, 2]
    contestant.turn(2)
    assert made == [0, 1, 2, 3, 4]


def test_the_end_of_an_epoch_is_no_step_and_what_follows_the_last_step_is_in_the_turn() -> None:
    log: list[str] = []

    def loop(contestant: Contestant) -> None:
        log.append("set up")
        while True:
            for _ in contestant.feed(range(EPOCH)):
                log.append("step")
                log.append("log")
            log.append("evaluate")

    contestant = Contestant(loop)
    assert log == ["set up"]
    contestant.turn(EPOCH)
    assert log == ["set up", *["step", "log"] * EPOCH]
    contestant.turn(EPOCH + 1)
    assert log[2 * EPOCH + 1 :] == ["evaluate", *["step", "log"] * EPOCH, "evaluate", "step", "log"]


def test_a_loop_may_ask_for_a_step_without_passing_its_batches_on() -> None:
    steps = count()

    def loop(contestant: Contestant) -> None:
        while True:
            contestant.await_step()
            next(steps)

    Contestant(loop).turn(7)
    assert next(steps) == 7


def test_what_fails_in_a_loop_is_raised_where_its_turn_was_given() -> None:
    def failing(contestant: Contestant) -> None:
        for step in contestant.feed(count()):
            if step == 2:
                raise ValueError("diverged")

    contestant = Contestant(failing)
    contestant.turn(2)
    with pytest.raises(RuntimeError) as error:
        contestant.turn(2)
    assert str(error.value.__cause__) == "diverged"
    with pytest.raises(RuntimeError) as error:
        Contestant(lambda it: None)
    assert "ended before" in str(error.value.__cause__)
