"""Ranks that store shards are killed anywhere, one or all; what they come to is as if they never were."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
import ranked
from ranked import Ranks, serving
from torture.settings import RANK_KILLS, SEED
from toy import same_bits

from trainrun.checkpoint.reader import path_of, problem_of, steps_in

STEPS, SIZE = 12, 3

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture(scope="module")
def in_ranks() -> Iterator[Ranks]:
    with serving() as ready:
        yield ready


def test_killed_at_random(in_ranks: Ranks, tmp_path: Path) -> None:
    (tmp_path / "unbroken").mkdir()
    expected, lasts_s = in_ranks.values(SIZE, ranked.go_on, tmp_path / "unbroken", STEPS, {})[0]
    rng, left, number = random.Random(SEED), RANK_KILLS, 0
    while left > 0:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        while left > 0:
            victims = rng.choice([[0], [1], [2], [0, 1, 2]])
            moments = {rank: rng.uniform(0, lasts_s) for rank in victims}
            ended = in_ranks(SIZE, ranked.go_on, folder, STEPS, moments)
            left -= 1
            if not any(end.error for end in ended):
                break
            for end in ended:
                assert end.error == "died" or end.error.startswith("RankFailedError"), (moments, end.error)
            stored = steps_in(folder / "checkpoints")
            assert all(
                problem_of(path_of(folder / "checkpoints", step), "this run") is None for step in stored
            )
        last = in_ranks.values(SIZE, ranked.go_on, folder, STEPS, {})
        assert all(same_bits(state, expected) for state, _ in last)
        assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
            f"step-{step:09d}" for step in (STEPS - 1, STEPS)
        ]
