"""Samples as rows: each once, in numbers, none where they are none."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from trainrun.check.context import CheckContext
from trainrun.check.sample_rows import rows, seen
from trainrun.protocols import Batch, Position


def batch(inputs: object, indices: list[int]) -> Batch:
    return Batch(inputs, torch.arange(len(indices)), indices, Position())


def test_a_sample_that_is_drawn_twice_counts_once() -> None:
    x = torch.arange(12.0).reshape(3, 2, 2)
    found = rows([batch(x, [4, 7, 4]), batch(x, [9, 7, 1])])
    assert found is not None
    assert found.indices.tolist() == [4, 7, 9, 1]
    assert torch.equal(found.inputs, torch.stack([x[0], x[1], x[0], x[2]]).flatten(1))


def test_tokens_and_containers_are_no_rows() -> None:
    assert rows([batch(torch.arange(6).reshape(3, 2), [0, 1, 2])]) is None
    assert rows([batch({"a": torch.ones(2)}, [0, 1])]) is None
    assert rows([]) is None


def test_every_split_is_read_before_augmentation(bench: Callable[..., CheckContext]) -> None:
    of = bench("data=digits", "augment=crop_flip", "augment.shift=0.25", "model=linear")
    found = seen(of)
    sizes = of.parts.info.sizes
    assert {split: len(one) for split, one in found.items()} == sizes
    whole = torch.cat([one.inputs for one in of.parts.data.eval_batches("train")]).flatten(1)
    places = found["train"].indices.argsort()
    assert torch.equal(found["train"].inputs[places], whole)


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
        for at in range(0, 6400, 64):
            read.append(at)
            yield batch(x, list(range(at, at + 64)))

    found = rows(batches())
    assert found is not None
    assert found.indices.tolist() == list(range(count))
    assert len(found.inputs) == len(found.targets) == count
    assert len(read) == -(-count // 64)
    assert found.inputs.untyped_storage().nbytes() == 4 * count * x[0].numel()
