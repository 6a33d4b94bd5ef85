"""Runs whose weights are divided among ranks, against the same with one process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ranked
import torch
from ranked import KINDS, Came, Ranks
from rounding import near

TORTURE = pytest.mark.torture
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
            assert ours == near(theirs, 1e-4)


HARD = ("sam", "class weights", "parameters used by some", "clipping and a penalty", "adamw and an average")


@pytest.mark.parametrize(
    ("shard", "reduce"),
    [pytest.param(None, "last", marks=TORTURE), pytest.param(2, "every", marks=TORTURE), (2, "last")],
)
def test_four_ranks_and_replicas_train_as_one(
    in_ranks: Ranks, alone: dict[str, Came], tmp_path: Path, shard: int | None, reduce: str
) -> None:
    ranks = in_ranks.values(4, ranked.train_sharded, tmp_path / "four", 4, shard, reduce, HARD)
    for kind in HARD:
        compare(kind, [each[kind] for each in ranks], alone[kind])


@pytest.mark.parametrize(
    ("size", "shard"), [(2, None), pytest.param(4, 2, marks=TORTURE), pytest.param(4, None, marks=TORTURE)]
)
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


def test_all_ranks_roll_back_to_their_shards(in_ranks: Ranks, tmp_path: Path) -> None:
    rollbacks, weights, step = ranked.roll_back(tmp_path / "one")
    for came in in_ranks.values(2, ranked.roll_back, tmp_path / "two", True):
        assert (came[0], came[2]) == (rollbacks, step)
        assert rollbacks
        torch.testing.assert_close(came[1], weights, rtol=0, atol=2e-6)


def test_what_is_not_finite_is_found_whichever_rank_saw_it(in_ranks: Ranks) -> None:
    for where, samples, norm, indices in in_ranks.values(2, ranked.break_sample, 7, True):
        assert (where, samples, norm, indices) == ("the inputs", [7], "nan", [[0, 1, 2, 3], [4, 5, 6, 7]])


def test_a_run_is_divided_by_its_blocks_or_refused(in_ranks: Ranks, tmp_path: Path) -> None:
    for divided in in_ranks.values(2, ranked.divided_as):
        assert divided == {
            "blocks": ["0.weight: 4 of 8 rows", "1.weight: 2 of 3 rows", "clone equal"],
            "devices": [{"cpu"}, {"meta"}],
            "tied": "parallel.blocks: a.weight and b.weight are one weight, "
            "which blocks cannot divide apart; name a module of both",
            "shard=4": "parallel.shard: must be a divisor above 1 of the number of ranks, got 4 for 2 ranks",
            "offload": "parallel.offload: has no effect: "
            "the weights of ranks on CPUs lie in host memory already",
            "scalar": "parallel: fsdp cannot divide this model: "
            "fully_shard doesn't support scalar parameters. Change s to a 1D tensor with numel equal to 1.",
        }


# ---- Whole runs, of two ranks beside one process


MINE = """
import torch
from torch.nn import functional as F


class Layers(torch.nn.Module):
    def __init__(self, input_shape, num_outputs):
        super().__init__()
        sizes = (3072, 8, 8)
        self.layers = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(n, 8), torch.nn.Tanh()) for n in sizes
        )
        self.head = torch.nn.Linear(8, num_outputs)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


class Lit(Layers):
    def training_step(self, batch):
        x, y = batch
        for layer in self.layers:
            x = layer(x)
        return F.cross_entropy(self.head(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", F.cross_entropy(self(x), y) + 0 * batch_idx)


class Loss(Layers):
    def forward(self, batch):
        return {"loss": F.cross_entropy(super().forward(batch[0]), batch[1])}


def task(model, batch):
    return F.cross_entropy(model.head(model.layers[0](batch.inputs)), batch.targets)


def probe(model, batches, step):
    return {}
"""
SMALL = ["data=synthetic", "data.num_samples=50", "data.test_fraction=0", "budget=2ep", "batch_size=4"]
SMALL += ["logger=none", "run_dir=run", "loop.log_every=1step"]
MLP = ["model=mlp", "model.width=8", "model.depth=3"]
BACKBONE = "+parameters.rules.backbone.freeze=true"
OWN, PARTS = "model._target_=mine.Layers", "optimizer.modules={body: adamw, head: sgd}"
RUNS = {
    "unfrozen later, checkpointed, averaged": (
        *(*MLP, BACKBONE, "parameters.unfreeze_at=1ep", "runtime.activation_checkpointing=auto"),
        *("regularization=[dropout,ema]", "loop.clip.agc=0.05", "parallel.reduce=last"),
    ),
    "a module of Lightning that calls its parts": ("model._target_=mine.Lit", "task=lightning"),
    "an optimizer for each module": (*MLP, "optimizer=per_module", PARTS),
    "adapters": (*MLP, "parameters.lora={rank: 2, targets: 'body.*'}"),
    "a loss of the model's own": ("model._target_=mine.Loss", "task=model_loss"),
    "Lightning, checkpointed, schedule-free": (
        *("model._target_=mine.Lit", "task=lightning", "runtime.activation_checkpointing=layers.*"),
        "optimizer=schedule_free",
    ),
    "two replicas of two shards": (*MLP, "parallel.shard=2", "regularization=[dropout,swa]"),
}
REFUSED = {
    "loop.probes": (*MLP, "loop.probes=[mine.probe]"),
    "model: has a part that the task calls by itself": (OWN, "task._target_=mine.task", "monitor=val/loss"),
    "runtime.compile": (*MLP, "runtime.compile=model"),
    "optimizer: Adafactor needs means of rows and columns": (*MLP, "optimizer=adafactor"),
    "task: gan sums nothing over ranks": ("experiment=gan", "data=synthetic"),
}
SAMPLE = [*RUNS][:2], [*REFUSED][:2]


def cases(of: dict[str, tuple[str, ...]], sample: list[str]) -> list[Any]:
    return [pytest.param(of[name], id=name, marks=[] if name in sample else TORTURE) for name in of]


def metrics_of(in_ranks: Ranks, folder: Path, size: int, *words: str) -> list[Any]:
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    for said in in_ranks.values(size, ranked.command, folder, *SMALL, *words):
        assert said.code == 0, said.err
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("words", cases(RUNS, SAMPLE[0]))
def test_a_run_of_two_ranks_is_that_of_one(words: tuple[str, ...], in_ranks: Ranks, tmp_path: Path) -> None:
    size = 4 if "parallel.shard=2" in words else 2
    plain = [word for word in words if not word.startswith("parallel.")]
    expected = metrics_of(in_ranks, tmp_path / "one", 1, *plain, "loop.accumulate=4")
    cut = "parallel=fsdp", f"loop.accumulate={4 // size}"
    assert metrics_of(in_ranks, tmp_path / "more", size, *words, *cut) == near(expected, 1e-4)


@pytest.mark.parametrize("words", cases(REFUSED, SAMPLE[1]))
def test_what_cannot_be_divided_is_refused_in_words(
    words: tuple[str, ...], in_ranks: Ranks, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    said = in_ranks.values(2, ranked.command, tmp_path, *SMALL, *words, "parallel=fsdp")
    text = next(text for text, case in REFUSED.items() if case == words)
    assert [each.code for each in said] == [2, 2]
    assert text in "".join(each.err for each in said)
    assert not (tmp_path / "run").exists()
