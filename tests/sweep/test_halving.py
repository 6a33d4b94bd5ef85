"""Successive halving against rungs and costs reckoned by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from trainrun.config.compose.exclusion import exclusion
from trainrun.config.space import Choices, Point, SearchInterval
from trainrun.sweep.halving import Halving, value_at
from trainrun.sweep.outcome import TriedPoint, outcome

LR = SearchInterval("lr", 1e-5, 1e-1, is_log=True, is_int=False)


def halving(
    trials: int | None, reduction: int = 4, axes: list | None = None, maximize: bool = True, rules: Any = None
) -> Halving:
    axes = axes or [LR]
    return Halving(reduction, 0, {}, axes, exclusion(rules, axes, False), trials, maximize)


def trained(folder: Path, values: list[float], total: int = 100, **status: object) -> Path:
    """A run that was judged every ten steps."""
    folder.mkdir(exist_ok=True)
    records = [
        {"event": "eval", "step": 10 * number, "split": "val", "accuracy": value}
        for number, value in enumerate(values, 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    content = {
        "state": "interrupted",
        "reason": "paused",
        "monitor": "val/accuracy",
        "step": 10 * len(values),
    }
    best = {"best": {"step": 10, "metrics": {"accuracy": max(values, default=0.0)}}}
    (folder / "status.json").write_text(json.dumps(content | best | {"total_steps": total} | status))
    return folder


def test_a_hundred_candidates_cost_a_few_full_runs() -> None:
    search = halving(100)
    assert search.shares() == [1 / 64, 1 / 16, 1 / 4, 1]
    cost = 100 / 64 + 25 * (1 / 16 - 1 / 64) + 6 * (1 / 4 - 1 / 16) + 1 * (1 - 1 / 4)
    assert f": {cost:.1f} full runs" in search.about and cost < 5


@pytest.mark.parametrize(("count", "reduction", "shares"), [(3, 4, 1), (4, 4, 2), (27, 3, 4), (26, 3, 3)])
def test_one_candidate_remains(count: int, reduction: int, shares: int) -> None:
    assert len(halving(count, reduction).shares()) == shares


@pytest.mark.parametrize("maximize", [True, False])
def test_the_best_go_on_and_the_last_to_the_end(tmp_path: Path, maximize: bool) -> None:
    search = halving(9, 3, maximize=maximize)
    quality = {point: 0.9 - 0.1 * point.trial for point in search.points}  # type: ignore[operator]
    rungs = []
    for batch in search.batches():
        rungs.append(([point.trial for point in batch.points], batch.share))
        folders = {
            point: trained(tmp_path / str(point.trial), [quality[point]] * 4) for point in batch.points
        }
        search.tell([TriedPoint(point, folder, outcome(folder)) for point, folder in folders.items()])
    best = [0, 1, 2] if maximize else [8, 7, 6]
    assert [(sorted(trials), share) for trials, share in rungs] == [
        (list(range(9)), 1 / 9),
        (sorted(best), 1 / 3),
        (best[:1], None),
    ]


def test_replicates_go_on_together_by_their_mean(tmp_path: Path) -> None:
    seed = Choices("seed", (("seed=0",), ("seed=1",)))
    axis = Choices("a", tuple((f"a={n}",) for n in range(4)))
    search = halving(None, 4, [axis, seed])
    values = {0: (0.9, 0.1), 1: (0.6, 0.6), 2: (0.5, 0.5), 3: (0.1, 0.1)}
    batches = search.batches()
    first = next(batches)
    assert len(first.points) == 8
    tried = []
    for point in first.points:
        value = values[point.trial or 0][int(point.words[-1][-1])]
        folder = trained(tmp_path / "-".join(point.words), [value] * 9)
        tried.append(TriedPoint(point, folder, outcome(folder)))
    search.tell(tried)
    assert {point.words[0] for point in next(batches).points} == {"a=1"}


def test_what_came_after_the_rung_does_not_count(tmp_path: Path) -> None:
    folder = trained(tmp_path / "job", [0.2, 0.5, 0.4, 0.9])
    candidate = TriedPoint(Point(()), folder, outcome(folder))
    # the first evaluation at or behind step 25 is at 30
    assert value_at(candidate, 0.25, maximize=True) == 0.5
    assert value_at(candidate, 0.1, maximize=True) == 0.2
    assert value_at(candidate, 0.25, maximize=False) == 0.2
    assert value_at(candidate, 0.4, maximize=True) == 0.9


def test_a_candidate_that_failed_does_not_go_on(tmp_path: Path) -> None:
    folder = trained(tmp_path / "job", [0.9], state="failed")
    assert value_at(TriedPoint(Point(()), folder, outcome(folder)), 0.1, maximize=True) is None


def test_candidates_that_a_rule_leaves_out_are_none() -> None:
    size = Choices("size", tuple((f"size={n}",) for n in (1, 2, 4, 8)))
    search = halving(None, axes=[size], rules=["size>4"])
    assert [point.words for point in search.points] == [("size=1",), ("size=2",), ("size=4",)]
    assert search.about.endswith("full runs; 1 excluded by sweep.exclude")
    drawn = halving(9, axes=[LR], rules=["lr<0.01"])
    assert len(drawn.points) == 9
    assert all(float(point.words[0].partition("=")[2]) >= 0.01 for point in drawn.points)
