"""Samples of foreign datasets: own draws, single precision, failures by name."""

from __future__ import annotations

import inspect
import random
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from trainrun.data.samples import Seeded, chunks, collate, endless, stream, unpacked
from trainrun.vocabulary.errors import DataError


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


class Drawing(Dataset[Any]):
    def __getitem__(self, index: int) -> Any:
        if index == 13:
            raise KeyError("thirteen")
        return draws()


class DrawingStream(IterableDataset[Any]):
    """Draws at the beginning of a pass, and for each sample."""

    def __iter__(self) -> Iterator[Any]:
        first = draws()
        for _ in range(3):
            yield first, draws()


class FailingStream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield 1
        raise OSError("gone")


class Empty(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(())


def test_all_three_generators_depend_on_seed_and_index_alone() -> None:
    dataset = Seeded(Drawing())
    wanted = dataset[5, 3]
    dataset[5, 7], random.random(), np.random.rand(), torch.rand(3)
    assert dataset[5, 3] == wanted
    for other in (dataset[5, 4], dataset[6, 3]):
        assert all(a != b for a, b in zip(other, wanted, strict=True))


def test_a_failing_sample_is_named() -> None:
    failed = Seeded(Drawing())[0, 13]
    place = inspect.getsourcelines(Drawing)[1] + 3
    what = f"KeyError: 'thirteen' (test_samples.py:{place})"
    assert (failed.message, failed.index) == (f"data: sample 13 of Drawing failed: {what}", None)
    assert failed.traceback.endswith("KeyError: 'thirteen'\n")
    assert collate([Seeded(Drawing())[0, 1], failed]) == failed
    with pytest.raises(DataError, match="sample 13 of Drawing"):
        unpacked(failed)


def test_a_stream_repeats_itself_exactly_and_its_passes_differ() -> None:
    passes = list(islice(endless(DrawingStream(), 5), 6))
    assert passes == list(islice(endless(DrawingStream(), 5), 6))
    assert passes[:3] == list(stream(DrawingStream(), 5))
    assert len({first for first, _ in passes}) == 2  # one draw at each beginning
    assert len({draw for _, draw in passes}) == 6


def test_a_failing_stream_names_the_sample_and_an_empty_one_is_refused() -> None:
    with pytest.raises(DataError, match="sample 1 of FailingStream failed: OSError: gone"):
        list(stream(FailingStream(), 0))
    with pytest.raises(DataError, match="Empty is empty"):
        next(endless(Empty(), 0))


@pytest.mark.parametrize(
    ("target", "dtype", "shape"),
    [
        (0.5, torch.float32, (2, 1)),
        (np.float64(0.5), torch.float32, (2, 1)),
        (torch.tensor([0.5, 1.5]).double(), torch.float32, (2, 2)),
        (3, torch.int64, (2,)),
        (np.uint8(3), torch.int64, (2,)),
        (torch.tensor(3, dtype=torch.int32), torch.int64, (2,)),
        (True, torch.int64, (2,)),
        (np.array([0, 1, 1]), torch.int64, (2, 3)),
        (torch.zeros(4, 4, dtype=torch.uint8), torch.int64, (2, 4, 4)),
    ],
)
def test_targets_get_the_type_and_shape_that_losses_take(
    target: Any, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    _, targets = unpacked(collate([(torch.zeros(2), target)] * 2))
    assert targets.dtype == dtype and tuple(targets.shape) == shape
    assert torch.equal(targets[0].flatten().double(), torch.as_tensor(target).flatten().double())


@pytest.mark.parametrize("given", [torch.float64, torch.float32, torch.float16, torch.uint8])
def test_float64_inputs_become_float32_and_others_stay(given: torch.dtype) -> None:
    inputs, _ = unpacked(collate([(torch.ones(3).to(given), 0)]))
    assert inputs.dtype == (torch.float32 if given == torch.float64 else given)


def test_inputs_may_be_nested() -> None:
    inputs, _ = unpacked(collate([({"a": np.zeros(2), "b": [np.ones(1), "text"]}, 0)] * 2))
    assert inputs["a"].dtype == torch.float32 and inputs["a"].shape == (2, 2)
    assert inputs["b"][0].dtype == torch.float32 and list(inputs["b"][1]) == ["text", "text"]


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([(torch.zeros(2), 0), (torch.zeros(3), 0)], "sample 8 cannot be stacked"),
        ([(torch.zeros(2), 0), (torch.zeros(2), "a")], "sample 8 cannot be stacked"),
        ([(object(), 0)], "sample 7 cannot be stacked"),
        ([torch.zeros(3)], r"not \(input, target\), got a Tensor"),
        (
            [(torch.zeros(3), 0, 1)],
            r"not \(input, target\), got a tuple of 3 \(Tensor, int, int\); return one",
        ),
        ([{"x": 0, "y": 1}], r"not \(input, target\), got a dict with 'x', 'y'; return the two"),
        (["ab", "cd"], r"not \(input, target\), got a str"),  # two characters each, and two samples
        ([(torch.zeros(3), None)], "sample 7 cannot be stacked .* its target is None; give one"),
        ([(Image.new("L", (2, 2)), 0)], "its input is an? Image picture; return torchvision"),
        (
            [([[1.0], [1.0, 2.0]], 0), ([[1.0]], 0)],
            "sample 8 cannot be stacked .* input float64 of shape .1, 1.",
        ),
    ],
)
def test_samples_that_make_no_batch_are_a_data_error(samples: list[Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        unpacked(collate(samples), [7, 8])


def test_chunks_are_full_but_for_the_last() -> None:
    assert list(chunks(iter(range(5)), 2)) == [[0, 1], [2, 3], [4]]
    assert list(chunks(iter(range(4)), 2)) == [[0, 1], [2, 3]]


@pytest.mark.parametrize(
    ("given", "dtype", "shape"),
    [
        ([0.5, 1.5, 2.5], torch.float32, (2, 3)),
        ((0.5, 1.5), torch.float32, (2, 2)),
        ([[1, 2], [3, 4]], torch.int64, (2, 2, 2)),
        ([np.float64(1), np.float64(2)], torch.float32, (2, 2)),
        ([True, False], torch.bool, (2, 2)),
        (np.array([1, 2], np.uint16), torch.int64, (2, 2)),
        (np.array([2**32 - 1], np.uint32), torch.int64, (2, 1)),
        (3, torch.int64, (2,)),
    ],
)
def test_plain_numbers_become_one_tensor(given: Any, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    inputs, _ = unpacked(collate([(given, 0)] * 2))
    assert inputs.dtype == dtype and tuple(inputs.shape) == shape
    assert np.array_equal(inputs[0].numpy(), np.asarray(given))


def test_several_tensors_stay_several() -> None:
    inputs, targets = unpacked(collate([([torch.zeros(2), torch.ones(3)], (torch.zeros(1), 4))] * 2))
    assert [tuple(tensor.shape) for tensor in inputs] == [(2, 2), (2, 3)] and len(targets) == 2
