"""Data held in memory: exact splits, scaling fitted on training samples, order that resumes anywhere."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor
from toy import same_bits

from trainrun.data.fingerprint import fingerprint
from trainrun.data.resident import Holdout, InMemoryData, resident
from trainrun.protocols import Batch, BatchSpec, DataInfo, Position
from trainrun.vocabulary.errors import ConfigError, DataError

GENERATOR = torch.Generator().manual_seed(0)
TABLE = torch.randn(53, 4, generator=GENERATOR) * torch.tensor([1.0, 5.0, 0.1, 0.0]) + 3
CLASSES = torch.randint(0, 3, (53,), generator=GENERATOR)


def make(
    inputs: Tensor = TABLE,
    targets: Tensor = CLASSES,
    kind: str = "classes",
    num_targets: int = 3,
    val: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
    limit: int | None = None,
    official: Tensor | None = None,
    fold: int | None = None,
) -> InMemoryData:
    info = DataInfo("toy", tuple(inputs.shape[1:]), kind, num_targets, {})
    given = {} if official is None else {"test": official}
    return resident(info, inputs, targets, Holdout(val, test, seed, limit, fold, 5), 8, given)


def take(
    data: InMemoryData, count: int, position: Position, batch_spec: BatchSpec, seed: int = 1
) -> list[Batch]:
    return list(islice(data.train_batches(position, batch_spec, seed), count))


def test_splits_are_disjoint_complete_and_sized_as_info_says() -> None:
    data = make()
    parts = {name: set(part.tolist()) for name, part in data.splits.items()}
    assert set.union(*parts.values()) == set(range(53))
    assert sum(map(len, parts.values())) == 53
    assert {name: len(part) for name, part in parts.items()} == data.info.sizes
    assert data.info.sizes == {"train": 53 - 22, "val": 11, "test": 11}
    assert data.info.class_counts == tuple(np.bincount(CLASSES[data.splits["train"]], minlength=3))


@pytest.mark.parametrize("official", [None, torch.arange(40, 53)], ids=["held out", "official test"])
def test_folds_are_a_partition_and_hold_their_share_of_every_class(official: Tensor | None) -> None:
    split = "test" if official is None else "val"
    folds = [make(fold=fold, official=official) for fold in range(5)]
    parts = [set(data.splits[split].tolist()) for data in folds]
    everything = set(range(53 if official is None else 40))
    assert set.union(*parts) == everything
    assert sum(map(len, parts)) == len(everything)
    for data, part in zip(folds, parts, strict=True):
        assert not part & set(data.splits["train"].tolist())
        for label in range(3):
            share = sum(int(CLASSES[n]) == label for n in everything) / 5
            assert abs(sum(int(CLASSES[n]) == label for n in part) - share) < 1
        assert official is None or torch.equal(data.splits["test"], official)


def test_a_fold_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.fold: must be 0 to 4, got 5"):
        make(fold=5)


def test_splits_depend_on_their_own_seed() -> None:
    assert torch.equal(make(seed=4).splits["test"], make(seed=4).splits["test"])
    assert not torch.equal(make(seed=4).splits["test"], make(seed=5).splits["test"])


def test_the_test_split_does_not_depend_on_the_validation_share_or_the_limit() -> None:
    wanted = make().splits["test"]
    assert torch.equal(wanted, make(val=0.4).splits["test"])
    assert torch.equal(wanted, make(limit=5).splits["test"])
    assert torch.equal(make().splits["val"], make(limit=5).splits["val"])


def test_an_official_test_split_is_kept_and_never_trained_on() -> None:
    official = torch.arange(40, 53)
    data = make(test=0.0, official=official)
    assert torch.equal(data.splits["test"], official)
    assert not set(official.tolist()) & {*data.splits["train"].tolist(), *data.splits["val"].tolist()}
    assert data.info.sizes["val"] == round(0.2 * 40)


def test_tables_are_scaled_as_by_a_standard_scaler_fitted_on_the_training_split_alone() -> None:
    data = make()
    scaler = StandardScaler().fit(TABLE[data.splits["train"]].double().numpy())
    for split in ("train", "val", "test"):
        batches = torch.cat([batch.inputs for batch in data.eval_batches(split)])
        expected = scaler.transform(TABLE[data.splits[split]].double().numpy())
        np.testing.assert_allclose(batches.numpy(), expected, rtol=1e-5, atol=1e-5)


def test_pictures_are_scaled_by_channel() -> None:
    pictures = torch.randint(0, 256, (40, 2, 3, 3), generator=GENERATOR).to(torch.uint8)
    data = make(pictures, CLASSES[:40])
    assert data.shift.shape == data.scale.shape == (1, 2, 1, 1)
    train = torch.cat([batch.inputs for batch in data.eval_batches("train")])
    assert train.dtype == torch.float32 and train.shape[1:] == (2, 3, 3)
    torch.testing.assert_close(train.mean((0, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std((0, 2, 3), correction=0), torch.ones(2))
    assert data.inputs.dtype == torch.uint8


def test_regression_targets_keep_their_units_and_their_scaling_is_the_training_splits() -> None:
    values = TABLE[:, :2] * 10 + 7
    data = make(targets=values, kind="values", num_targets=2)
    assert torch.equal(data.targets, values)
    train, scaling = values[data.splits["train"]].double(), data.info.target_scaling
    assert scaling is not None
    np.testing.assert_allclose(scaling.mean, train.mean(0), rtol=1e-6)
    np.testing.assert_allclose(scaling.std, train.std(0, correction=0), rtol=1e-6)


def test_every_epoch_is_a_permutation_of_the_training_split_and_orders_differ() -> None:
    data = make()
    batches = take(data, 8, Position(), BatchSpec(8, 1))
    epochs = [torch.cat([b.indices for b in batches[start : start + 4]]) for start in (0, 4)]
    for order in epochs:
        assert sorted(order.tolist()) == data.splits["train"].tolist()
    assert not torch.equal(*epochs)
    assert [len(b) for b in batches] == [8, 8, 8, 7] * 2
    assert not torch.equal(take(data, 1, Position(), BatchSpec(8, 1), seed=2)[0].indices, batches[0].indices)


@pytest.mark.parametrize("num_batches", range(9))
def test_resuming_at_any_position_continues_with_the_identical_batches(num_batches: int) -> None:
    data, batch_spec = make(), BatchSpec(8, 2)
    whole = take(data, 12, Position(), batch_spec)
    position = whole[num_batches - 1].position if num_batches else Position()
    for resumed, expected in zip(
        take(data, 12 - num_batches, position, batch_spec), whole[num_batches:], strict=True
    ):
        assert torch.equal(resumed.inputs, expected.inputs) and torch.equal(resumed.targets, expected.targets)
        assert torch.equal(resumed.indices, expected.indices) and resumed.position == expected.position


def test_targets_belong_to_their_inputs() -> None:
    data = make()
    for batch in (*take(data, 4, Position(), BatchSpec(8, 1)), *data.eval_batches("val")):
        assert torch.equal(batch.targets, CLASSES[batch.indices])
        torch.testing.assert_close(batch.inputs / data.scale + data.shift, TABLE[batch.indices])


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_evaluation_sees_every_sample_exactly_once(split: str) -> None:
    data = make()
    batches = list(data.eval_batches(split))
    assert torch.cat([b.indices for b in batches]).tolist() == data.splits[split].tolist()
    assert all(len(b) == 8 for b in batches[:-1])


@pytest.mark.parametrize("limit", [1, 7, 30])
def test_limit_keeps_that_many_training_samples(limit: int) -> None:
    data = make(limit=limit)
    assert data.info.sizes == {"train": limit, "val": 11, "test": 11}
    assert set(data.splits["train"].tolist()) <= set(make().splits["train"].tolist())


def test_a_limit_above_the_size_keeps_all() -> None:
    assert make(limit=1000).info.sizes == make().info.sizes


def test_the_fingerprint_is_of_the_data_not_of_the_split() -> None:
    assert make().info.fingerprint == make(seed=5, limit=9).info.fingerprint
    values = TABLE[:, :1]
    regressions = [make(targets=values, kind="values", num_targets=1, seed=s) for s in (0, 1)]
    assert regressions[0].info.fingerprint == regressions[1].info.fingerprint == fingerprint([TABLE, values])


def test_fitted_values_are_restored_in_place_of_the_own_ones() -> None:
    data, other = (make(targets=TABLE[:, :2], kind="values", num_targets=2, seed=seed) for seed in (0, 9))
    assert not any(torch.equal(value, other.fitted()[name]) for name, value in data.fitted().items())
    other.restore(data.fitted())
    assert same_bits(other.fitted(), data.fitted())


def test_batches_are_copies() -> None:
    data = make(inputs=TABLE.clone())
    take(data, 1, Position(), BatchSpec(8, 1))[0].inputs.zero_()
    assert torch.equal(data.inputs, TABLE)


def test_shares_that_leave_nothing_to_train_on_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match=r"data\.val_fraction"):
        make(val=0.5, test=0.5)


@pytest.mark.parametrize("what", ["inputs", "targets"])
def test_values_that_are_not_finite_are_a_data_error(what: str) -> None:
    bad = torch.where(torch.arange(53)[:, None] == 5, torch.nan, TABLE)
    with pytest.raises(DataError, match=rf"toy has {what}"):
        make(**{"inputs": TABLE, "targets": TABLE[:, :1], what: bad}, kind="values", num_targets=1)


def test_balanced_data_draw_rare_classes_as_often_and_resume_anywhere() -> None:
    classes = (torch.arange(53) % 9 == 0).long()
    data = make(targets=classes, num_targets=2)
    data.balance()
    batches = take(data, 7, Position(), BatchSpec(5, 1))  # an epoch of 31
    drawn = torch.cat([batch.targets for batch in batches])
    assert abs(int((drawn == 0).sum()) - int((drawn == 1).sum())) <= 1
    again = take(data, 3, batches[3].position, BatchSpec(5, 1))
    assert all(same_bits(batch.inputs, other.inputs) for batch, other in zip(batches[4:], again, strict=True))
    evaluated = torch.cat([torch.as_tensor(batch.indices) for batch in data.eval_batches("train")])
    assert torch.equal(evaluated, data.splits["train"])
    shares = [take(data, 4, Position(), BatchSpec(5, 1, 2, rank)) for rank in (0, 1)]
    whole = take(data, 4, Position(), BatchSpec(10, 1))
    for batch, other, both in zip(*shares, whole, strict=True):
        assert torch.equal(torch.cat([batch.targets, other.targets]), both.targets)
