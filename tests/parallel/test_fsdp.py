"""Runs whose weights are divided among ranks, against the same with one process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import ranked
import torch
from ranked import KINDS, Came, Ranks

SHARDED = [kind for kind in KINDS if kind != "l-bfgs"]  # which is refused


@pytest.fixture(scope="module")
def in_ranks() -> Iterator[Ranks]:
    with ranked.serving() as ranks:
        yield ranks


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Came]:
    folder = tmp_path_factory.mktemp("alone")
    return {kind: ranked.train(kind, folder / kind, 1) for kind in SHARDED}


@pytest.fixture(scope="module")
def together(in_ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Came]]:
    return in_ranks.values(2, ranked.train_sharded, tmp_path_factory.mktemp("two"), 2, None, "every", SHARDED)


def near(value: object) -> object:
    return pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value


@pytest.mark.parametrize("kind", SHARDED)
def test_two_ranks_train_as_one(kind: str, together: list[dict[str, Came]], alone: dict[str, Came]) -> None:
    compare(kind, [each[kind] for each in together], alone[kind])


def compare(kind: str, ranks: list[Came], single: Came) -> None:
    for came in ranks:
        for name, value in single.weights.items():
            if "running" not in name and "tracked" not in name:  # statistics are each rank's own
                torch.testing.assert_close(came.weights[name], value, rtol=0, atol=2e-6)
        for name in ("step", "samples", "position", "last", "skipped"):
            assert getattr(came, name) == getattr(single, name)
        assert came.evaluations == ranks[0].evaluations, "ranks decide by other metrics"
    if not kind.startswith("batch norm"):
        lines, expected = ([json.loads(line) for line in c.metrics.splitlines()] for c in (ranks[0], single))
        assert len(lines) == len(expected) > 0
        for ours, theirs in zip(lines, expected, strict=True):
            assert ours == {key: near(value) for key, value in theirs.items()}


HARD = ("sam", "class weights", "parameters used by some", "clipping and a penalty", "adamw and an average")


@pytest.mark.parametrize(("shard", "reduce"), [(None, "last"), (2, "every"), (2, "last")])
def test_four_ranks_and_replicas_train_as_one(
    in_ranks: Ranks, alone: dict[str, Came], tmp_path: Path, shard: int | None, reduce: str
) -> None:
    ranks = in_ranks.values(4, ranked.train_sharded, tmp_path / "four", 4, shard, reduce, HARD)
    for kind in HARD:
        compare(kind, [each[kind] for each in ranks], alone[kind])


@pytest.mark.parametrize(("size", "shard"), [(2, None), (4, 2), (4, None)])
def test_every_optimizer_steps_on_shards_as_on_whole_weights(
    in_ranks: Ranks, size: int, shard: int | None
) -> None:
    alone = ranked.optimize([*ranked.OPTIMIZERS], None)
    for came in in_ranks.values(size, ranked.optimize, [*ranked.OPTIMIZERS], shard):
        for kind, weights in alone.items():
            atol = 5e-4 if kind == "muon" else 2e-5  # whose iteration in bfloat16 makes much of a rounding
            torch.testing.assert_close(
                came[kind], weights, rtol=0, atol=atol, msg=lambda m, k=kind: f"{k}: {m}"
            )


def test_muon_orthogonalises_the_whole_matrix(in_ranks: Ranks) -> None:
    for pairs in in_ranks.values(2, ranked.muon_beside_whole):
        for ours, whole in pairs:
            assert torch.equal(ours, whole)
