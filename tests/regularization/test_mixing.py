"""Mixup and CutMix against their papers' arithmetic, sample by sample."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from trainrun.loss import BCEWithLogits, CrossEntropy
from trainrun.protocols import Batch, DataInfo, Position
from trainrun.regularization.kinds import BatchChange, combine_batch_changes
from trainrun.regularization.label_smoothing import LabelSmoothing
from trainrun.regularization.mixing import CutMix, Mixup
from trainrun.task.binary import Binary
from trainrun.task.classification import Classification
from trainrun.vocabulary.errors import ConfigError

INFO = DataInfo("toy", (1, 8, 6), "classes", 4, {})
N = 16


def batch() -> Batch:
    """Picture i holds the number i everywhere, its class is i modulo 4."""
    numbers = torch.arange(float(N))
    return Batch(numbers.view(N, 1, 1, 1).expand(N, 1, 8, 6), torch.arange(N) % 4, range(N), Position())


def drawn(change: BatchChange, seed: int) -> Batch:
    return change.change_batch(batch(), INFO, torch.Generator().manual_seed(seed))


def onehot(k: float) -> torch.Tensor:
    return F.one_hot(torch.tensor(int(k) % 4), 4).float()


@pytest.mark.parametrize("seed", range(5))
def test_mixup_adds_two_samples_and_their_targets_in_one_share(seed: int) -> None:
    mixed = drawn(Mixup(1.0), seed)
    assert mixed.is_mixed and mixed.inputs.shape == (N, 1, 8, 6)
    values = mixed.inputs[:, 0, 0, 0]
    assert torch.equal(mixed.inputs, values.view(N, 1, 1, 1).expand_as(mixed.inputs))
    # lam is the same for all and the partners are a permutation, so it can be solved for
    order = torch.randperm(N, generator=torch.Generator().manual_seed(seed)).float()
    moved = order != torch.arange(N)
    shares = ((values - order) / (torch.arange(N) - order))[moved]
    torch.testing.assert_close(shares, shares[:1].expand_as(shares), rtol=1e-4, atol=1e-5)
    for i in range(N):
        expected = shares[0] * onehot(i) + (1 - shares[0]) * onehot(float(order[i]))
        torch.testing.assert_close(mixed.targets[i], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_cutmix_sets_one_rectangle_and_shares_targets_by_its_area(seed: int) -> None:
    mixed = drawn(CutMix(1.0), seed)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(seed))
    i = int((order != torch.arange(N)).nonzero()[0])
    foreign = mixed.inputs[i, 0] != i
    assert torch.equal(foreign, foreign.any(1)[:, None] & foreign.any(0)[None])  # a rectangle
    for k in range(N):
        assert torch.equal(mixed.inputs[k, 0], torch.where(foreign, order[k], k).float())
        share = 1 - float(foreign.float().mean())
        expected = share * onehot(k) + (1 - share) * onehot(float(order[k]))
        torch.testing.assert_close(mixed.targets[k], expected)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_beta(alpha: float) -> None:
    shares = np.array([float(drawn(Mixup(alpha), seed).targets[0].max()) for seed in range(1500)])
    truth = np.random.default_rng(0).beta(alpha, alpha, 60_000)
    truth = np.maximum(truth, 1 - truth)
    shares = shares[shares < 1 - 1e-6]  # a partner of the same class hides the share
    truth = truth[truth < 1 - 1e-6]
    assert abs(shares.mean() - truth.mean()) < 5 * truth.std() / len(shares) ** 0.5
    assert shares.std() == pytest.approx(truth.std(), rel=0.12)


def test_cross_entropy_on_the_mixture_is_the_papers_sum_of_two() -> None:
    mixed, logits = drawn(Mixup(1.0), 3), torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    i = int((order != torch.arange(N)).nonzero()[0])
    share = float((mixed.inputs[i, 0, 0, 0] - order[i]) / (i - order[i]))
    y = torch.arange(N) % 4
    expected = share * F.cross_entropy(logits, y) + (1 - share) * F.cross_entropy(logits, y[order])
    torch.testing.assert_close(CrossEntropy(None, ())(logits, mixed.targets).mean(), expected)


def test_both_together_choose_one_for_each_batch_and_smoothing_stays() -> None:
    changes = combine_batch_changes([Mixup(1.0), LabelSmoothing(0.1), CutMix(1.0)])
    assert len(changes) == 2 and isinstance(changes[1], LabelSmoothing)
    kinds = []
    for seed in range(400):
        inputs = drawn(changes[0], seed).inputs
        kinds.append(bool((inputs == inputs.round()).all()))  # cutmix leaves whole numbers
    assert sum(kinds) / 400 == pytest.approx(0.5, abs=5 * 0.5 / 20)
    alone = combine_batch_changes([LabelSmoothing(0.1), Mixup(1.0)])
    assert [type(change) for change in alone] == [LabelSmoothing, Mixup]


def test_draws_come_from_the_generator_alone() -> None:
    before = torch.get_rng_state()
    first, second = (drawn(CutMix(1.0), 5) for _ in range(2))
    assert torch.equal(first.inputs, second.inputs) and torch.equal(first.targets, second.targets)
    assert torch.equal(before, torch.get_rng_state())


def test_accuracy_on_mixtures_is_the_share_of_the_target_on_the_predicted_class() -> None:
    targets = torch.tensor([[0.7, 0.3, 0.0], [0.2, 0.1, 0.7], [0.1, 0.9, 0.0]])
    logits = torch.tensor([[9.0, 0, 0], [0, 9.0, 0], [0, 0, 9.0]])
    info = DataInfo("toy", (2,), "classes", 3, {})
    task = Classification([], CrossEntropy(None, ()), info)
    batch = Batch(logits, targets, range(3), Position(), is_mixed=True)
    outcome = task(torch.nn.Identity().train(), batch)
    assert task.summarize(outcome.sums, 3) == pytest.approx({"accuracy_mixed": (0.7 + 0.1 + 0.0) / 3})
    binary = Binary([], BCEWithLogits(None, ()), DataInfo("toy", (2,), "classes", 2, {}))
    two = Batch(
        torch.tensor([[3.0], [-3.0]]), torch.tensor([[0.4, 0.6], [0.9, 0.1]]), range(2), Position(), True
    )
    outcome = binary(torch.nn.Identity().train(), two)
    assert binary.summarize(outcome.sums, 2) == pytest.approx({"accuracy_mixed": (0.6 + 0.9) / 2})


@pytest.mark.parametrize("change", [Mixup(1.0), CutMix(1.0)], ids=["mixup", "cutmix"])
def test_what_cannot_be_mixed_is_a_config_error(change: Mixup | CutMix) -> None:
    change.check(INFO)
    with pytest.raises(ConfigError, match=rf"regularization\.{change.name}: needs classes to mix"):
        change.check(DataInfo("toy", (1, 8, 6), "values", 1, {}))
    words = Batch(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([0, 1]), [0, 1], Position())
    with pytest.raises(ConfigError, match="needs inputs of real numbers"):
        change.change_batch(words, INFO, torch.Generator())


def test_cutmix_wants_pictures() -> None:
    with pytest.raises(ConfigError, match=r"regularization\.cutmix: cuts pictures .* \(13,\); use mixup"):
        CutMix(1.0).check(DataInfo("toy", (13,), "classes", 3, {}))


@pytest.mark.parametrize(
    "change", [Mixup(0.2), CutMix(1.0), LabelSmoothing(0.1)], ids=["mixup", "cutmix", "smooth"]
)
def test_an_empty_share_is_changed_in_kind(change: BatchChange) -> None:
    empty = Batch(torch.zeros(0, 1, 8, 6), torch.zeros(0, dtype=torch.int64), (), Position())
    mixed = change.change_batch(empty, INFO, torch.Generator())
    assert mixed.is_mixed is drawn(change, 0).is_mixed
    assert mixed.targets.shape == (0, 4) and mixed.inputs.shape == empty.inputs.shape
