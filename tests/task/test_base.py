"""Tasks and their base: metrics from sums over uneven batches are scikit-learn's on the whole split."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as sk
from torch import Tensor, nn

from trainrun.data import scaling
from trainrun.loop.evaluate import evaluate
from trainrun.loss import MSE, BCEWithLogits, CrossEntropy, Custom, GaussianNLL
from trainrun.precision import fp32
from trainrun.protocols import Batch, DataInfo, Outcome, Position, TargetScaling
from trainrun.regularization.label_smoothing import LabelSmoothing
from trainrun.task.base import Task, confusion_matrix, f1_macro, perplexity, sum_exactly
from trainrun.task.binary import Binary
from trainrun.task.classification import Classification
from trainrun.task.language_model import LanguageModel
from trainrun.task.multilabel import Multilabel
from trainrun.task.regression import Regression
from trainrun.vocabulary.errors import ConfigError

GENERATOR = torch.Generator().manual_seed(0)
N = 101
CUTS = (40, 1, 33, 27)  # uneven on purpose


class Echo(nn.Module):
    """Its outputs are its inputs: the tests choose what is predicted."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def info(kind: str, num_targets: int, **more: Any) -> DataInfo:
    return DataInfo("toy", (4,), kind, num_targets, {"train": N}, **more)


def measure(task: Task, outputs: Tensor, targets: Tensor, training: bool = False) -> dict[str, float]:
    """Loss and metrics, added up over batches as an evaluation or a log window does."""
    model = Echo().train(training)
    sums: dict[str, Tensor] = {}
    loss = count = torch.zeros(())
    for some_outputs, some_targets in zip(outputs.split(CUTS), targets.split(CUTS), strict=True):
        batch = Batch(some_outputs, some_targets, range(len(some_outputs)), Position())
        outcome = task(model, batch)
        loss, count = loss + outcome.terms["loss"], count + task.count(batch)["loss"]
        for name, value in outcome.sums.items():
            sums[name] = sums[name] + value if name in sums else value
    return {"loss": float(loss / count), **task.summarize(sums, N)}


def close(metrics: Mapping[str, float], **expected: float) -> None:
    assert set(expected) <= set(metrics)
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, rel=1e-5, abs=1e-7), name


def f1(targets: Tensor, predicted: Tensor, num_classes: int) -> float:
    """scikit-learn's mean over classes or labels, without those that nowhere occur."""
    labels = range(num_classes)
    return float(sk.f1_score(targets, predicted, average="macro", labels=labels, zero_division=np.nan))


@pytest.mark.parametrize("num_classes", [3, 10])
def test_classification(num_classes: int) -> None:
    outputs = torch.randn(N, num_classes, generator=GENERATOR)
    targets = torch.randint(0, num_classes - 1, (N,), generator=GENERATOR)  # the last class never occurs
    outputs[torch.arange(N), targets] += 1.5
    if num_classes == 10:
        outputs[:, 9] -= 99  # nor is it ever predicted
    task = Classification([], CrossEntropy(None, ()), info("classes", num_classes))
    metrics = measure(task, outputs, targets)
    predicted = outputs.argmax(1)
    expected = {
        "accuracy": sk.accuracy_score(targets, predicted),
        "f1_macro": f1(targets, predicted, num_classes),
        "loss": sk.log_loss(targets, torch.softmax(outputs.double(), 1), labels=range(num_classes)),
    }
    if num_classes > 5:
        expected["top5"] = sk.top_k_accuracy_score(targets, outputs, k=5, labels=range(num_classes))
    close(metrics, **expected)
    assert set(metrics) == set(expected)
    close(measure(task, outputs, targets, training=True), accuracy=expected["accuracy"])
    torch.testing.assert_close(task.predict(Echo(), outputs), torch.softmax(outputs.double(), 1))
    assert task.num_outputs == num_classes


def test_top5_counts_five_classes_and_no_more_where_outputs_are_tied() -> None:
    """The true class is surely among five if four outputs are above it, surely not if five are."""
    task = Classification([], CrossEntropy(None, ()), info("classes", 8))
    descending = torch.arange(8, 0, -1.0).expand(8, 8).clone()
    targets = torch.arange(8)
    hits = [float(task.sums(descending[[i]], targets[[i]])["top5"]) for i in range(8)]
    assert hits == [1, 1, 1, 1, 1, 0, 0, 0]
    tied = torch.zeros(8, 8)  # every class has the same output: only five of the eight may count
    assert int(task.sums(tied, targets)["top5"]) == 5
    tied[:, :2] = 1.0  # two above, six tied for the three places left
    assert int(task.sums(tied, targets)["top5"]) == 5


@pytest.mark.parametrize(("num_classes", "has_top5"), [(5, False), (6, True)])
def test_top5_is_a_metric_from_six_classes_on(num_classes: int, has_top5: bool) -> None:
    task = Classification([], CrossEntropy(None, ()), info("classes", num_classes))
    metrics = measure(task, torch.randn(N, num_classes, generator=GENERATOR), torch.arange(N) % num_classes)
    assert ("top5" in metrics) is ("top5" in task.metric_modes) is has_top5


@pytest.mark.parametrize(("nats", "finite"), [(699.9, True), (700.0, False), (math.nan, False)])
def test_a_perplexity_that_no_float_can_hold_is_infinite(nats: float, finite: bool) -> None:
    assert perplexity(nats) == (math.exp(nats) if finite else math.inf)


def test_losses_in_half_precision_are_summed_in_single() -> None:
    losses = torch.full((3000,), 100.0, dtype=torch.float16)
    assert float(sum_exactly(losses)) == 300_000.0  # beyond the 65,504 of float16
    assert sum_exactly(losses.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "text",
    [
        "labels; use task=multilabel loss=bce_with_logits$",
        "values; use task=regression loss=mse$",
        "tokens; use task=language_model loss=cross_entropy$",
        "other$",
    ],
)
def test_targets_of_another_kind_are_refused_with_the_task_that_fits(text: str) -> None:
    kind = text.strip("$").partition(";")[0]
    with pytest.raises(ConfigError, match=f"^task: classification learns classes, .* are {text}"):
        Classification([], CrossEntropy(None, ()), info(kind, 3))


def test_f1_leaves_out_what_never_occurs_and_is_0_without_any_class() -> None:
    hits, claimed, real = torch.tensor([2, 0, 0]), torch.tensor([3, 1, 0]), torch.tensor([2, 0, 0])
    assert f1_macro(hits, claimed, real) == pytest.approx((2 * 2 / 5 + 0) / 2)
    assert f1_macro(*torch.zeros(3, 4, dtype=torch.int64)) == 0.0


def test_a_confusion_matrix_has_true_classes_as_rows() -> None:
    predicted, true = torch.tensor([0, 2, 2, 1]), torch.tensor([0, 1, 1, 1])
    assert confusion_matrix(predicted, true, 3).tolist() == [[1, 0, 0], [0, 1, 2], [0, 0, 0]]


def test_class_weights_weigh_the_mean_over_the_whole_split() -> None:
    outputs, targets = torch.randn(N, 3, generator=GENERATOR), torch.arange(N) % 3
    weights = [0.2, 1.0, 5.0]
    task = Classification([], CrossEntropy(weights, ()), info("classes", 3))
    expected = nn.functional.cross_entropy(outputs, targets, torch.tensor(weights))
    close(measure(task, outputs, targets), loss=float(expected))


def test_the_likeliest_class_of_soft_targets_is_the_true_one() -> None:
    outputs, targets = torch.randn(N, 4, generator=GENERATOR), torch.randint(0, 4, (N,), generator=GENERATOR)
    soft = 0.7 * nn.functional.one_hot(targets, 4) + 0.3 / 4
    task = Classification([], CrossEntropy(None, ()), info("classes", 4))
    hard, smoothed = measure(task, outputs, targets), measure(task, outputs, soft)
    close(smoothed, accuracy=hard["accuracy"], f1_macro=hard["f1_macro"])
    close(smoothed, loss=float(nn.functional.cross_entropy(outputs, soft)))


@pytest.mark.parametrize("as_probabilities", [False, True])
def test_binary(as_probabilities: bool) -> None:
    outputs, classes = torch.randn(N, 1, generator=GENERATOR), torch.randint(0, 2, (N,), generator=GENERATOR)
    task = Binary([], BCEWithLogits(None, ()), info("classes", 2))
    targets = nn.functional.one_hot(classes, 2).float() if as_probabilities else classes
    predicted = outputs[:, 0] > 0
    close(
        measure(task, outputs, targets),
        accuracy=sk.accuracy_score(classes, predicted),
        f1_macro=f1(classes, predicted, 2),
        loss=sk.log_loss(classes, torch.sigmoid(outputs[:, 0].double())),
    )
    close(measure(task, outputs, targets, training=True), accuracy=sk.accuracy_score(classes, predicted))
    assert task.num_outputs == 1
    torch.testing.assert_close(task.predict(Echo(), outputs), torch.sigmoid(outputs.double()))


def test_binary_learns_the_second_classs_probability() -> None:
    task = Binary([], BCEWithLogits(None, ()), info("classes", 2))
    outputs = torch.randn(N, 1, generator=GENERATOR)
    p = torch.rand(N, generator=GENERATOR)
    expected = nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], p)
    close(measure(task, outputs, torch.stack([1 - p, p], 1)), loss=float(expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_multilabel(dtype: torch.dtype) -> None:
    outputs = torch.randn(N, 4, generator=GENERATOR) - torch.tensor([0.0, 1.0, 2.0, 9.0])
    targets = (torch.rand(N, 4, generator=GENERATOR) > torch.tensor([0.5, 0.7, 0.9, 1.0])).to(dtype)
    task = Multilabel([], BCEWithLogits(None, ()), info("labels", 4))
    predicted = outputs > 0
    close(
        measure(task, outputs, targets),
        accuracy=1 - sk.hamming_loss(targets, predicted),
        f1_macro=f1(targets, predicted, 4),
        loss=float(nn.functional.binary_cross_entropy_with_logits(outputs, targets.float())),
    )
    close(measure(task, outputs, targets, training=True), accuracy=1 - sk.hamming_loss(targets, predicted))


SCALINGS = {
    "a table's": TargetScaling(torch.tensor([100.0, -3.0, 0.0]), torch.tensor([20.0, 0.5, 1.0])),
    "a stream's": None,
}


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("given", SCALINGS)
def test_regression_is_learned_standardised_and_judged_in_the_targets_own_units(
    given: str, standardize: bool
) -> None:
    scaling = SCALINGS[given]
    task = Regression([], MSE(), info("values", 3, target_scaling=scaling), standardize)
    learned = torch.randn(N, 3, generator=GENERATOR)
    outputs = learned + 0.3 * torch.randn(N, 3, generator=GENERATOR)
    mean, std = (scaling.mean, scaling.std) if scaling and standardize else (torch.zeros(3), torch.ones(3))
    targets, own_outputs = learned * std + mean, outputs.double() * std + mean
    expected = {
        "rmse": sk.root_mean_squared_error(targets, own_outputs),
        "mae": sk.mean_absolute_error(targets, own_outputs),
        "r2": sk.r2_score(targets, own_outputs),
    }
    loss = sk.mean_squared_error(learned, outputs)
    close(measure(task, outputs, targets), **expected, loss=loss)
    np.testing.assert_allclose(task.predict(Echo(), outputs), own_outputs, rtol=1e-6)


def test_a_regression_follows_the_scaling_that_a_resumed_run_restores() -> None:
    data = info("values", 1, target_scaling=TargetScaling(torch.zeros(1), torch.ones(1)))
    task = Regression([], MSE(), data, standardize=True)
    scaling.restore(
        data.target_scaling, {"target_mean": torch.tensor([10.0]), "target_std": torch.tensor([2.0])}
    )
    assert task.targets(torch.tensor([[14.0]])).item() == 2
    assert task.predict(Echo(), torch.tensor([[2.0]])).item() == 14


def test_regression_with_a_predicted_variance_is_judged_by_the_mean() -> None:
    targets = torch.randn(N, 2, generator=GENERATOR)
    outputs = torch.randn(N, 4, generator=GENERATOR)
    task = Regression([], GaussianNLL(1e-6), info("values", 2), standardize=True)
    assert task.num_outputs == 4
    close(measure(task, outputs, targets), r2=sk.r2_score(targets, outputs[:, :2]))
    assert task.predict(Echo(), outputs).shape == (N, 2)


def test_r2_of_large_values_keeps_its_digits() -> None:
    targets = 2000 + torch.randn(N, 1, generator=GENERATOR)
    outputs = targets + 0.5 * torch.randn(N, 1, generator=GENERATOR)
    task = Regression([], MSE(), info("values", 1), standardize=True)
    close(measure(task, outputs, targets), r2=sk.r2_score(targets.double(), outputs.double()))


def test_metrics_say_which_way_is_better() -> None:
    for task, outputs, targets in (
        (
            Classification([], CrossEntropy(None, ()), info("classes", 6)),
            torch.randn(N, 6),
            torch.arange(N) % 6,
        ),
        (Binary([], BCEWithLogits(None, ()), info("classes", 2)), torch.randn(N, 1), torch.arange(N) % 2),
        (Multilabel([], BCEWithLogits(None, ()), info("labels", 2)), torch.randn(N, 2), torch.ones(N, 2)),
        (Regression([], MSE(), info("values", 1), standardize=True), torch.randn(N, 1), torch.randn(N, 1)),
    ):
        assert set(measure(task, outputs, targets)) == set(task.metric_modes)


def test_the_gradient_is_the_losses_alone() -> None:
    model = nn.Linear(4, 3)
    task = Classification([], CrossEntropy(None, ()), info("classes", 3))
    x, y = torch.randn(8, 4, generator=GENERATOR), torch.arange(8) % 3
    outcome = task(model, Batch(x, y, range(8), Position()))
    assert not any(value.requires_grad for value in outcome.sums.values())
    outcome.terms["loss"].backward()
    gradient = model.weight.grad
    model.weight.grad = None
    nn.functional.cross_entropy(model(x), y, reduction="sum").backward()
    torch.testing.assert_close(gradient, model.weight.grad)


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        (Classification, "values"),
        (Classification, "labels"),
        (Binary, "values"),
        (Multilabel, "classes"),
        (Regression, "classes"),
        (Regression, "other"),
    ],
)
def test_targets_that_a_task_cannot_learn_are_a_config_error(task: Any, kind: str) -> None:
    name = task.__name__.lower()
    with pytest.raises(ConfigError, match=f"task: {name} learns .*, the targets of toy are {kind}"):
        task([], MSE(), info(kind, 2), *([True] if task is Regression else []))


def test_binary_with_more_than_two_classes_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="task: binary needs two classes, toy has 3; use classification"):
        Binary([], BCEWithLogits(None, ()), info("classes", 3))


def test_a_task_of_ones_own_needs_no_more_than_its_call() -> None:
    class Votes(Task):
        kinds = ("classes",)

        def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
            logits = model(batch.inputs)
            loss = nn.functional.cross_entropy(logits, batch.targets, reduction="sum")
            return Outcome({"loss": loss}, {"accuracy": (logits.argmax(1) == batch.targets).sum()})

    outputs, targets = torch.randn(N, 3, generator=GENERATOR), torch.arange(N) % 3
    task = Votes([], CrossEntropy(None, ()), info("classes", 3))
    for training in (True, False):
        metrics = measure(task, outputs, targets, training)
        close(metrics, accuracy=sk.accuracy_score(targets, outputs.argmax(1)))
        close(metrics, loss=float(nn.functional.cross_entropy(outputs, targets)))
    assert torch.equal(task.predict(Echo(), outputs), outputs)


def test_the_base_alone_learns_and_reports_the_loss() -> None:
    class Values(Task):
        kinds = ("values",)

    outputs, targets = torch.randn(N, 2, generator=GENERATOR), torch.randn(N, 2, generator=GENERATOR)
    task = Values([], MSE(), info("values", 2))
    assert set(measure(task, outputs, targets)) == {"loss"}
    close(measure(task, outputs, targets), loss=sk.mean_squared_error(targets, outputs))


def test_own_metrics_are_known_by_their_names() -> None:
    def error_rate(outputs: Tensor, targets: Tensor) -> float:
        return 0.0

    class Kappa:
        def __call__(self, outputs: Tensor, targets: Tensor) -> float:
            return 0.0

    task = Classification([error_rate, Kappa()], CrossEntropy(None, ()), info("classes", 3))
    assert list(task.own_metrics) == ["error_rate", "Kappa"]


def test_a_metric_that_adds_up_what_it_sees_begins_anew_with_every_split() -> None:
    class Accuracy:
        """As torchmetrics' are: made once, it remembers everything since its last reset."""

        def __init__(self) -> None:
            self.hits: list[Tensor] = []

        def reset(self) -> None:
            self.hits = []

        def update(self, outputs: Tensor, targets: Tensor) -> None:
            self.hits.append(outputs.argmax(1) == targets)

        def compute(self) -> Tensor:
            return torch.cat(self.hits).float().mean()

        def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
            self.update(outputs, targets)
            return self.compute()

    metric = Accuracy()
    task = Classification([metric], CrossEntropy(None, ()), info("classes", 3))
    outputs = torch.randn(N, 3, generator=GENERATOR)
    right, wrong = outputs.argmax(1), outputs.argmin(1)
    for targets, expected in ((right, 1.0), (wrong, 0.0), (right, 1.0)):
        batches = [Batch(outputs, targets, range(N), Position())]
        metrics = evaluate(Echo(), task, batches, fp32(torch.device("cpu")))
        assert metrics["Accuracy"] == metrics["accuracy"] == expected
    assert len(metric.hits) == 1  # nor does it hold what earlier splits were


def test_a_foreign_loss_works_with_a_task() -> None:
    outputs, targets = torch.randn(N, 3, generator=GENERATOR), torch.arange(N) % 3
    weight = torch.tensor([1.0, 2.0, 3.0])
    task = Classification([], Custom(nn.CrossEntropyLoss(weight)), info("classes", 3))
    close(measure(task, outputs, targets), loss=float(nn.functional.cross_entropy(outputs, targets, weight)))


def test_own_metrics_of_a_regression_see_the_targets_own_units() -> None:
    def largest(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().max()

    data = info("values", 1, target_scaling=TargetScaling(torch.tensor([100.0]), torch.tensor([20.0])))
    batch = Batch(torch.tensor([[0.5], [1.0]]), torch.tensor([[100.0], [140.0]]), range(2), Position())
    task = Regression([largest], MSE(), data, standardize=True)
    metrics = evaluate(Echo(), task, [batch], fp32(torch.device("cpu")))
    assert metrics["largest"] == pytest.approx(20.0)
    outcome = task(Echo().eval(), batch)
    assert outcome.outputs is not None and outcome.outputs.flatten().tolist() == [110, 120]
    assert outcome.targets is not None and outcome.targets.flatten().tolist() == [100, 140]


WEIGHTS = torch.rand(N, generator=torch.Generator().manual_seed(5)) * (torch.arange(N) % 4 > 0)


@pytest.mark.parametrize("class_weights", [None, [1.0, 2.0, 0.5]])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_of_samples_are_those_of_the_mean(class_weights: Any, smoothing: float) -> None:
    """Loss and gradient over uneven batches are torch's cross-entropy of each sample, averaged by hand."""
    data = info("classes", 3)
    task = Classification([], CrossEntropy(class_weights, ()), data)
    outputs, targets = torch.randn(N, 3, generator=GENERATOR), torch.arange(N) % 3
    mine, theirs = outputs.clone().requires_grad_(), outputs.clone().requires_grad_()
    total, count = torch.zeros(()), torch.zeros(())
    for part in torch.arange(N).split(CUTS):
        batch = Batch(mine[part], targets[part], part, Position()).weighed(WEIGHTS, torch.device("cpu"))
        if smoothing:
            batch = LabelSmoothing(smoothing).change_batch(batch, data, torch.Generator())
        total, count = total + task(Echo(), batch).terms["loss"], count + task.count(batch)["loss"]
    by_class = None if class_weights is None else torch.tensor(class_weights)
    options = {"weight": by_class, "label_smoothing": smoothing, "reduction": "none"}
    losses = nn.functional.cross_entropy(theirs, targets, **options)  # type: ignore[arg-type]
    counted = WEIGHTS if by_class is None else WEIGHTS * by_class[targets]
    expected = (WEIGHTS * losses).sum() / counted.sum()
    torch.testing.assert_close(total / count, expected)
    gradients = [torch.autograd.grad(loss, x)[0] for loss, x in ((total / count, mine), (expected, theirs))]
    torch.testing.assert_close(*gradients)


def test_a_window_of_weights_of_0_has_a_loss_of_0_and_an_empty_share_none() -> None:
    task = Regression([], MSE(), info("values", 1), standardize=False)
    for size in (3, 0):
        batch = Batch(torch.ones(size, 1), torch.zeros(size, 1), torch.arange(size), Position())
        batch = batch.weighed(torch.zeros(3), torch.device("cpu"))
        assert float(task(Echo(), batch).terms["loss"] / task.count(batch)["loss"]) == 0


def test_only_the_tasks_that_count_samples_weigh_them() -> None:
    assert Regression([], MSE(), info("values", 1), standardize=False).takes_weights
    tokens = DataInfo("toy", (4,), "tokens", 5, {})
    assert not LanguageModel([], CrossEntropy(None, ()), tokens, "", 0, 1.0).takes_weights
    mean = Regression([], Custom(nn.MSELoss()), info("values", 1), standardize=False)
    one = Regression([], Custom(lambda x, y: (x - y).mean()), info("values", 1), standardize=False)
    batch = Batch(torch.ones(3, 1), torch.zeros(3, 1), torch.arange(3), Position())
    batch = batch.weighed(torch.ones(3), torch.device("cpu"))
    assert float(mean(Echo(), batch).terms["loss"]) == 3
    with pytest.raises(ConfigError, match="loss: returns one mean for a batch"):
        one(Echo(), batch)
