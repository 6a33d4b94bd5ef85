"""Samples in two splits, counted in data where their number is known."""

from __future__ import annotations

from collections.abc import Callable

import torch

from trainrun.check.bench import Bench
from trainrun.check.splits import hashes_of, splits
from trainrun.protocols import Batch, Position


def test_equal_inputs_are_counted_together() -> None:
    x = torch.tensor([[1.0, 2], [1, 2], [2, 1], [1, 2.0000002]])
    found = hashes_of([Batch(x, torch.zeros(4), range(4), Position())])
    assert found is not None
    assert sorted(found.values()) == [1, 1, 2]
    assert hashes_of([Batch({"a": x}, x, range(4), Position())]) is None


def test_samples_of_training_in_another_split_are_a_leak(
    bench: Callable[..., Bench], classes: tuple[str, ...]
) -> None:
    of = bench(*classes, "model=linear")
    assert splits(of).findings == ()
    data = of.parts.data
    train, val = data.splits["train"], data.splits["val"]
    data.inputs[val[:9]] = data.inputs[train[:9]]
    (found,) = splits(of).findings
    assert found.name == "data leak between splits"
    assert found.measured == f"9 of {len(val)} samples of val are in train, too"
    assert splits(of).values == {"val in train": 9, "test in train": 0, "test in val": 0}


def test_texts_are_not_compared(bench: Callable[..., Bench], tmp_path) -> None:
    (tmp_path / "a.txt").write_text("abc " * 600)
    of = bench("data=text", "data.path=a.txt", "data.block_size=16", "model=gpt")
    assert splits(of).findings == ()
