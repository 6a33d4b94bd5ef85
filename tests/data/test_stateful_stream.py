"""Streams with a state of their own: from any position the same batches as without a break."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from trainrun.data.dataset import DatasetData, from_dataset
from trainrun.data.prepared import as_dataset
from trainrun.protocols import Batch, BatchSpec, Position
from trainrun.vocabulary.errors import ConfigError, DataError, ResumeError


class Numbers(IterableDataset[Any]):
    """Stands where it was left, as many do; begins anew when it has come to its end."""

    num_classes = 2

    def __init__(self, size: int = 45) -> None:
        self.size, self.index, self.reads = size, 0, 0

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        step, first = (1, 0) if worker is None else (worker.num_workers, worker.id)
        while self.index * step + first < self.size:
            number = self.index * step + first
            self.index, self.reads = self.index + 1, self.reads + 1
            yield torch.tensor([float(number), float(torch.rand(()))]), number % 2
        self.index = 0

    def state_dict(self) -> dict[str, Any]:
        return {"index": self.index}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.index = state["index"]


class Remembering(Numbers):
    """Begins anew with every iterator, but for the first after a state was loaded."""

    start = 0

    def __iter__(self) -> Iterator[Any]:
        self.index, self.start = self.start, 0
        return super().__iter__()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.start = state["index"]


class Shuffled(Numbers):
    """Has another order in every pass, and a state with a tensor that it goes on changing."""

    def __init__(self, size: int = 45) -> None:
        super().__init__(size)
        self.epoch, self.counts = 0, torch.zeros(3, dtype=torch.int64)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.epoch))
        for inputs, _ in super().__iter__():
            self.counts += 1
            yield torch.stack([order[int(inputs[0])].float(), self.counts[0].float()]), 1

    def state_dict(self) -> dict[str, Any]:
        return {"index": self.index, "counts": self.counts, "more": [(1, 2.5, None), {"x": "y"}]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        assert state["more"] == [(1, 2.5, None), {"x": "y"}]
        self.index, self.counts = state["index"], state["counts"]


class Sharing(Shuffled):
    """Shares its epoch among loader processes, and heeds a state of the same epoch alone, as others do."""

    def __init__(self, size: int = 45) -> None:
        super().__init__(size)
        self.shared, self.state = torch.zeros((), dtype=torch.int64).share_memory_(), {"epoch": -1}

    def set_epoch(self, epoch: int) -> None:
        self.shared.fill_(epoch)

    def __iter__(self) -> Iterator[Any]:
        self.epoch = int(self.shared)
        self.index = self.state["index"] if self.state["epoch"] == self.epoch else 0
        return super().__iter__()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.state = state


def streamed(train: Any, **changes: Any) -> DatasetData:
    settings: dict[str, Any] = dict.fromkeys(("val", "test", "fold", "limit", "inputs", "targets"))
    settings |= dict.fromkeys(("group", "time", "weights", "collate_function", "target_kind"))
    settings |= {"val_fraction": 0, "test_fraction": 0, "split_seed": 0, "num_folds": 5, "num_workers": 0}
    return from_dataset(train, **{**settings, "eval_batch_size": 8, **changes})


def assert_same(batches: list[Batch], other: list[Batch]) -> None:
    for a, b in zip(batches, other, strict=True):
        assert torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)
        assert torch.equal(torch.as_tensor(a.indices), torch.as_tensor(b.indices))
        assert a.position == b.position


def taken(data: DatasetData, count: int, position: Position | None = None, **spec: Any) -> list[Batch]:
    batch_spec = BatchSpec(**{"batch_size": 8, "accumulate": 1, **spec})
    batches = data.train_batches(position or Position(), batch_spec, 1)
    try:
        return list(islice(batches, count))
    finally:
        batches.close()  # type: ignore[attr-defined]


def stored(position: Position) -> Position:
    """As a checkpoint gives it back."""
    body = io.BytesIO()
    torch.save({"epoch": position.epoch, "offset": position.offset, "stream": position.stream}, body)
    return Position(**torch.load(io.BytesIO(body.getvalue()), weights_only=True))


def numbers(batches: list[Batch]) -> list[float]:
    return [number for batch in batches for number in batch.inputs[:, 0].tolist()]


@pytest.mark.parametrize("kind", [Numbers, Remembering, Shuffled, Sharing])
@pytest.mark.parametrize("num_workers", [0, 2, 3])
@pytest.mark.parametrize("size", [45, 48])  # whose passes end inside a batch, or with one
def test_it_goes_on_anywhere(kind: type[Numbers], num_workers: int, size: int) -> None:
    expected = taken(streamed(kind(size), num_workers=num_workers), 20)
    for breaks in range(19) if num_workers == 0 else (0, 1, 2, 5, 6, 7):
        rest = taken(streamed(kind(size), num_workers=num_workers), 7, stored(expected[breaks].position))
        assert_same(rest[: 19 - breaks], expected[breaks + 1 :][:7])


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
def test_each_process_goes_over_its_part_again_and_again(num_workers: int) -> None:
    batches, count = taken(streamed(Numbers(45), num_workers=num_workers), 30), max(num_workers, 1)
    for number in range(count):
        drawn = numbers(batches[number::count])
        part = list(range(number, 45, count))
        assert drawn == (part * 10)[: len(drawn)] and len(drawn) > len(part) + 8


def test_alone_it_is_read_as_a_stream_without_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with the draws of its samples."""
    ours = taken(streamed(Remembering(45)), 12)
    monkeypatch.delattr(Remembering, "load_state_dict")
    assert_same(ours, taken(streamed(Remembering(45)), 12))


def test_nothing_is_read_again() -> None:
    stream = Numbers(45)
    data, position = streamed(stream), taken(streamed(Numbers(45)), 4)[-1].position
    stream.reads = 0
    assert numbers(taken(data, 1, position)) == list(range(32, 40))
    assert stream.reads == 8


def test_a_pass_has_its_number() -> None:
    drawn = numbers(taken(streamed(Shuffled(16)), 4))
    assert sorted(drawn[:16]) == sorted(drawn[16:]) and drawn[:16] != drawn[16:]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_ranks_and_accumulation_cut_the_same_windows(num_workers: int) -> None:
    expected = taken(streamed(Numbers(), num_workers=num_workers), 12, batch_size=16)
    for accumulate, num_ranks in ((2, 1), (1, 2), (2, 2), (4, 1)):
        cut = {"batch_size": 16 // accumulate // num_ranks, "accumulate": accumulate, "num_ranks": num_ranks}
        for start in (0, 5):
            position = stored(expected[start - 1].position) if start else Position()
            shares = [
                taken(streamed(Numbers(), num_workers=num_workers), 4 * accumulate, position, rank=r, **cut)
                for r in range(num_ranks)
            ]
            parts = [batch for micro in zip(*shares, strict=True) for batch in micro]
            assert torch.equal(
                torch.cat([part.inputs for part in parts]),
                torch.cat([batch.inputs for batch in expected[start : start + 4]]),
            )
            assert torch.equal(
                torch.cat([torch.as_tensor(part.indices) for part in parts]),
                torch.arange(16 * start, 16 * (start + 4)),
            )
            for index, whole in enumerate(expected[start : start + 4]):
                last = shares[0][(index + 1) * accumulate - 1].position
                assert last == whole.position and last.stream == whole.position.stream


def test_others_may_read_in_between() -> None:
    """As sample pictures, batch norm's estimates and evaluations do."""
    expected, data = taken(streamed(Shuffled()), 12), streamed(Shuffled())
    batches = data.train_batches(Position(), BatchSpec(8, 1), 1)
    for index, batch in enumerate(expected):
        assert_same([next(batches)], [batch])
        if index in (1, 5, 6):
            assert_same(taken(data, 2), expected[:2])
        if index in (3, 5):
            assert len(list(data.eval_batches("train"))) == 6


def test_an_evaluation_begins_at_the_beginning() -> None:
    val = Numbers(10)
    data = streamed(Numbers(), val=val)
    list(data.first_given())
    for _ in range(2):
        assert numbers(list(data.eval_batches("val"))) == list(range(10))


def test_another_number_of_processes_is_refused() -> None:
    position = taken(streamed(Numbers(), num_workers=2), 3)[-1].position
    for num_workers in (0, 3):
        with pytest.raises(ConfigError, match=f"of 2 processes .* got {max(num_workers, 1)}") as caught:
            taken(streamed(Numbers(), num_workers=num_workers), 1, position)
        assert caught.value.problems[0].fix == "data.num_workers=2"
    alone = taken(streamed(Numbers()), 3)
    assert_same(taken(streamed(Numbers(), num_workers=1), 1, alone[1].position), alone[2:])


@pytest.mark.parametrize(
    "place",
    [
        "text",
        {"readers": []},
        {"readers": [5], "since": 0},
        {"readers": [{"pass": 0}], "since": 0},
        {
            "readers": [{"pass": 0, "first": 0, "read": 0, "state": {}}],
            "since": 10**12,
        },  # would read for ever
    ],
)
def test_a_place_that_no_run_stores_is_refused(place: Any) -> None:
    for use in (lambda data, position: taken(data, 1, position), DatasetData.require_position):
        with pytest.raises(ResumeError, match="no place in a stream"):
            use(streamed(Numbers()), Position(0, 8, place))


def test_numbers_of_numpy_are_stored_as_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"index": np.int64(8), "share": np.float32(0.5), "is_last": np.bool_(False)}
    monkeypatch.setattr(Numbers, "state_dict", lambda self: state)
    (reader,) = stored(taken(streamed(Numbers()), 1)[0].position).stream["readers"]  # type: ignore[index]
    assert reader["state"] == {"index": 8, "share": 0.5, "is_last": False}
    assert list(map(type, reader["state"].values())) == [int, float, bool]


@pytest.mark.parametrize("value", [np.arange(3), b"bytes", {1, 2}, Numbers(), np.datetime64("2026-01-01")])
def test_a_state_that_no_checkpoint_holds_is_refused(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Numbers, "state_dict", lambda _: {"random": [{"state": value}]})
    text = f"state_dict of Numbers holds a {type(value).__name__}; a checkpoint holds dicts"
    with pytest.raises(DataError, match=text):
        streamed(Numbers())


class Broken(Numbers):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["index"]:
            raise KeyError("shard")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_load_that_fails_is_told_in_words(num_workers: int) -> None:
    position = taken(streamed(Broken(), num_workers=num_workers), 2)[-1].position
    with pytest.raises(DataError, match=r"sample \d+ of Broken failed: KeyError: 'shard'"):
        taken(streamed(Broken(), num_workers=num_workers), 1, position)


class Failing(Numbers):
    def __iter__(self) -> Iterator[Any]:
        for inputs, target in super().__iter__():
            if inputs[0] == 13:
                raise OSError("connection lost")
            yield inputs, target


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_sample_that_fails_is_told_in_words(num_workers: int) -> None:
    with pytest.raises(DataError, match=r"of Failing failed: OSError: connection lost"):
        taken(streamed(Failing(), num_workers=num_workers), 8)


def test_more_processes_than_parts_are_refused() -> None:
    with pytest.raises(DataError, match="the stream Numbers is empty in process 2"):
        taken(streamed(Numbers(2), num_workers=3), 3)


def test_an_empty_pass_is_refused() -> None:
    class Once(Numbers):
        def __iter__(self) -> Iterator[Any]:
            yield from super().__iter__()
            self.index = self.size

    with pytest.raises(DataError, match="the stream Once is empty"):
        taken(streamed(Once(10)), 3)


def test_a_run_of_before_goes_on_by_leaving_out() -> None:
    """Its position has no state; what it has read is read once more, then the rest as it then was."""
    rest = taken(streamed(loader(num_workers=0)), 2, Position(0, 40))
    assert numbers(rest) == [*range(40, 45), *range(11)] and rest[1].position.stream is None


class Loader(DataLoader[Any]):
    """Keeps its state itself, as torchdata's does."""

    num_read = 0
    skips = 0
    num_classes = 2

    def __iter__(self) -> Any:
        skips, self.skips = self.skips, 0
        self.num_read = skips
        for sample in islice(super().__iter__(), skips, None):
            self.num_read += 1
            yield sample

    def state_dict(self) -> dict[str, Any]:
        return {"num_read": self.num_read}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.num_read = self.skips = state["num_read"]


class Plain(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        step, first = (1, 0) if worker is None else (worker.num_workers, worker.id)
        return ((torch.tensor([float(n), 0.0]), n % 2) for n in range(first, 45, step))


def loader(**how: Any) -> Any:
    return as_dataset(Loader(Plain(), **{"batch_size": None, "num_workers": 2, **how}))


def test_a_loader_is_a_stream() -> None:
    expected = taken(streamed(loader(), num_workers=3), 9)  # its processes are its own
    assert sorted(numbers(expected)[:45]) == list(range(45))
    for breaks in (0, 4, 5, 6):
        assert_same(
            taken(streamed(loader()), 2, stored(expected[breaks].position)), expected[breaks + 1 :][:2]
        )
    with pytest.raises(ConfigError, match="loads batches; give it batch_size=None"):
        loader(batch_size=4)


@pytest.mark.filterwarnings("ignore")
def test_torchdata() -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def of_torchdata() -> Any:
        made = stateful.StatefulDataLoader(Numbers(), batch_size=None, num_workers=2)
        made.num_classes = 2
        return as_dataset(made)

    expected = taken(streamed(of_torchdata()), 9)
    assert sorted(numbers(expected)[:45]) == list(range(45))
    for breaks in (0, 1, 4, 5, 6):
        rest = taken(streamed(of_torchdata()), 2, stored(expected[breaks].position))
        assert numbers(rest) == numbers(expected[breaks + 1 :][:2])  # what its processes draw is not in it


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_hugging_face(num_workers: int) -> None:
    datasets = pytest.importorskip("datasets")

    def stream() -> Any:
        table = datasets.Dataset.from_dict(
            {"x": [[float(n), 0.0] for n in range(45)], "label": [0, 1, 0] * 15}
        )
        made = table.to_iterable_dataset(num_shards=4).with_format("torch")
        made.num_classes = 2
        return made

    expected = taken(streamed(stream(), num_workers=num_workers), 16)
    count = max(num_workers, 1)
    parts = [numbers(expected[number::count])[: -(-(45 - number) // count)] for number in range(count)]
    assert sorted(number for part in parts for number in part) == list(range(45))
    for breaks in (0, 1, 4, 5, 6, 7, 11):
        rest = taken(streamed(stream(), num_workers=num_workers), 3, stored(expected[breaks].position))
        assert_same(rest, expected[breaks + 1 :][:3])
