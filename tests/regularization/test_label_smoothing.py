"""Label smoothing: the very value of torch's own."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from trainrun.protocols import Batch, DataInfo, Position
from trainrun.regularization.label_smoothing import LabelSmoothing, probabilities
from trainrun.vocabulary.errors import ConfigError

GENERATOR = torch.Generator().manual_seed(0)
INFO = DataInfo("toy", (4,), "classes", 5, {})


def smoothed(targets: torch.Tensor, amount: float) -> torch.Tensor:
    batch = Batch(torch.zeros(len(targets), 4), targets, range(len(targets)), Position(2, 3))
    changed = LabelSmoothing(amount).change_batch(batch, INFO, GENERATOR)
    assert changed.inputs is batch.inputs and changed.position == batch.position
    result: torch.Tensor = changed.targets
    return result


@pytest.mark.parametrize("amount", [0.0, 0.1, 0.5, 0.9])
def test_cross_entropy_is_torchs_with_label_smoothing(amount: float) -> None:
    logits, classes = torch.randn(17, 5, generator=GENERATOR), torch.randint(0, 5, (17,), generator=GENERATOR)
    ours = F.cross_entropy(logits, smoothed(classes, amount))
    torch.testing.assert_close(ours, F.cross_entropy(logits, classes, label_smoothing=amount))


def test_targets_stay_probabilities_and_soft_ones_are_smoothed_too() -> None:
    soft = torch.softmax(torch.randn(6, 5, generator=GENERATOR), 1)
    targets = smoothed(soft, 0.2)
    torch.testing.assert_close(targets.sum(1), torch.ones(6))
    torch.testing.assert_close(targets, 0.8 * soft + 0.2 * torch.full((6, 5), 0.2))


def test_classes_become_one_hot_and_probabilities_stay() -> None:
    assert probabilities(torch.tensor([1, 0]), 3).tolist() == [[0, 1, 0], [1, 0, 0]]
    soft = torch.tensor([[0.3, 0.7]])
    assert probabilities(soft, 2) is soft


def test_nothing_is_drawn() -> None:
    before = GENERATOR.get_state()
    smoothed(torch.tensor([1, 2]), 0.1)
    assert torch.equal(before, GENERATOR.get_state())


@pytest.mark.parametrize("kind", ["values", "labels", "other"])
def test_targets_without_classes_are_a_config_error(kind: str) -> None:
    LabelSmoothing(0.1).check(INFO)
    with pytest.raises(ConfigError, match=r"regularization\.label_smoothing: needs classes"):
        LabelSmoothing(0.1).check(DataInfo("toy", (4,), kind, 5, {}))
