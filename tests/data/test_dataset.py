"""Any torch Dataset as data: the same batches whoever loads them, streams that resume, errors by name."""

from __future__ import annotations

import inspect
import os
import random
import signal
import time
from collections.abc import Iterator
from itertools import islice
from multiprocessing import active_children, connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, get_worker_info
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from toy import same_bits

from trainrun.data.dataset import DatasetData, from_dataset
from trainrun.loop.evaluate import evaluate
from trainrun.loss import MSE
from trainrun.model.linear import Linear
from trainrun.precision import fp32
from trainrun.protocols import Batch, BatchSpec, Position
from trainrun.runtime.signals import Signals, Stopped
from trainrun.task.regression import Regression
from trainrun.vocabulary.errors import ConfigError, DataError, OutOfMemoryError


class Pictures(Dataset[Any]):
    """Classes 0, 1, 2 in the proportions 1 : 2 : 7; a sample is transformed at random."""

    def __init__(self, size: int = 40, listed: bool = True) -> None:
        self.labels = [(0, 1, 1, 2, 2, 2, 2, 2, 2, 2)[i % 10] for i in range(size)]
        if listed:
            self.targets = self.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        noise = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        return torch.tensor([index, *noise], dtype=torch.float64), self.labels[index]


class Named(Pictures):
    classes = ("a", "b", "c", "d")


class Broken(Pictures):
    def __getitem__(self, index: int) -> Any:
        if index == 23:
            raise OSError("truncated file")
        return super().__getitem__(index)


class Stream(IterableDataset[Any]):
    num_classes = 2

    def __init__(self, size: int = 7) -> None:
        self.size = size

    def __iter__(self) -> Iterator[Any]:
        for i in range(self.size):
            yield torch.tensor([float(i), float(torch.rand(()))]), i % 2


def make(train: Any, **changes: Any) -> DatasetData:
    settings = {"val": None, "test": None, "val_fraction": 0.2, "test_fraction": 0.1, "split_seed": 0}
    settings |= {
        "fold": None,
        "num_folds": 5,
        "limit": None,
        "eval_batch_size": 8,
        "num_workers": 0,
        "inputs": None,
        "targets": None,
        **dict.fromkeys(("group", "time", "weights", "collate_function")),
        "target_kind": None,
    }
    return from_dataset(train, **{**settings, **changes})


def streamed(train: Any = None, **changes: Any) -> DatasetData:
    return make(train or Stream(), **{"val_fraction": 0, "test_fraction": 0, **changes})


def take(
    data: DatasetData,
    count: int,
    position: Position | None = None,
    batch_spec: BatchSpec | None = None,
    seed: int = 1,
) -> list[Batch]:
    return list(
        islice(data.train_batches(position or Position(), batch_spec or BatchSpec(8, 1), seed), count)
    )


def assert_same(batches: list[Batch], other: list[Batch]) -> None:
    for a, b in zip(batches, other, strict=True):
        assert torch.equal(a.inputs, b.inputs) and torch.equal(a.targets, b.targets)
        assert torch.equal(torch.as_tensor(a.indices), torch.as_tensor(b.indices))
        assert a.position == b.position


def test_splits_are_disjoint_complete_and_stratified_where_classes_are_listed() -> None:
    data = make(Pictures())
    parts = {name: part.tolist() for name, (_, part) in data.splits.items() if part is not None}
    assert sorted(index for part in parts.values() for index in part) == list(range(40))
    assert data.info.sizes == {"train": 28, "val": 8, "test": 4}
    assert data.info.class_counts == tuple(np.bincount([Pictures().labels[i] for i in parts["train"]]))
    counts = np.bincount([Pictures().labels[i] for i in parts["val"]], minlength=3)
    assert counts[0] in (0, 1) and counts[1] in (1, 2) and counts[2] in (5, 6)  # 0.8, 1.6, 5.6


def test_separate_datasets_are_used_whole() -> None:
    data = make(Pictures(40), val=Pictures(12), test=Pictures(9))
    assert data.info.sizes == {"train": 40, "val": 12, "test": 9}
    assert [len(b) for b in data.eval_batches("val")] == [8, 4]


def test_limit_keeps_that_many_training_samples() -> None:
    assert make(Pictures(), limit=10).info.sizes == {"train": 10, "val": 8, "test": 4}


@pytest.mark.parametrize("has_test", [False, True], ids=["held out", "own test split"])
def test_folds_are_a_stratified_partition_of_train(has_test: bool) -> None:
    given = {"test": Pictures(7)} if has_test else {}
    folds = [make(Pictures(), fold=fold, **given) for fold in range(5)]
    parts = [data.splits["val" if has_test else "test"][1] for data in folds]
    assert sorted(int(index) for part in parts for index in part) == list(range(40))
    for data, part in zip(folds, parts, strict=True):
        labels = [Pictures().labels[index] for index in part]
        shares = {0: 0.8, 1: 1.6, 2: 5.6}  # a fifth of 4, 8 and 28
        assert all(abs(labels.count(label) - share) < 1 for label, share in shares.items())
        assert not set(part.tolist()) & set(data.splits["train"][1].tolist())
        assert data.info.sizes["test"] == (7 if has_test else 8)


def test_data_with_all_splits_of_their_own_have_no_folds() -> None:
    with pytest.raises(ConfigError, match=r"data\.fold"):
        make(Pictures(), val=Pictures(), test=Pictures(), fold=0)


@pytest.mark.parametrize("listed", [True, False])
def test_balanced_classes_are_drawn_equally_often(listed: bool) -> None:
    data = make(Pictures(listed=listed))
    data.balance()
    drawn = torch.cat([batch.targets for batch in take(data, 4)])  # an epoch of 28
    assert sorted(torch.bincount(drawn).tolist()) == [9, 9, 10]


def test_a_stream_cannot_be_balanced() -> None:
    with pytest.raises(ConfigError, match="no meaning on a stream"):
        streamed().balance()


def test_two_workers_and_none_give_identical_batches() -> None:
    alone, together = make(Pictures()), make(Pictures(), num_workers=2)
    assert_same(take(alone, 5), take(together, 5))
    assert_same(list(alone.eval_batches("val")), list(together.eval_batches("val")))


def test_random_transforms_depend_on_seed_epoch_and_index_alone() -> None:
    data = make(Pictures())
    whole = {int(row[0]): row for b in take(data, 4) for row in b.inputs}
    for size in (1, 3, 28):  # however the epoch is cut
        random.seed(size), np.random.seed(size), torch.manual_seed(size)
        batch_spec = [
            row for b in take(data, -(-28 // size), batch_spec=BatchSpec(size, 1)) for row in b.inputs
        ]
        assert all(torch.equal(row, whole[int(row[0])]) for row in batch_spec)
    second = take(data, 4, Position(1))
    reseeded = take(data, 4, seed=2)
    for row in (row for b in (*second, *reseeded) for row in b.inputs):
        assert (row[1:] != whole[int(row[0])][1:]).all()


def test_evaluation_sees_every_sample_once_and_alike_each_time() -> None:
    data = make(Pictures())
    for split in ("train", "val", "test"):
        batches = list(data.eval_batches(split))
        _, part = data.splits[split]
        assert torch.equal(torch.cat([torch.as_tensor(b.indices) for b in batches]), torch.as_tensor(part))
        assert_same(batches, list(data.eval_batches(split)))


@pytest.mark.parametrize("num_batches", range(7))
def test_resuming_at_any_position_continues_identically(num_batches: int) -> None:
    data = make(Pictures())
    whole = take(data, 9)
    assert [len(b) for b in whole[:5]] == [8, 8, 8, 4, 8]
    assert whole[3].position == Position(1, 0)
    assert_same(
        take(data, 9 - num_batches, whole[num_batches - 1].position if num_batches else None),
        whole[num_batches:],
    )


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (Pictures(), ("classes", 3, ())),
        (Pictures(listed=False), ("classes", 3, ())),
        (Named(), ("classes", 4, ("a", "b", "c", "d"))),
        (TensorDataset(torch.rand(20, 4), torch.rand(20)), ("values", 1, ())),
        (TensorDataset(torch.rand(20, 4), torch.rand(20, 3)), ("values", 3, ())),
        (TensorDataset(torch.rand(20, 4), torch.ones(20, 5).bool()), ("labels", 5, ())),
        (TensorDataset(torch.rand(20, 4), torch.ones(20, 5, 5)), ("other", 0, ())),
        (Stream(), ("classes", 2, ())),
    ],
)
def test_the_kind_of_target_is_read_from_the_samples(dataset: Any, expected: tuple[Any, ...]) -> None:
    info = (streamed if isinstance(dataset, Stream) else make)(dataset).info
    assert (info.kind, info.num_targets, info.class_names) == expected
    assert info.input_shape == ((2,) if isinstance(dataset, Stream) else (4,))


def test_class_counts_are_known_even_where_the_dataset_does_not_list_them() -> None:
    assert make(Pictures(listed=False)).info.class_counts == make(Pictures()).info.class_counts


@pytest.mark.parametrize("workers", [0, 2])
def test_a_failing_sample_is_a_data_error_naming_it_without_a_traceback(workers: int) -> None:
    data = make(Broken(), val_fraction=0, test_fraction=0, num_workers=workers)
    with pytest.raises(DataError) as caught:
        list(data.eval_batches("train"))
    where = f"test_dataset.py:{inspect.getsourcelines(Broken)[1] + 3}"
    assert str(caught.value) == f"data: sample 23 of Broken failed: OSError: truncated file ({where})"


class Killed(Pictures):
    """A loader process that reads sample 23 is killed, as where memory runs out."""

    def __getitem__(self, index: int) -> Any:
        if index == 23 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_loader_process_that_is_killed_is_out_of_memory_and_leaves_none() -> None:
    data = make(Killed(), val_fraction=0, test_fraction=0, num_workers=2)
    with pytest.raises(OutOfMemoryError, match=r"killed by SIGKILL.*data\.num_workers"):
        list(data.eval_batches("train"))
    assert not active_children()


class Stuck(Pictures):
    """Once `armed`, a sample never comes, and says that it was asked for."""

    def __init__(self, armed: Path, asked: Path) -> None:
        super().__init__()
        self.armed, self.asked = armed, asked

    def __getitem__(self, index: int) -> Any:
        if self.armed.exists():
            self.asked.touch()
            time.sleep(60)
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("stopped_class", "method"),
    [(_MultiProcessingDataLoaderIter, "_try_put_index"), (DataLoader, "__iter__")],
)
def test_a_stop_while_loader_processes_start_leaves_none(
    stopped_class: type, method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    signals, lost, stops = Signals(), list[Any](), [signal.SIGTERM]
    armed, asked = tmp_path / "armed", tmp_path / "asked"
    real = getattr(stopped_class, method)

    def stopped(self: Any) -> Any:
        result = real(self)
        if stops:
            while not asked.exists():
                time.sleep(0.01)
            signal.raise_signal(stops.pop())
        return result

    monkeypatch.setattr("sys.unraisablehook", lost.append)
    data = make(Stuck(armed, asked), num_workers=2)
    monkeypatch.setattr(stopped_class, method, stopped)
    armed.touch()
    signals.install()
    try:
        with pytest.raises(Stopped, match="SIGTERM"), signals.interruptible():
            next(data.eval_batches("val"))
    finally:
        signals.restore()
    assert not stops and not active_children() and not lost


class ReadBy(Pictures):
    """The input is the process that reads the sample."""

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([float(os.getpid())]), self.labels[index]


def test_loader_processes_live_across_epochs() -> None:
    batches = make(ReadBy(), num_workers=2).train_batches(Position(), BatchSpec(4, 1), 0)
    pids = {int(batch.inputs[0, 0]) for batch in islice(batches, 35)}  # 7 an epoch
    batches.close()
    assert len(pids) == 2 and os.getpid() not in pids
    assert not active_children()


class Slow(Pictures):
    """The second batch takes a little longer."""

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.2 * (index == 8))
        return super().__getitem__(index)


def test_a_worker_told_to_end_before_its_first_batch_is_sent_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    listener, removed = connection.SocketListener, os.rmdir

    def slowly_made(*words: Any) -> Any:
        time.sleep(0.4)
        return listener(*words)

    def slowly_removed(folder: str) -> None:
        time.sleep(0.8)
        removed(folder)

    monkeypatch.setattr(connection, "SocketListener", slowly_made)
    monkeypatch.setattr("shutil.rmtree", slowly_removed)
    parts = [(0, part, Position()) for part in torch.arange(16).split(8)]
    batches = DatasetData._load(make(Slow(16), num_workers=2), "train", parts)
    next(batches)
    batches.close()
    assert not active_children()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        (TensorDataset(torch.rand(20, 4)), "a sample is a single tuple; return an input and a target"),
        (Pictures(0), "is empty"),
        (Stream(0), "is empty"),
    ],
)
def test_datasets_that_cannot_be_read_are_data_errors(dataset: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        (streamed if isinstance(dataset, Stream) else make)(dataset, target_kind="classes")


def test_a_class_beyond_the_named_ones_is_a_data_error() -> None:
    dataset = Named()
    dataset.labels[12] = 4
    with pytest.raises(DataError, match="sample 12 of Named has class 4, there are 4"):
        make(dataset)


def test_a_stream_of_classes_must_say_how_many() -> None:
    dataset = Stream()
    dataset.num_classes = 0
    with pytest.raises(DataError, match="num_classes"):
        streamed(dataset)


@pytest.mark.parametrize(
    "changes", [{"val_fraction": 0.1}, {"test_fraction": 0.1}, {"limit": 3}, {"fold": 0}]
)
def test_what_a_stream_cannot_do_is_a_config_error(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"data\.{next(iter(changes))}: "):
        streamed(**changes)


def test_a_stream_is_read_pass_after_pass() -> None:
    data = streamed(val=Stream(5))
    assert data.info.sizes == {"train": None, "val": None, "test": 0}
    batches = take(data, 5, batch_spec=BatchSpec(3, 1))
    assert [int(row[0]) for b in batches for row in b.inputs] == [*range(7), *range(7), 0]
    assert [b.position for b in batches] == [Position(0, n) for n in (3, 6, 9, 12, 15)]
    assert torch.cat([torch.as_tensor(b.indices) for b in batches]).tolist() == list(range(15))
    evaluated = [int(row[0]) for b in data.eval_batches("val") for row in b.inputs]
    assert evaluated == list(range(5))


@pytest.mark.parametrize("num_batches", range(6))
def test_a_resumed_stream_skips_to_the_identical_sample(num_batches: int) -> None:
    data, batch_spec = streamed(), BatchSpec(3, 1)
    whole = take(data, 8, batch_spec=batch_spec)
    random.seed(num_batches), torch.manual_seed(num_batches)
    assert_same(take(data, 8 - num_batches, Position(0, 3 * num_batches), batch_spec), whole[num_batches:])


def test_the_fingerprint_is_of_every_dataset_and_not_of_the_split() -> None:
    fingerprint = make(Pictures()).info.fingerprint
    assert (
        fingerprint
        == make(Pictures(), limit=10, split_seed=3).info.fingerprint
        != make(Pictures(41)).info.fingerprint
    )
    apart = [
        make(Pictures(), val=val, test=Pictures(9)).info.fingerprint for val in (Pictures(12), Pictures(13))
    ]
    assert len({fingerprint, *apart}) == 3
    assert streamed().info.fingerprint == ""  # to read it is to consume it


class Houses(Dataset[Any]):
    """Prices in the hundred thousands, as one float64 a sample; `read` says which samples were."""

    def __init__(self, size: int = 64) -> None:
        self.sizes, self.read = torch.linspace(-1, 1, size, dtype=torch.float64), set[int]()

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Any:
        self.read.add(index)
        return self.sizes[index : index + 1], 3e5 * self.sizes[index] + 2e5


@pytest.mark.parametrize("standardize", [True, False])
def test_regression_on_prices_learns_them_standardised_and_diverges_or_crawls_without(
    standardize: bool,
) -> None:
    data = make(Houses())
    task = Regression([], MSE(), data.info, standardize)
    model = Linear(data.info.input_shape, task.num_outputs)
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    for batch in take(data, 300, batch_spec=BatchSpec(16, 1)):
        assert batch.targets.shape == (len(batch), 1) and batch.targets.dtype == torch.float32
        optimizer.zero_grad()
        (task(model, batch).terms["loss"] / task.count(batch)["loss"]).backward()
        optimizer.step()
    metrics = evaluate(model, task, data.eval_batches("test"), fp32(torch.device("cpu")))
    slope = task.predict(model, torch.tensor([[0.0], [1.0]])).diff(dim=0).item()
    if standardize:
        assert metrics["r2"] > 0.999 and metrics["rmse"] < 1000
        assert slope == pytest.approx(3e5, rel=0.01)
    else:
        assert metrics["r2"] < 0


def test_target_scaling_is_the_training_splits() -> None:
    data = make(Houses())
    train = data.splits["train"][1]
    assert train is not None and data.info.target_scaling is not None
    prices = (3e5 * Houses().sizes[train] + 2e5).numpy()
    assert data.info.target_scaling.mean.item() == pytest.approx(prices.mean())
    assert data.info.target_scaling.std.item() == pytest.approx(prices.std())
    other = make(Houses(), limit=10)
    assert not same_bits(other.fitted(), data.fitted())
    other.restore(data.fitted())
    assert same_bits(other.fitted(), data.fitted())


def test_target_scaling_of_many_samples_reads_a_few_of_them() -> None:
    houses = Houses(5000)
    data = make(houses)
    assert len(houses.read) <= 512 + 3 + 1
    assert data.info.target_scaling is not None
    prices = (3e5 * houses.sizes + 2e5).numpy()
    assert data.info.target_scaling.mean.item() == pytest.approx(prices.mean(), rel=0.02)
    assert data.info.target_scaling.std.item() == pytest.approx(prices.std(), rel=0.02)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_target_that_cannot_be_learned_is_named(bad: Any) -> None:
    class Odd(Houses):
        def __getitem__(self, index: int) -> Any:
            return (super().__getitem__(index)[0], bad) if index == 20 else super().__getitem__(index)

    with pytest.raises(DataError, match=r"data: sample 20 of Odd has the target .*, not 1 finite numbers"):
        make(Odd(), val_fraction=0, test_fraction=0)


def test_values_keep_their_own_units() -> None:
    data = make(Houses())
    (batch,) = data.eval_batches("test")
    expected = 3e5 * Houses().sizes[batch.indices] + 2e5
    torch.testing.assert_close(batch.targets[:, 0], expected.float())
