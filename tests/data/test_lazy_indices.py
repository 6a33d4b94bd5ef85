"""An order that is computed: a bijection as random as torch's own, the same however it is read."""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from trainrun.data import lazy_indices, order
from trainrun.data.lazy_indices import Indices, LazyIndices, numbered, shuffle
from trainrun.data.order import epoch_order, evenly_spaced, hold_out, micro_batches, slices
from trainrun.data.resident import Holdout, split
from trainrun.protocols import BatchSpec, Position

SIZES = [1, 2, 3, 5, 6, 7, 12, 13, 31, 100, 101, 997, 1024, 1025, 4095, 65_537]
HUGE = 1_000_000_000


@pytest.mark.parametrize("size", SIZES)
def test_every_sample_is_drawn_once(size: int) -> None:
    for seed in (0, 1, (1 << 63) - 1):
        assert torch.equal(shuffle(numbered(size), seed)[:].sort().values, torch.arange(size))


def test_every_order_of_a_few_samples_occurs_about_equally_often() -> None:
    orders = [tuple(shuffle(numbered(4), seed)[:].tolist()) for seed in range(2400)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert ((counts - 100) ** 2 / 100).sum() < 49.7  # chi-square of 23 degrees: 1 in 1,000 beyond


def drawn_in(size: int) -> dict[str, list[Tensor]]:
    """Forty orders each, ours and torch's own."""
    ours = [shuffle(numbered(size), seed)[:] for seed in range(40)]
    theirs = [torch.randperm(size, generator=torch.Generator().manual_seed(seed)) for seed in range(40)]
    return {"ours": ours, "torch's": theirs}


@pytest.mark.parametrize("whose", ["ours", "torch's"])
def test_it_is_as_random_as_torchs_own(whose: str) -> None:
    """Each figure is a normal one where orders are random: the mean of 40 lies within 3.5 / sqrt(40)."""
    size = 20_011
    figures: dict[str, list[float]] = {}
    for permuted in drawn_in(size)[whose]:
        x = (permuted.double() - (size - 1) / 2) / math.sqrt((size**2 - 1) / 12)
        steps, place = permuted.diff(), torch.arange(size).double()
        where = place[permuted < size // 2]  # the places of the first half
        bins = 50
        counts = torch.zeros(bins, bins).index_put_(
            (torch.arange(size) * bins // size, permuted * bins // size), torch.ones(size), accumulate=True
        )
        expected, free = size / bins**2, (bins - 1) ** 2
        chi = float(((counts - expected) ** 2 / expected).sum())
        fixed_points = int((permuted == torch.arange(size)).sum())
        values = {
            "serial correlation": float((x[:-1] * x[1:]).mean()) * math.sqrt(size),
            "correlation over 141 places": float((x[:-141] * x[141:]).mean()) * math.sqrt(size),
            "places of the first half": (float(where.mean()) / size - 0.5) * math.sqrt(12 * size),
            "rises": (int((steps > 0).sum()) - (size - 1) / 2) / math.sqrt((size + 1) / 12),
            "chi-square": (chi - free) / math.sqrt(2 * free),
            "fixed points": fixed_points - 1.0,
            "even ones": float(permuted[::2].double().mean() - (size - 1) / 2) / size * math.sqrt(12 * size),
        }
        for name, value in values.items():
            figures.setdefault(name, []).append(value)
    for name, drawn in figures.items():
        assert abs(np.mean(drawn)) < 3.5 / math.sqrt(len(drawn)), (name, np.mean(drawn))
        assert 0.5 < np.std(drawn) < 1.5, (name, np.std(drawn))


def test_neighbours_of_neighbours_differ_between_seeds_and_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "LARGE", 100)
    orders = [epoch_order(numbered(5000), seed, epoch)[:] for seed in range(6) for epoch in range(6)]
    for index, drawn in enumerate(orders):
        for other in orders[:index]:
            assert int((drawn == other).sum()) < 9  # by chance 1, and 9 or more once in a million pairs
            x, y = (o.double() - 2499.5 for o in (drawn, other))
            assert abs(float((x * y).mean())) / (5000**2 / 12) < 5 / math.sqrt(5000)


@pytest.mark.parametrize("size", [101, 1000, 4099])
@pytest.mark.parametrize("batch_spec", [BatchSpec(7, 1), BatchSpec(16, 4), BatchSpec(5, 1, num_ranks=3)])
def test_the_samples_are_the_same_however_they_are_cut(
    size: int, batch_spec: BatchSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "_AHEAD", 64)
    lazy, num_ranks = shuffle(numbered(size), 3), batch_spec.num_ranks
    start = Position(1, 2 * batch_spec.batch_size * num_ranks)

    def shares(indices: Indices) -> list[list[tuple[Tensor, Position]]]:
        specs = (BatchSpec(batch_spec.batch_size, 1, num_ranks, rank) for rank in range(num_ranks))
        return [list(micro_batches(indices, start, spec)) for spec in specs]

    ours = shares(lazy)
    whole = torch.cat([part for rounds in zip(*ours, strict=True) for part, _ in rounds])
    assert torch.equal(whole, lazy[start.offset :])
    for batches, expected in zip(ours, shares(lazy[:]), strict=True):
        for (part, after), (same, there) in zip(batches, expected, strict=True):
            assert torch.equal(part, same) and after == there


def test_it_is_read_as_a_tensor_is() -> None:
    lazy, tensor = shuffle(numbered(999), 3), shuffle(numbered(999), 3)[:]
    assert len(lazy) == len(tensor)
    assert torch.equal(lazy[3:70:2], tensor[3:70:2]) and torch.equal(lazy[:0], tensor[:0])
    assert torch.equal(lazy[torch.tensor([998, 0, 5])], tensor[[998, 0, 5]])
    assert torch.equal(lazy.part(10, 30)[:], tensor[10:30])
    assert lazy.to(torch.device("meta"))[:5].is_meta
    assert torch.equal(evenly_spaced(lazy, 10), evenly_spaced(tensor, 10))
    assert list(map(len, slices(lazy, range(0, 2000, 400), 400))) == [400, 400, 199, 0, 0]


def test_splits_are_disjoint_and_together_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_indices, "LARGE", 100)
    splits = split(numbered(1001), Holdout(0.2, 0.1, 5, None, None, 5), None)
    assert all(isinstance(part, LazyIndices) for part in splits.values())
    assert {name: len(part) for name, part in splits.items()} == {"train": 701, "test": 100, "val": 200}
    assert torch.equal(torch.cat([part[:] for part in splits.values()]).sort().values, torch.arange(1001))
    again, other = (split(numbered(1001), Holdout(0.2, 0.1, s, None, None, 5), None) for s in (5, 6))
    assert torch.equal(again["val"][:], splits["val"][:])
    assert not torch.equal(other["val"][:], splits["val"][:])
    few = split(numbered(1001), Holdout(0.2, 0.1, 5, 50, None, 5), None)
    assert len(few["train"]) == 50 and torch.isin(few["train"][:], splits["train"][:]).all()
    assert torch.equal(few["val"][:], splits["val"][:])
    fold = split(numbered(1001), Holdout(0.2, 0.1, 5, None, 2, 5), None)  # all in memory, as of few samples
    assert torch.equal(torch.cat([part[:] for part in fold.values()]).sort().values, torch.arange(1001))


def test_classes_are_held_out_evenly_of_any_number() -> None:
    classes = torch.arange(1001) % 7
    lazy = LazyIndices(1001, lambda places: places)
    splits = split(lazy, Holdout(0.2, 0.1, 5, None, None, 5), classes)
    expected = split(torch.arange(1001), Holdout(0.2, 0.1, 5, None, None, 5), classes)
    assert all(torch.equal(splits[name], part) for name, part in expected.items())
    assert hold_out(lazy, 0, 0, "val", None)[0] is lazy


def test_few_samples_keep_their_order() -> None:
    train = torch.tensor([5, 7, 11, 13])
    assert isinstance(numbered(lazy_indices.LARGE), Tensor)
    assert torch.equal(epoch_order(train, 3, 5), train[order.permutation(4, 3, "order", 5)])


def test_a_thousand_million_samples() -> None:
    splits = split(numbered(HUGE), Holdout(0.15, 0.15, 0, None, None, 5), None)
    batches = micro_batches(epoch_order(splits["train"], 0, 3), Position(3, 640), BatchSpec(64, 1, 8, 5))
    first = list(islice(batches, 3))
    assert [after.offset for _, after in first] == [1152, 1664, 2176]
    assert len(torch.cat([part for part, _ in first]).unique()) == 3 * 64
