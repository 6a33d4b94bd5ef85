"""Several ranks are one run: the same updates, the same metrics, one end for all."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ranked
import torch
from ranked import KINDS, Came, Flowing, Ranks, Reading, serving
from toy import same_bits

from trainrun import ranks
from trainrun.protocols import BatchSpec, Position, Shard
from trainrun.ranks import RankInfo

pytestmark = pytest.mark.usefixtures("quick_disk")


@pytest.fixture(scope="module")
def in_ranks() -> Iterator[Ranks]:
    with serving() as ready:
        yield ready


@pytest.fixture(scope="module")
def met(in_ranks: Ranks) -> list[dict[str, object]]:
    return in_ranks.values(2, ranked.meetings)


def test_each_knows_its_place(met: list[dict[str, object]]) -> None:
    assert [rank["place"] for rank in met] == [(0, 2, True), (1, 2, False)]


def test_sums_are_over_all_ranks_and_in_every_type(met: list[dict[str, object]]) -> None:
    for rank in met:
        thirds = [torch.full((3, 2), 3.0), torch.tensor(30), torch.full((2,), 3.0, dtype=torch.float64)]
        assert same_bits(rank["added"], thirds)
        assert rank["numbers"] == [3.0, 0.2]
        assert rank["largest"] == [2.0, -1.0]
        assert rank["peaks"] == {"rss_peak_bytes_of_ranks": 2.0}
        assert rank["total"] == {"host": 3.0, "device": torch.tensor(3.0)}


def test_what_the_first_gives_arrives_to_the_last_bit(met: list[dict[str, object]]) -> None:
    for rank in met:
        first = [torch.ones(2), torch.tensor([False]), torch.ones(3, dtype=torch.bfloat16)]
        assert same_bits(rank["given"], first)
        assert same_bits(rank["picture"], torch.arange(48.0).view(1, 3, 4, 4))
        assert rank["is channels last"] and rank["large"] == (1.0, 1.0)
        assert same_bits(rank["first"], {"a": [1.0, "text", None], "b": torch.ones(2)})
        assert same_bits(rank["gathered"], [(1.0, torch.ones(1)), (2.0, torch.full((2,), 2.0))])


def test_a_script_shows_what_ends_a_rank_as_without_ranks(met: list[dict[str, object]]) -> None:
    assert [rank["hook"] for rank in met] == ["_plainly", "_plainly"]  # torch's own would swallow it


def test_one_rank_gives_back_what_it_is_given() -> None:
    tensor = torch.ones(2)
    ranks.join()
    ranks.broadcast([tensor])
    assert torch.equal(tensor, torch.ones(2))
    assert (ranks.rank(), ranks.size(), ranks.is_main_process()) == (0, 1, True)
    assert ranks.add_numbers([2.0]) == ranks.largest([2.0]) == [2.0]
    assert ranks.gather("x") == ["x"]
    assert ranks.broadcast_object("x") == "x"
    assert ranks.report_failure(RuntimeError("x"))
    ranks.leave(clean=True)


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        (None, RankInfo(1, 4, 1, 2)),
        ("LOCAL_WORLD_SIZE", RankInfo(1, 4, 1, 4)),
        ("LOCAL_RANK", RankInfo()),  # as where a cluster names machines, and nobody started several processes
        ("MASTER_ADDR", RankInfo()),
    ],
)
def test_the_launcher_says_who_is_who(
    missing: str | None, expected: RankInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"RANK": 1, "WORLD_SIZE": 4, "LOCAL_RANK": 1, "LOCAL_WORLD_SIZE": 2}
    for name, value in {**said, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    if missing:
        monkeypatch.delenv(missing)
    assert ranks.launched() == expected


# Two ranks are one that accumulates twice as much.


@pytest.fixture(scope="module")
def together(in_ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Came]]:
    return in_ranks.values(2, ranked.train_all, tmp_path_factory.mktemp("together"), 2)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Came]:
    return ranked.train_all(tmp_path_factory.mktemp("alone"), 1)


def near(value: object) -> object:
    """What equals a number of metrics.jsonl to rounding, and anything else exactly."""
    return pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_train_as_one(kind: str, together: list[dict[str, Came]], alone: dict[str, Came]) -> None:
    single, (first, second) = alone[kind], [each[kind] for each in together]
    for name in single.weights:
        if "running" in name or "tracked" in name:
            continue  # statistics are the first rank's own micro-batches
        torch.testing.assert_close(first.weights[name], single.weights[name], rtol=0, atol=1e-6)
        assert torch.equal(first.weights[name], second.weights[name]), "ranks have drifted apart"
    counters = [
        (came.step, came.samples, came.position, came.last, came.skipped) for came in (single, first, second)
    ]
    assert counters[0] == counters[1] == counters[2]
    assert first.evaluations == second.evaluations, "ranks decide by other metrics"
    if kind.startswith("batch norm"):
        return
    lines, expected = ([json.loads(line) for line in came.metrics.splitlines()] for came in (first, single))
    assert len(lines) == len(expected) > 0
    for ours, theirs in zip(lines, expected, strict=True):
        assert ours == {key: near(value) for key, value in theirs.items()}


@pytest.mark.parametrize("size", [3, 4])
def test_three_and_four_ranks_train_as_one(in_ranks: Ranks, size: int, tmp_path: Path) -> None:
    single = ranked.train_divided(tmp_path / "alone", 1)
    for came in in_ranks.values(size, ranked.train_divided, tmp_path / "together", size):
        for kind, alone in single.items():
            torch.testing.assert_close(came[kind].weights, alone.weights, rtol=0, atol=1e-5)
            assert (came[kind].step, came[kind].position) == (alone.step, alone.position)


def test_these_runs_do_what_their_names_say(alone: dict[str, Came]) -> None:
    assert 0 < alone["fp16 that skips"].skipped < 16
    assert alone["early stopping"].step < 16
    used = {name: value.abs().sum() for name, value in alone["parameters used by some"].weights.items()}
    fresh = ranked.sometimes().state_dict()
    assert torch.equal(alone["parameters used by some"].weights["never.weight"], fresh["never.weight"])
    assert not torch.equal(alone["parameters used by some"].weights["rarely.weight"], fresh["rarely.weight"])
    assert used


def test_three_ranks_of_which_some_get_nothing(in_ranks: Ranks, tmp_path: Path) -> None:
    came = in_ranks.values(3, ranked.train, "momentum", tmp_path / "three", 4)
    alone = ranked.train("momentum", tmp_path / "one", 1)  # 4 x 4 is not 4 x 1 x 3: only the lengths compare
    assert {each.step for each in came} == {alone.step}
    assert same_bits(came[0].weights, came[2].weights)


# Judging.


def test_a_split_is_judged_exactly_once_by_all_together(in_ranks: Ranks) -> None:
    alone = ranked.judge()
    for size in (2, 4):  # 3 batches: with 4 ranks one judges nothing
        metrics = in_ranks.values(size, ranked.judge)
        assert all(each == metrics[0] for each in metrics)  # to the last bit: they decide by it
        assert metrics[0] == {name: pytest.approx(value, rel=1e-6) for name, value in alone.items()}
        assert metrics[0]["order"] == pytest.approx(alone["order"], rel=1e-6)


def test_weights_that_differ_are_noticed_before_they_are_judged(in_ranks: Ranks) -> None:
    for ended in in_ranks(2, ranked.diverge):
        assert "RankFailedError: the weights of rank 1 differ from those of rank 0" in ended.error


# One end for all.


@pytest.mark.parametrize("how", ["raised", "killed"])
def test_an_error_on_one_rank_ends_the_others(in_ranks: Ranks, how: str) -> None:
    first, second = in_ranks(2, ranked.fail_on, 1, how)
    assert "RankFailedError" in first.error
    if how == "raised":
        assert "RankFailedError: rank 1 failed: sample 17 is broken\nTraceback" in first.error  # and no more
        assert "RuntimeError: sample 17 is broken" in second.error
    else:
        assert "RankFailedError: rank 1 died" in first.error
        assert second.error == "died"


@pytest.mark.parametrize("what", ["saving", "reading", "loading"])
def test_others_wait_for_a_first_rank_that_makes_progress(
    in_ranks: Ranks, what: str, tmp_path: Path, together: list[dict[str, Came]]
) -> None:
    if what == "loading":
        in_ranks.values(2, ranked.train, "momentum", tmp_path, 2, 7)
    for steps, seconds in in_ranks.values(2, ranked.slow_first, what, tmp_path):
        assert steps == together[0]["momentum"].step
        assert seconds > 5


def test_a_first_rank_whose_storage_hangs_is_named(in_ranks: Ranks, tmp_path: Path) -> None:
    text = "rank 0 made no progress within 2 seconds (runtime.timeout) while writing a checkpoint"
    for ended in in_ranks(
        2, ranked.slow_first, "hanging", tmp_path
    ):  # the first learns of it when it goes on
        assert f"RankFailedError: {text}\n" in ended.error


@pytest.mark.parametrize(
    "before", [{}, {"TORCH_NCCL_TRACE_BUFFER_SIZE": "7", "TORCH_NCCL_DUMP_ON_TIMEOUT": "0"}]
)
def test_nccl_is_watched_before_it_begins(before: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCH_NCCL_DUMP_ON_TIMEOUT", "TORCH_NCCL_TRACE_BUFFER_SIZE"]
    begun: list[dict[str, str]] = []

    def begin(backend: str, **_: object) -> None:
        assert backend == "cpu:gloo,cuda:nccl"
        begun.append({n: os.environ[n] for n in [*names, "TORCH_FR_BUFFER_SIZE"] if n in os.environ})

    for name in [*names, "TORCH_FR_BUFFER_SIZE"]:
        monkeypatch.setenv(name, "")  # so that what is set here is taken back
        monkeypatch.delenv(name)
    for name, value in {**before, "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "launched", lambda: RankInfo(0, 2, 0, 2))
    monkeypatch.setattr(ranks, "Heartbeat", lambda *_: None)
    for name in ("_place", "_heartbeat", "_store"):
        monkeypatch.setattr(ranks, name, getattr(ranks, name))
    monkeypatch.setattr(ranks.atexit, "register", lambda function: None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.distributed.is_nccl_available", lambda: True)
    monkeypatch.setattr("torch.distributed.init_process_group", begin)
    met = iter([(torch.distributed.HashStore(), 0, 2)])
    monkeypatch.setattr(sys.modules["torch.distributed.rendezvous"], "rendezvous", lambda *_, **__: met)
    ranks.join()
    watched = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "3", "TORCH_NCCL_DUMP_ON_TIMEOUT": "1"}
    assert begun == [{**watched, **({} if before else {"TORCH_FR_BUFFER_SIZE": "2000"}), **before}]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_one_rank_stops_all_at_the_same_step(in_ranks: Ranks, rank: int, tmp_path: Path) -> None:
    stopped = in_ranks.values(2, ranked.train, "momentum", tmp_path, 2, 5, rank)
    assert [came.last for came in stopped] == ["Interrupted"] * 2
    assert [came.step for came in stopped] == [6, 6]  # all learn of it in the step from 5 to 6
    assert (tmp_path / "checkpoints" / "step-000000005" / "manifest.json").is_file()


# Going on.


def test_a_stopped_run_goes_on_in_the_same_bits(
    in_ranks: Ranks, tmp_path: Path, together: list[dict[str, Came]]
) -> None:
    kind = "adamw and an average"
    in_ranks.values(2, ranked.train, kind, tmp_path, 2, 7)
    resumed, _ = in_ranks.values(2, ranked.train, kind, tmp_path, 2)
    assert same_bits(resumed.weights, together[0][kind].weights)
    assert resumed.metrics == together[0][kind].metrics


@pytest.mark.parametrize("kind", ["adamw and an average", "dropout, the same draws"])
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (4, 2)])
def test_a_run_goes_on_with_another_number_of_ranks(
    in_ranks: Ranks, kind: str, before: int, after: int, tmp_path: Path, alone: dict[str, Came]
) -> None:
    in_ranks.values(before, ranked.train, kind, tmp_path, before, 6)
    resumed = in_ranks.values(after, ranked.train, kind, tmp_path, after)[0]
    assert resumed.last == "Finished"
    for name, value in alone[kind].weights.items():
        torch.testing.assert_close(resumed.weights[name], value, rtol=0, atol=1e-6)


# Reading.


def test_a_rank_reads_its_own_samples_alone() -> None:
    train, val = Reading(21), Reading(10)
    data = ranked.dataset(train, val)
    train.asked.clear()
    alone = ranked.loaded(data, BatchSpec(4, 1), 6)
    shares = []
    for rank in range(2):
        train.asked.clear()
        shares.append(ranked.loaded(data, BatchSpec(4, 1, num_ranks=2, rank=rank), 3))
        mine = [index for indices, _, _ in shares[-1] for index in indices]
        assert set(train.asked) >= set(mine)
        assert len(train.asked) <= len(mine) + 1  # one stands for none, of which no batch can be made
    in_turn = [batch for turn in zip(*shares, strict=True) for batch in turn]
    assert [batch[:2] for batch in in_turn] == [batch[:2] for batch in alone]
    assert [batch[2] for batch in shares[0]] == [batch[2] for batch in shares[1]]
    assert shares[1][2] == ([17], [17.0], Position(1, 0)) or len(shares[1][2][0]) == 1


def test_a_rank_without_samples_gets_a_batch_of_none() -> None:
    data = ranked.dataset(Reading(18))
    *_, last = ranked.loaded(data, BatchSpec(4, 1, num_ranks=3, rank=2), 2)
    assert last == ([], [], Position(1, 0))


def test_ranks_share_a_stream() -> None:
    data = ranked.dataset(Flowing(2), Flowing(2))
    alone = ranked.loaded(data, BatchSpec(3, 1), 8)
    shares = [ranked.loaded(data, BatchSpec(3, 1, num_ranks=2, rank=rank), 4) for rank in range(2)]
    in_turn = [batch for turn in zip(*shares, strict=True) for batch in turn]
    assert [batch[:2] for batch in in_turn] == [batch[:2] for batch in alone]
    assert (
        [batch[2].offset for batch in shares[0]]
        == [batch[2].offset for batch in shares[1]]
        == [6, 12, 18, 24]
    )
    inputs = [b.inputs[:, 0].tolist() for r in range(2) for b in data.eval_batches("val", Shard(r, 2))]
    assert sorted(number for batch in inputs for number in batch) == [float(n) for n in range(10)]


def test_all_ranks_roll_back_from_what_one_of_them_met(in_ranks: Ranks, tmp_path: Path) -> None:
    first, second = in_ranks.values(2, ranked.roll_back, tmp_path / "two")
    rollbacks, weights, step = ranked.roll_back(tmp_path / "one")
    assert first[0] == second[0] == rollbacks and len(rollbacks) == 1
    assert first[2] == second[2] == step
    assert same_bits(first[1], second[1])
    for name, value in weights.items():
        torch.testing.assert_close(first[1][name], value, rtol=0, atol=1e-6)


def test_all_ranks_learn_that_stored_weights_are_lost(in_ranks: Ranks, tmp_path: Path) -> None:
    said = in_ranks.values(2, ranked.load_lost, tmp_path)
    assert said[0] == said[1] and "step-000000004" in said[0]


@pytest.mark.parametrize("kind", ["own", "same", "repeated"])
def test_every_rank_must_be_given_its_own_samples(in_ranks: Ranks, kind: str) -> None:
    reports = [ended.value for ended in in_ranks(2, ranked.check_shares, kind)]
    expected = "data: gives several ranks the same samples; train_batches must give those of cut.rank"
    assert reports == [expected if kind == "same" else ""] * 2
