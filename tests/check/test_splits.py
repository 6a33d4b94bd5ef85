"""Samples as rows: each once, in numbers, none where they are none."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch

from trainrun.check.context import CheckContext
from trainrun.check.splits import hashes_of, read_splits, rows, splits
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


def test_equal_inputs_are_counted_together() -> None:
    x = torch.tensor([[1.0, 2], [1, 2], [2, 1], [1, 2.0000002]])
    counts = hashes_of([Batch(x, torch.zeros(4), range(4), Position())])
    assert counts is not None
    assert sorted(counts.values()) == [1, 1, 2]
    assert hashes_of([Batch({"a": x}, x, range(4), Position())]) is None


def test_samples_of_training_in_another_split_are_a_leak(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    context = make_context(*classes, "model=linear")
    assert splits(context).findings == []
    data = context.parts.data
    train, val = data.splits["train"], data.splits["val"]
    data.inputs[val[:9]] = data.inputs[train[:9]]
    (finding,) = splits(context).findings
    assert finding.name == "data leak between splits"
    assert finding.measured == f"9 of {len(val)} samples of val are also in train"
    assert splits(context).values == {"val in train": 9, "test in train": 0, "test in val": 0}


def test_texts_are_not_compared(make_context: Callable[..., CheckContext], tmp_path) -> None:
    (tmp_path / "a.txt").write_text("abc " * 600)
    context = make_context("data=text", "data.path=a.txt", "data.block_size=16", "model=gpt")
    assert splits(context).findings == []


@pytest.mark.parametrize("columns", [3, 4, 6, 8])
def test_repeats_in_a_table_of_few_values_are_no_leak(
    columns: int, make_context: Callable[..., CheckContext], table: tuple[str, ...]
) -> None:
    """Every row is drawn by itself: of 4 ** columns kinds of rows most are met again, or few."""
    words = (*table[:1], "data.num_samples=1500", f"data.num_features={columns}", "model=linear")
    context = make_context(*words)
    data = context.parts.data
    for seed in range(10):
        draws = torch.Generator().manual_seed(seed)
        data.inputs = torch.randint(0, 4, (1500, columns), generator=draws).float()
        assert splits(context).findings == [], seed
    train, val = data.splits["train"], data.splits["val"]
    if columns > 4:  # else nearly all are in train by chance
        data.inputs[val] = data.inputs[train[: len(val)]]
        assert [finding.name for finding in splits(context).findings] == ["data leak between splits"]
    data.splits["val"] = train
    data.info = replace(data.info, sizes={**data.info.sizes, "val": len(train)})
    assert f"{len(train)} of {len(train)} samples of val" in splits(context).findings[0].measured


def test_what_was_not_read_is_not_spoken_of(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make_context(*classes, "model=linear", "data.eval_batch_size=20")
    monkeypatch.setattr(sys.modules["trainrun.check.splits"], "_MOST_S", 0.0)
    lines = dict(splits(context).lines)
    assert lines["train, val"].startswith("0 of 20 samples of val are also in train (compared")
    assert lines["train, val"].endswith(": 20 of 210 of train, 20 of 45 of val)")
    assert lines["train"] == "0 of 20 samples repeat another one"
