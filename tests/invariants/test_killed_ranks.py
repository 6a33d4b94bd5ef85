"""A run of several ranks of which one, or all, are killed anywhere ends as one that never was."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ranked
import torch
from ranked import Ranks, serving
from rounding import near
from torture.settings import RANK_KILLS, SEED
from toy import same_bits

from trainrun.checkpoint.reader import load_parts
from trainrun.checkpoint.shards import read

SIZE = 2
# 90 training samples are windows of 16 and one of 10: micro-batches of 4, 4 and 2, and none for the last.
DATA = ["data=synthetic", "data.num_samples=100", "data.val_fraction=0.1", "data.test_fraction=0"]
TRAINS = ["budget=8ep", "checkpoint.every=2step", "loop.log_every=4step", "regularization=[dropout,ema]"]
MODEL = ["model=mlp", "model.width=16", "model.depth=3", "batch_size=4"]
RUN = [*DATA, *TRAINS, *MODEL, "logger=none", "run_dir=run"]
ENGINES = {"ddp": ["parallel.bucket_mb=0.001"], "fsdp": ["parallel.blocks=auto"]}
CUTS = {1: "loop.accumulate=4", 2: "loop.accumulate=2", 4: "loop.accumulate=1"}  # by ranks: the same windows


@pytest.fixture(scope="module")
def in_ranks() -> Iterator[Ranks]:
    with serving() as ready:
        yield ready


def state(folder: Path) -> dict[str, Any]:
    """The newest weights, raw and averaged, whole."""
    stored = load_parts(max((folder / "run" / "checkpoints").glob("step-*")))
    named = stored["model"] | {f"average.{name}": t for name, t in stored["averager"]["model"].items()}
    weights = {name: torch.empty_like(stored, device="cpu") for name, stored in named.items()}
    for name, weight in weights.items():
        read(named[name], weight)
    return weights


def metrics(folder: Path) -> bytes:
    return (folder / "run" / "metrics.jsonl").read_bytes()


def assert_close(folder: Path, other: Path) -> None:
    torch.testing.assert_close(state(folder), state(other), rtol=0, atol=1e-5)
    lines, expected = ([json.loads(line) for line in metrics(f).splitlines()] for f in (folder, other))
    assert lines == near(expected, 1e-5)


def line(folder: Path, engine: str, size: int) -> list[str]:
    """The command that starts a run, or goes on with it, on so many ranks; one alone divides nothing."""
    is_run = (folder / "run" / "config.yaml").exists()
    engine = engine if size > 1 else "ddp"
    return [*(["resume", "run"] if is_run else RUN), f"parallel={engine}", *ENGINES[engine], CUTS[size]]


@pytest.mark.parametrize("engine", ENGINES)
def test_killed_at_random(
    engine: str, in_ranks: Ranks, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    unbroken = tmp_path / "unbroken"
    unbroken.mkdir()
    ended = in_ranks.values(SIZE, ranked.timed_command, unbroken, *line(unbroken, engine, SIZE))
    assert [said.code for said, _ in ended] == [0] * SIZE, ended
    lasts_s, rng, left, number, close = ended[0][1], random.Random(SEED), RANK_KILLS, 0, 0
    while left > 0:
        number += 1
        folder, sizes, is_cut_anew = tmp_path / str(number), rng.choice([[SIZE], [SIZE], [1, 2, 4]]), False
        folder.mkdir()
        for _ in range(min(left, rng.randint(1, 4))):
            moments = {rank: rng.uniform(0, lasts_s) for rank in rng.choice([[0], [1], [0, 1]])}
            size = rng.choice(sizes)
            ended = in_ranks(size, ranked.killed_command, moments, folder, *line(folder, engine, size))
            is_cut_anew |= size != SIZE and (folder / "run" / "checkpoints").is_dir()
            left -= any(end.error == "died" for end in ended)
            if all(end.error == "" and end.value.code == 0 for end in ended):
                break
            assert any(end.error == "died" for end in ended), ended
        last = in_ranks(SIZE, ranked.command, folder, *line(folder, engine, SIZE))
        assert [end.value and end.value.code for end in last] == [0] * SIZE, last
        if is_cut_anew:
            assert_close(folder, unbroken)
            close += 1
        else:
            assert metrics(folder) == metrics(unbroken)
            assert same_bits(state(folder), state(unbroken))
    record_property("rank kills", RANK_KILLS)
    record_property("identical after them", number - close)
    record_property("close", close)
