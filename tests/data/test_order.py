"""Order and splits: pure functions of seeds."""

from __future__ import annotations

import math
from itertools import islice

import pytest
import torch

from trainrun.data.order import epoch_order, fold_of, hold_out, micro_batches, permutation, position_after
from trainrun.protocols import BatchSpec, Position
from trainrun.vocabulary.errors import ConfigError


def test_order_is_a_permutation_and_pure_in_seed_and_purpose() -> None:
    order = permutation(100, 3, "order", 5)
    assert sorted(order.tolist()) == list(range(100))
    torch.manual_seed(77)  # the global generator has no part in it
    assert torch.equal(order, permutation(100, 3, "order", 5))
    for other in (
        permutation(100, 4, "order", 5),
        permutation(100, 3, "order", 6),
        permutation(100, 3, "x", 5),
    ):
        assert not torch.equal(order, other)


def test_shuffling_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    permutation(10, 0, "order", 0)
    hold_out(torch.arange(10), 3, 0, "val", None)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("counts", [(50, 7, 3), (1, 1, 98), (20, 20, 20), (5, 0, 16), (1, 40)])
def test_balanced_classes_are_drawn_equally_often_and_their_samples_too(counts: tuple[int, ...]) -> None:
    train = 1000 + torch.arange(sum(counts))  # some samples of a larger set
    classes = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    order = epoch_order(train, 3, 0, classes)
    assert len(order) == len(train)
    share, num_classes = len(train) / sum(count > 0 for count in counts), len(counts)
    drawn = torch.bincount(classes[order - 1000], minlength=num_classes).tolist()
    assert all(
        n in (math.floor(share), math.ceil(share)) for n, count in zip(drawn, counts, strict=True) if count
    )
    for label in range(num_classes):  # within a class no sample comes twice before another came once
        each = torch.bincount(order - 1000, minlength=len(train))[classes == label]
        assert not len(each) or int(each.max() - each.min()) <= 1


def test_balanced_order_is_pure_in_seed_and_epoch_and_mixes_the_classes() -> None:
    classes = torch.tensor([0] * 90 + [1] * 10)
    order = epoch_order(torch.arange(100), 3, 1, classes)
    torch.manual_seed(77)
    assert torch.equal(order, epoch_order(torch.arange(100), 3, 1, classes))
    assert not torch.equal(order, epoch_order(torch.arange(100), 3, 2, classes))
    assert not torch.equal(order, epoch_order(torch.arange(100), 4, 1, classes))
    first_half = int(classes[order[:50]].sum())
    assert 15 <= first_half <= 35  # 25 expected, 3 standard deviations of 3.2 and a little
    over_epochs = [epoch_order(torch.arange(100), 3, epoch, classes).tolist() for epoch in range(40)]
    assert {index for order in over_epochs for index in order} == set(range(100))  # none is left out for good


def test_without_classes_an_epoch_is_a_permutation() -> None:
    train = torch.tensor([4, 9, 2, 7])
    assert torch.equal(epoch_order(train, 3, 5, None), train[permutation(4, 3, "order", 5)])


@pytest.mark.parametrize("offset", [0, 4, 8])
def test_micro_batches_cover_the_rest_of_the_epoch_with_a_short_last_one(offset: int) -> None:
    order = permutation(10, 0, "order", 2)
    parts = list(micro_batches(order, Position(2, offset), BatchSpec(4, 1)))
    assert torch.equal(torch.cat([part for part, _ in parts]), order[offset:])
    assert [len(part) for part, _ in parts] == [4, 4, 2][offset // 4 :]
    assert [after for _, after in parts] == [Position(2, 4), Position(2, 8), Position(3, 0)][offset // 4 :]


def test_an_epoch_that_divides_evenly_ends_as_the_start_of_the_next() -> None:
    *_, (_, after) = micro_batches(torch.arange(8), Position(0), BatchSpec(4, 1))
    assert after == Position(1, 0)


@pytest.mark.parametrize("share", [0.1, 0.15, 0.2, 0.37, 0.5])
@pytest.mark.parametrize("counts", [(50, 50, 50), (59, 71, 48), (212, 357), (3, 90, 7, 1), (1, 1, 1, 30)])
def test_stratified_split_gives_floor_or_ceiling_of_every_class_share(
    share: float, counts: tuple[int, ...]
) -> None:
    classes = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    classes = classes[permutation(len(classes), 9)]
    count = round(share * len(classes))
    rest, held = hold_out(torch.arange(len(classes)), count, 1, "val", classes)
    assert sorted([*rest.tolist(), *held.tolist()]) == list(range(len(classes)))
    assert len(held) == count
    for label, size in enumerate(counts):
        expected = size * count / len(classes)
        assert int((classes[held] == label).sum()) in (math.floor(expected), math.ceil(expected))


def test_every_sample_of_a_class_may_be_the_one_held_out() -> None:
    held = {int(i) for seed in range(40) for i in hold_out(torch.arange(5), 1, seed, "val", None)[1]}
    assert held == set(range(5))


def test_splits_depend_on_seed_and_purpose_alone() -> None:
    indices = torch.arange(60)
    held = hold_out(indices, 15, 5, "val", None)[1]
    assert torch.equal(held, hold_out(indices, 15, 5, "val", None)[1])
    assert not torch.equal(held, hold_out(indices, 15, 6, "val", None)[1])
    assert not torch.equal(held, hold_out(indices, 15, 5, "test", None)[1])


def test_nothing_and_everything_can_be_held_out() -> None:
    assert [part.tolist() for part in hold_out(torch.arange(3), 0, 0, "val", None)] == [[0, 1, 2], []]
    assert [part.tolist() for part in hold_out(torch.arange(3), 3, 0, "val", None)] == [[], [0, 1, 2]]


def test_windows_never_cross_an_epoch() -> None:
    batch_spec = BatchSpec(batch_size=2, accumulate=3)
    assert batch_spec.window == 6
    ends = [after.offset for _, after in islice(micro_batches(torch.arange(7), Position(), batch_spec), 4)]
    assert ends == [2, 4, 6, 0]


@pytest.mark.parametrize("size", [1, 3, 4, 11, 12, 13, 23, 24, 29])
def test_ranks_together_take_the_micro_batches_of_one(size: int) -> None:
    order = torch.arange(100, 100 + size)
    alone = [part.tolist() for part, _ in micro_batches(order, Position(), BatchSpec(4, 3))]
    shares = [list(micro_batches(order, Position(), BatchSpec(4, 1, num_ranks=3, rank=r))) for r in range(3)]
    assert len({len(share) for share in shares}) == 1  # as many rounds on each, so that none waits in vain
    in_turn = [part.tolist() for turn in zip(*shares, strict=True) for part, _ in turn]
    assert [part for part in in_turn if part] == alone
    positions = [[after for _, after in share] for share in shares]
    assert positions[0] == positions[1] == positions[2]
    assert positions[0][-1] == Position(1, 0)


@pytest.mark.parametrize("count", [5, 13, 50])
def test_folds_of_a_seed_are_one_partition_and_as_equal_as_can_be(count: int) -> None:
    indices = torch.arange(100, 100 + count)
    pairs = [fold_of(indices, fold, 5, 3, None) for fold in range(5)]
    assert sorted(int(index) for _, part in pairs for index in part) == indices.tolist()
    for rest, part in pairs:
        assert sorted([*rest.tolist(), *part.tolist()]) == indices.tolist()
        assert len(part) in (count // 5, -(-count // 5))
    assert torch.equal(
        pairs[2][1], fold_of(indices, 2, 5, 3, None)[1]
    )  # so two models can be compared by pairs


def test_folds_of_another_seed_are_others() -> None:
    first, second = (fold_of(torch.arange(50), 0, 5, seed, None)[1] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_a_fold_beyond_the_last_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.fold: must be 0 to 4, got 5"):
        fold_of(torch.arange(50), 5, 5, 0, None)


@pytest.mark.parametrize(("size", "batch_size", "accumulate"), [(41, 4, 3), (12, 4, 3), (5, 8, 1), (7, 2, 2)])
def test_the_place_after_so_many_windows_is_where_the_batches_lead(
    size: int, batch_size: int, accumulate: int
) -> None:
    batch_spec, position, step = BatchSpec(batch_size, accumulate), Position(), 0
    for _ in range(3):
        for count, (_, after) in enumerate(micro_batches(torch.arange(size), position, batch_spec), 1):
            if count % accumulate == 0 or after.offset == 0:
                step += 1
                assert position_after(step, size, batch_spec.window) == after
        position = after
