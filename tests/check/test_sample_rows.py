"""Samples as rows: each once, in numbers, none where they are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from trainrun.check.context import CheckContext
from trainrun.check.sample_rows import read_splits, rows
from trainrun.protocols import Batch, Position


def batch(inputs: object, indices: list[int]) -> Batch:
    return Batch(inputs, torch.arange(len(indices)), indices, Position())


def test_a_sample_that_is_drawn_twice_counts_once() -> None:
    x = torch.arange(12.0).reshape(3, 2, 2)
    samples = rows([batch(x, [4, 7, 4]), batch(x, [9, 7, 1])])
    assert samples is not None
    assert samples.indices.tolist() == [4, 7, 9, 1]
    assert torch.equal(samples.inputs, torch.stack([x[0], x[1], x[0], x[2]]).flatten(1))


def test_tokens_and_containers_are_no_rows() -> None:
    assert rows([batch(torch.arange(6).reshape(3, 2), [0, 1, 2])]) is None
    assert rows([batch({"a": torch.ones(2)}, [0, 1])]) is None
    assert rows([]) is None


def test_every_split_is_read_before_augmentation(make_context: Callable[..., CheckContext]) -> None:
    context = make_context("data=digits", "augment=crop_flip", "augment.shift=0.25", "model=linear")
    splits = read_splits(context)
    sizes = context.parts.info.sizes
    assert {split: len(samples) for split, samples in splits.items()} == sizes
    whole = torch.cat([batch.inputs for batch in context.parts.data.eval_batches("train")]).flatten(1)
    places = splits["train"].indices.argsort()
    assert torch.equal(splits["train"].inputs[places], whole)


@pytest.mark.parametrize(
    ("shape", "count"),
    [
        ((4,), 2048),
        ((3, 224, 224), 111),  # 64 MB by 4 bytes of 150,528 numbers
        ((3, 256, 256), 100),  # what the questions need
    ],
)
def test_large_samples_are_fewer(shape: tuple[int, ...], count: int) -> None:
    """Of batches of the same numbers, of which only the samples that are looked at are kept."""
    x = torch.zeros(1).expand(64, *shape)
    read: list[int] = []

    def batches() -> Iterator[Batch]:
        for start in range(0, 6400, 64):
            read.append(start)
            yield batch(x, list(range(start, start + 64)))

    samples = rows(batches())
    assert samples is not None
    assert samples.indices.tolist() == list(range(count))
    assert len(samples.inputs) == len(samples.targets) == count
    assert len(read) == -(-count // 64)
    assert samples.inputs.untyped_storage().nbytes() == 4 * count * x[0].numel()
