"""Classes of datasets: listed or read, through Subset and the like, and told where a split has others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset, random_split

from trainrun.data.dataset import DatasetData, from_dataset
from trainrun.vocabulary.errors import ConfigError, DataError


class Rows(Dataset[Any]):
    """Sample i is (i, targets[i]) of four numbers."""

    def __init__(self, targets: Any, size: int | None = None) -> None:
        self.rows, self.size = targets, len(targets) if size is None else size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return torch.full((4,), float(index)), self.rows[index]


class Named(Rows):
    classes = ("cat", "dog", "emu")


class Listed(Rows):
    @property
    def targets(self) -> Any:
        return self.rows


def make(train: Any, **changes: Any) -> DatasetData:
    settings: dict[str, Any] = {"val": None, "test": None, "val_fraction": 0.2, "test_fraction": 0.0}
    settings |= {"split_seed": 0, "fold": None, "num_folds": 5, "limit": None, "eval_batch_size": 8}
    settings |= {
        "num_workers": 0,
        "target_kind": "classes",
        "inputs": None,
        "targets": None,
        **dict.fromkeys(("group", "time", "weights", "collate_function")),
    }
    return from_dataset(train, **settings | changes)


INTS = [i % 3 for i in range(30)]
PLAIN = Rows(INTS)


@pytest.mark.parametrize(
    "dataset",
    [
        TensorDataset(torch.rand(30, 4), torch.tensor(INTS)),
        Subset(PLAIN, range(20)),
        ConcatDataset([PLAIN, PLAIN]),
        random_split(PLAIN, [20, 10], torch.Generator().manual_seed(0))[0],
        Listed(INTS),
        Listed([-1 + 2 * (i % 2) for i in range(30)]),
        Rows([float(i % 3) for i in range(30)]),
        Rows([torch.eye(3)[i % 3] for i in range(30)]),
    ],
    ids=lambda dataset: type(dataset).__name__,
)
def test_every_sample_keeps_its_class(dataset: Any) -> None:
    data = make(dataset)
    num_samples = 0
    for split in ("train", "val"):
        for batch in data.eval_batches(split):
            raw = torch.stack([torch.as_tensor(dataset[int(i)][1]) for i in batch.indices])
            expected = raw.argmax(1) if raw.ndim > 1 else (raw > 0).long() if raw.min() < 0 else raw.long()
            assert torch.equal(batch.targets, expected)
            num_samples += len(batch)
    assert num_samples == len(dataset) and data.info.num_targets == (2 if min_of(dataset) < 0 else 3)
    assert sum(data.info.class_counts) == data.info.sizes["train"]


def min_of(dataset: Any) -> float:
    return min(float(torch.as_tensor(target).min()) for _, target in (dataset[i] for i in range(2)))


def test_a_class_of_a_split_of_its_own_that_training_does_not_know_is_told_at_once() -> None:
    for kind in (Rows, Listed):
        with pytest.raises(
            DataError, match=f"sample 4 of {kind.__name__} has the target 3, not a class from"
        ):
            make(PLAIN, val=kind([0, 1, 2, 0, 3]))


def test_classes_that_training_lacks_are_said_in_the_plan() -> None:
    data = make(Named([0, 1] * 10), val=Named([0, 1, 2, 2]), test=Named([0, 1]))
    assert data.info.notes == ()  # its targets are not listed, so reading them all waits for the evaluation

    class Both(Named, Listed):
        pass

    data = make(Both([0, 1] * 10), val=Both([0, 1, 2, 2]), test=Both([0, 1]))
    assert data.info.notes == ("val: 2 samples are of classes that no training sample has: emu",)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_without_samples_is_said_in_the_plan(split: str) -> None:
    data = make(PLAIN, **{split: Rows([], 0)})
    assert data.info.notes == (f"data.{split} has no samples, so there is no {split} split",)


def test_a_split_whose_targets_have_another_form_is_refused() -> None:
    with pytest.raises(DataError, match="sample 0 of Rows and others have targets of"):
        make(PLAIN, test=Rows([torch.eye(3)[0]] * 4))
    with pytest.raises(DataError, match=r"sample 0 of Rows has the target .*|sample 0 of Rows and others"):
        make(Rows([torch.eye(3)[i % 3] for i in range(9)]), val=Rows([torch.ones(3)]))


class Tokens(Rows):
    """Windows of five tokens; the target is the next one of each."""

    def __init__(self, **said: int) -> None:
        super().__init__(torch.arange(40) * 3 % 7, 30)
        vars(self).update(said)

    def __getitem__(self, index: int) -> Any:
        return self.rows[index : index + 5], self.rows[index + 1 : index + 6]


@pytest.mark.parametrize(("said", "count"), [({}, 7), ({"vocab_size": 9}, 9), ({"num_classes": 8}, 8)])
def test_token_sequences_are_read_for_a_language_model(said: dict[str, int], count: int) -> None:
    data = make(Tokens(**said), target_kind="tokens")
    assert (data.info.kind, data.info.num_targets, data.info.input_shape) == ("tokens", count, (5,))
    for batch in data.eval_batches("val"):
        assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])


def test_tokens_beyond_those_there_are_and_inputs_that_are_none_are_refused() -> None:
    data = make(Tokens(vocab_size=6), target_kind="tokens")
    with pytest.raises(DataError, match="not tokens from 0 to 5"):
        list(data.eval_batches("train"))
    with pytest.raises(
        ConfigError, match="task: learns a token for each token of the input; an input of Rows"
    ):
        make(Rows([torch.arange(5)] * 9), target_kind="tokens")
