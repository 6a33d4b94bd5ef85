"""Losses against torch's own means, scikit-learn's weights and the papers' formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn
from torch.nn import functional as F

from trainrun.loss import (
    L1,
    MSE,
    BCEWithLogits,
    CrossEntropy,
    Custom,
    Distillation,
    Focal,
    GaussianNLL,
    Huber,
    Loss,
    SmoothL1,
    as_loss,
)
from trainrun.vocabulary.errors import ConfigError

GENERATOR = torch.Generator().manual_seed(0)
LOGITS = torch.randn(23, 4, generator=GENERATOR) * 3
CLASSES = torch.randint(0, 4, (23,), generator=GENERATOR)
SOFT = torch.softmax(torch.randn(23, 4, generator=GENERATOR), 1)
LABELS = (torch.rand(23, 4, generator=GENERATOR) > 0.7).float()
VALUES = torch.randn(23, 4, generator=GENERATOR) * 2
COUNTS = tuple(torch.bincount(CLASSES, minlength=4).tolist())
WEIGHTS = [0.5, 1.0, 2.0, 4.0]


def mean(loss: Loss, outputs: Tensor, targets: Tensor, parts: int = 1) -> Tensor:
    """As the step does it: sums over micro-batches, divided by what they count for."""
    total = count = torch.zeros(())
    for some_outputs, some_targets in zip(outputs.chunk(parts), targets.chunk(parts), strict=True):
        each = loss(some_outputs, some_targets)
        assert each.shape == (len(some_outputs),)
        weight = loss.weight(some_targets)
        total = total + each.sum()
        count = count + (len(each) if weight is None else weight.sum())
    return total / count


TORCHS: list[Any] = [
    (CrossEntropy(None, ()), CLASSES, nn.CrossEntropyLoss()),
    (CrossEntropy(None, ()), SOFT, nn.CrossEntropyLoss()),
    (CrossEntropy(WEIGHTS, COUNTS), CLASSES, nn.CrossEntropyLoss(torch.tensor(WEIGHTS))),
    (CrossEntropy(WEIGHTS, ()), CLASSES, nn.CrossEntropyLoss(torch.tensor(WEIGHTS))),
    (BCEWithLogits(None, ()), LABELS, nn.BCEWithLogitsLoss()),
    (BCEWithLogits(3.0, ()), LABELS, nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0))),
    (MSE(), VALUES, nn.MSELoss()),
    (L1(), VALUES, nn.L1Loss()),
    (Huber(0.7), VALUES, nn.HuberLoss(delta=0.7)),
    (SmoothL1(0.7), VALUES, nn.SmoothL1Loss(beta=0.7)),
    (Focal(0.0), CLASSES, nn.CrossEntropyLoss()),
    (Focal(0.0), LABELS, nn.BCEWithLogitsLoss()),
]


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize(("loss", "targets", "theirs"), TORCHS)
def test_sums_divided_by_counts_are_torchs_mean_however_the_batch_is_cut(
    loss: Loss, targets: Tensor, theirs: nn.Module, parts: int
) -> None:
    torch.testing.assert_close(mean(loss, LOGITS, targets, parts), theirs(LOGITS, targets))


@pytest.mark.parametrize(
    ("theirs", "targets"),
    [
        (nn.CrossEntropyLoss, CLASSES),
        (lambda: nn.CrossEntropyLoss(torch.tensor(WEIGHTS)), CLASSES),
        (lambda: nn.CrossEntropyLoss(ignore_index=2), CLASSES),
        (lambda: nn.CrossEntropyLoss(torch.tensor(WEIGHTS), ignore_index=2), CLASSES),
        (lambda: nn.CrossEntropyLoss(label_smoothing=0.1), CLASSES),
        (nn.CrossEntropyLoss, SOFT),
        (nn.MultiMarginLoss, CLASSES),
        (nn.BCEWithLogitsLoss, LABELS),
        (nn.MSELoss, VALUES),
        (nn.SmoothL1Loss, VALUES),
        (nn.SoftMarginLoss, LABELS * 2 - 1),
        (lambda: nn.KLDivLoss(reduction="batchmean"), SOFT),
    ],
)
@pytest.mark.parametrize("parts", [1, 3])
def test_torchs_own_losses_keep_their_mean_however_the_batch_is_cut(
    theirs: Any, targets: Tensor, parts: int
) -> None:
    torch.testing.assert_close(
        mean(Custom(theirs()), LOGITS, targets, parts), theirs()(LOGITS, targets), rtol=1e-5, atol=1e-5
    )


def test_a_custom_function_may_return_a_value_per_sample_or_one_mean() -> None:
    for function in (
        F.mse_loss,
        lambda o, t: (o - t).square(),
        lambda o, t: (o - t).square().mean(1),
    ):
        torch.testing.assert_close(mean(Custom(function), LOGITS, VALUES), F.mse_loss(LOGITS, VALUES))


def test_a_foreign_module_is_wrapped_and_an_own_loss_is_not() -> None:
    mse = MSE()
    assert as_loss(mse) is mse
    wrapped = as_loss(nn.CrossEntropyLoss(torch.tensor(WEIGHTS)))
    assert isinstance(wrapped, Custom)
    assert [name for name, _ in wrapped.named_buffers()] == ["function.weight"]  # moves with the device


def balanced_weights(counts: tuple[int, ...]) -> torch.Tensor:
    weights = CrossEntropy("balanced", counts).class_weights
    assert weights is not None
    return weights


def test_balanced_class_weights_are_scikit_learns() -> None:
    labels = np.repeat([0, 1, 2], [5, 60, 35])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(balanced_weights((5, 60, 35)), expected, rtol=1e-6)
    balanced = CrossEntropy("balanced", COUNTS)
    explicit = CrossEntropy(balanced_weights(COUNTS).tolist(), COUNTS)
    torch.testing.assert_close(balanced(LOGITS, CLASSES), explicit(LOGITS, CLASSES))
    assert balanced_weights((5, 0)).tolist() == [0.5, 0.0]  # a class without samples


def test_balanced_weights_make_every_class_count_alike() -> None:
    loss = CrossEntropy("balanced", COUNTS)
    weight = loss.weight(CLASSES)
    assert weight is not None
    totals = torch.zeros(4).index_add(0, CLASSES, weight)
    torch.testing.assert_close(totals, torch.full((4,), 23 / 4))


def test_soft_targets_weigh_as_their_classes() -> None:
    loss = CrossEntropy(WEIGHTS, COUNTS)
    one_hot = F.one_hot(CLASSES, 4).float()
    torch.testing.assert_close(loss.weight(one_hot), loss.weight(CLASSES))
    torch.testing.assert_close(loss(LOGITS, one_hot), loss(LOGITS, CLASSES))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_is_its_formula(gamma: float) -> None:
    p = torch.softmax(LOGITS.double(), 1)[torch.arange(23), CLASSES]
    expected = -((1 - p) ** gamma) * p.log()
    torch.testing.assert_close(Focal(gamma)(LOGITS, CLASSES).double(), expected, rtol=1e-4, atol=1e-6)
    q = torch.sigmoid(LOGITS.double())
    p_t = torch.where(LABELS > 0.5, q, 1 - q)
    expected = (-((1 - p_t) ** gamma) * p_t.log()).mean(1)
    torch.testing.assert_close(Focal(gamma)(LOGITS, LABELS).double(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("margin", [20.0, 200.0])
def test_focal_has_a_finite_gradient_where_the_model_is_certain(gamma: float, margin: float) -> None:
    logits = torch.tensor([[margin, 0.0], [0.0, margin]], requires_grad=True)
    Focal(gamma)(logits, torch.tensor([0, 0])).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()
    logits.grad = None
    Focal(gamma)(logits, torch.tensor([[1.0, 0.0], [1.0, 0.0]])).sum().backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_huber_is_beta_times_smooth_l1() -> None:
    torch.testing.assert_close(Huber(0.3)(LOGITS, VALUES), 0.3 * SmoothL1(0.3)(LOGITS, VALUES))


def test_gaussian_nll_is_torchs_with_a_softplus_variance() -> None:
    loss = GaussianNLL(1e-3)
    outputs = torch.cat([LOGITS, VALUES], 1)
    expected = F.gaussian_nll_loss(LOGITS, SOFT, F.softplus(VALUES) + 1e-3, eps=1e-3)
    torch.testing.assert_close(mean(loss, outputs, SOFT, 3), expected)
    assert loss.outputs_per_target == 2


@pytest.mark.parametrize("scale", [1, 40])  # to variances of no more than eps
def test_gaussian_nll_and_its_gradient_have_the_bits_of_torchs(scale: int) -> None:
    outputs = torch.cat([LOGITS, VALUES * scale], 1).requires_grad_()
    mean, variance = outputs[:, :4], F.softplus(outputs[:, 4:]) + 1e-3
    theirs = F.gaussian_nll_loss(mean, SOFT, variance, reduction="none", eps=1e-3).mean(1)
    ours = GaussianNLL(1e-3)(outputs, SOFT)
    assert torch.equal(ours, theirs)
    assert torch.equal(*(torch.autograd.grad(loss.sum(), outputs)[0] for loss in (ours, theirs)))


def test_gaussian_nll_is_least_at_the_true_mean_and_variance() -> None:
    targets = torch.randn(20_000, 1, generator=GENERATOR) * 2 + 1

    def at(center: float, std: float) -> float:
        raw = torch.tensor(std**2).expm1().log()  # softplus is the variance
        outputs = torch.stack([torch.full((20_000,), center), raw.expand(20_000)], 1)
        return float(GaussianNLL(1e-6)(outputs, targets).mean())

    best = at(1, 2)
    assert all(best < at(*other) for other in ((0.7, 2), (1.3, 2), (1, 1.7), (1, 2.3)))


def test_balanced_pos_weight_is_negatives_by_positives() -> None:
    torch.testing.assert_close(
        BCEWithLogits("balanced", (60, 20))(LOGITS, LABELS), BCEWithLogits(3.0, ())(LOGITS, LABELS)
    )


@pytest.mark.parametrize(
    "loss", [MSE(), L1(), Huber(1.0), SmoothL1(1.0), BCEWithLogits(None, ()), Focal(2.0)]
)
def test_shapes_that_would_be_broadcast_are_refused(loss: Loss) -> None:
    with pytest.raises(
        ConfigError, match=r"model: gives outputs of shape \(23,\) for targets of shape \(23, 1\)"
    ):
        loss(LOGITS[:, 0], LABELS[:, :1])


def test_gaussian_nll_refuses_a_model_without_variances() -> None:
    with pytest.raises(ConfigError, match="model: gives outputs"):
        GaussianNLL(1e-6)(VALUES[:, :1], VALUES[:, :1])


@pytest.mark.parametrize("outputs", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_lose_nothing_but_their_own_rounding(outputs: torch.dtype) -> None:
    rounded = LOGITS.to(outputs)
    pairs: list[tuple[Loss, Tensor]] = [(loss, targets) for loss, targets, _ in TORCHS]
    pairs.append((GaussianNLL(1e-6), VALUES[:, :2]))
    for loss, targets in pairs:
        with torch.autocast("cpu", outputs):
            losses = loss(rounded, targets)
        torch.testing.assert_close(losses.float(), loss(rounded.float(), targets), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: CrossEntropy("balanced", ()), r"loss\.class_weights: balanced needs data that know"),
        (lambda: CrossEntropy([1.0, 2.0], (5, 5, 5)), r"loss\.class_weights: must list 3 weights"),
        (lambda: BCEWithLogits("balanced", ()), r"loss\.pos_weight: balanced needs two classes"),
        (lambda: BCEWithLogits("balanced", (5, 0)), r"loss\.pos_weight"),
    ],
)
def test_weights_that_cannot_be_are_config_errors(make: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        make()


def test_weights_are_no_part_of_a_checkpoint() -> None:
    assert CrossEntropy(WEIGHTS, COUNTS).state_dict() == {} == BCEWithLogits(2.0, ()).state_dict()


def test_a_loss_without_its_formula_is_refused_when_it_is_made() -> None:
    with pytest.raises(TypeError, match="Can't instantiate abstract class Half"):
        type("Half", (Loss,), {})()


class Teacher(nn.Module):
    """Twice the inputs, with noise where it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x


def distilled(alpha: float, temperature: float, outputs: Tensor, targets: Tensor, inputs: Tensor) -> Tensor:
    loss = Distillation("big", alpha, temperature)
    loss.network = Teacher()
    return loss.of_training(outputs, targets, inputs)


@pytest.mark.parametrize(("alpha", "temperature"), [(0.9, 4.0), (1.0, 1.0), (0.3, 2.5)])
@pytest.mark.parametrize("targets", [CLASSES, SOFT], ids=["classes", "soft"])
def test_distillation_is_hintons_formula(alpha: float, temperature: float, targets: Tensor) -> None:
    """Written out sum by sum: T^2 times the sum of p log(p / q), and the cross-entropy of q at T = 1."""
    inputs = torch.randn(LOGITS.shape, generator=torch.Generator().manual_seed(1))
    losses = distilled(
        alpha,
        temperature,
        LOGITS.double(),
        targets.double() if targets.ndim > 1 else targets,
        inputs.double(),
    )
    for sample, (ours, theirs) in enumerate(
        zip(LOGITS.double().tolist(), (2 * inputs).double().tolist(), strict=True)
    ):
        q = np.exp(np.array(ours) / temperature) / np.exp(np.array(ours) / temperature).sum()
        p = np.exp(np.array(theirs) / temperature) / np.exp(np.array(theirs) / temperature).sum()
        soft = temperature**2 * (p * np.log(p / q)).sum()
        true = np.eye(4)[int(targets[sample])] if targets.ndim == 1 else targets[sample].double().numpy()
        hard = -(true * np.log(np.exp(ours) / np.exp(ours).sum())).sum()
        assert float(losses[sample]) == pytest.approx((1 - alpha) * hard + alpha * soft, rel=1e-9)


def test_a_hot_teacher_pulls_by_the_difference_of_logits() -> None:
    """For high T the gradient is (z - v) / C of centred logits (Hinton et al., 2015, equation 4)."""
    outputs = LOGITS.double().requires_grad_()
    inputs = SOFT.double()
    distilled(1.0, 1e6, outputs, CLASSES, inputs).sum().backward()
    centred = [logits - logits.mean(1, keepdim=True) for logits in (outputs.detach(), 2 * inputs)]
    assert outputs.grad is not None
    torch.testing.assert_close(outputs.grad, (centred[0] - centred[1]) / 4, rtol=1e-3, atol=1e-4)


def test_the_teacher_gets_no_gradient_and_an_evaluation_does_not_need_it() -> None:
    outputs = LOGITS.clone().requires_grad_()
    loss = Distillation("big", 0.9, 4.0)
    torch.testing.assert_close(loss(outputs, CLASSES), F.cross_entropy(outputs, CLASSES, reduction="none"))
    with pytest.raises(ConfigError, match="is asked only where"):
        loss.of_training(outputs, CLASSES, LOGITS)
    loss.network = teacher = Teacher()
    loss.of_training(outputs, CLASSES, LOGITS).sum().backward()
    assert teacher.weight.grad is None and outputs.grad is not None
    with pytest.raises(ConfigError, match="gives outputs of shape"):
        loss.of_training(outputs, CLASSES, LOGITS[:, :3])
