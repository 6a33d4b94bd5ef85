"""Datasets of any samples in one form, with all that the dataset itself has."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from trainrun.data.padding import pad
from trainrun.data.prepared import prepared
from trainrun.data.samples import collate_of, name_of, read_sample, source_of
from trainrun.protocols import InputParts
from trainrun.vocabulary.errors import DataError


class Scans(Dataset[Any]):
    classes = ("no", "yes")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return {"image": torch.full((2,), float(index)), "label": index % 2, "name": f"scan {index}"}


class Pairs(Scans):
    def __getitem__(self, index: int) -> Any:
        return torch.zeros(2), index % 2


class Stream(IterableDataset[Any]):
    num_classes = 2

    def __iter__(self) -> Any:
        return iter([(1.0, 2.0, 0), (3.0, 4.0, 1)])


def joined(samples: list[Any]) -> Any:
    return {
        "x": torch.stack([s["image"] for s in samples]) * 10,
        "y": torch.tensor([s["label"] for s in samples]),
    }


def broken(samples: list[Any]) -> Any:
    raise KeyError("grade")


def test_pairs_are_left_as_they_are() -> None:
    datasets: dict[str, Dataset[Any]] = {"train": Pairs()}
    assert prepared(datasets, None, None, None, "classes") == (datasets, "")


def test_samples_are_read_by_name_and_the_dataset_keeps_its_attributes() -> None:
    train, val = Scans(), Scans()
    datasets, note = prepared({"train": train, "val": val}, None, None, None, "classes")
    assert note == "inputs are image, the target is label; left out: name"
    for name, dataset in (("train", train), ("val", val)):
        again: Any = pickle.loads(pickle.dumps(datasets[name]))  # as a loader process gets it
        assert (len(again), again.classes, name_of(again)) == (3, ("no", "yes"), "Scans")
        assert source_of(datasets[name]) is dataset
        inputs, target = read_sample(again, 1)
        assert (inputs.tolist(), target.tolist()) == ([[1, 1]], [1])


def test_a_stream_is_read_in_the_same_way() -> None:
    datasets, _ = prepared({"train": Stream()}, None, None, None, "classes")
    stream: Any = datasets["train"]
    assert isinstance(stream, IterableDataset) and stream.num_classes == 2
    assert list(stream) == [(InputParts((1.0, 2.0)), 0), (InputParts((3.0, 4.0)), 1)]
    inputs, targets = collate_of(stream)(list(stream))  # type: ignore[misc]
    assert isinstance(inputs, InputParts) and [part.tolist() for part in inputs] == [[1, 3], [2, 4]]
    assert targets.tolist() == [0, 1]


def test_a_task_of_whole_batches_gets_every_entry_and_no_target() -> None:
    datasets, _ = prepared({"train": Pairs()}, None, None, None, "whole")
    inputs, targets = read_sample(datasets["train"], 1)
    assert isinstance(inputs, InputParts) and [part.tolist() for part in inputs] == [[[0, 0]], [1]]
    assert targets is None
    chosen, _ = prepared({"train": Scans()}, ["image", "label"], None, None, "whole")
    assert set(read_sample(chosen["train"], 0)[0]) == {"image", "label"}


def test_a_function_of_the_users_gets_samples_as_they_are() -> None:
    datasets, _ = prepared({"train": Scans()}, None, None, joined, "classes")
    inputs, targets = collate_of(datasets["train"])([datasets["train"][0], datasets["train"][1]])  # type: ignore[misc]
    assert (inputs.tolist(), targets.tolist()) == ([[0, 0], [10, 10]], [0, 1])


def test_a_function_that_fails_is_named() -> None:
    with pytest.raises(DataError, match=r"data.collate: broken fails on 1 samples: KeyError: 'grade'"):
        prepared({"train": Scans()}, None, None, broken, "classes")


def test_padding_is_a_way_to_stack() -> None:
    class Texts(Scans):
        def __getitem__(self, index: int) -> Any:
            return [1] * (index + 1), index % 2

    datasets, _ = prepared({"train": Texts()}, None, None, pad, "classes")
    dataset = datasets["train"]
    inputs, _ = collate_of(dataset)([dataset[0], dataset[2]])  # type: ignore[misc]
    assert inputs.tolist() == [[1, 0, 0], [1, 1, 1]]
