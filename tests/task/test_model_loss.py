"""A model's own loss in every form in which models return it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainrun.protocols import Batch, DataInfo, InputParts, Position
from trainrun.task.model_loss import ModelLoss
from trainrun.vocabulary.errors import ConfigError

X = torch.arange(6.0).reshape(3, 2)
INFO = DataInfo("whole", (), "whole", 0, {})


class Returns(nn.Module):
    """Returns what `make` makes of its weight times the inputs."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.weight, self.make = nn.Parameter(torch.tensor(2.0)), make

    def forward(self, inputs: Any) -> Any:
        x = inputs["x"] if isinstance(inputs, dict) else inputs[0] if isinstance(inputs, tuple) else inputs
        return self.make(self.weight * x)


def batch(inputs: Any = X, targets: Any = None) -> Batch:
    return Batch(inputs, targets, torch.arange(3), Position())


MEAN = 5.0  # of 2 x
FORMS = {
    "tensor": lambda y: y.mean(),
    "of each sample": lambda y: y.mean(1),
    "logits and loss": lambda y: (y, y.mean()),
    "loss first": lambda y: (y.mean(), y, "more"),
    "object": lambda y: SimpleNamespace(loss=y.mean(), logits=y),
    "dict with loss": lambda y: {"loss": y.mean(), "logits": y},
    "losses": lambda y: {"box": y.mean() / 5, "label": y.mean() * 4 / 5},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_loss_and_gradient(form: str) -> None:
    model, task = Returns(FORMS[form]), ModelLoss(INFO, -100)
    outcome = task(model, batch())
    assert outcome.terms["loss"].item() == pytest.approx(MEAN * 3)
    (outcome.terms["loss"] / task.count(batch())["loss"]).backward()
    assert model.weight.grad is not None and model.weight.grad.item() == pytest.approx(
        2.5
    )  # d mean(w x) / dw
    if form == "losses":
        means = task.summarize(outcome.sums, 3)
        assert means == pytest.approx({"box": 1.0, "label": 4.0})


def test_the_batch_says_what_its_loss_is_a_mean_of() -> None:
    task = ModelLoss(INFO, -100)
    counted = batch({"x": X, "count": torch.tensor([1, 2, 4])})
    assert task.count(counted)["loss"] == 7
    assert task(Returns(FORMS["tensor"]), counted).terms["loss"].item() == pytest.approx(MEAN * 7)
    assert task.count(batch({"x": X, "num_items_in_batch": torch.tensor(9)}))["loss"] == 9
    assert task.count(batch())["loss"] == 3


def test_built_in_data_are_given_as_inputs_and_targets() -> None:
    seen = []
    model = Returns(FORMS["tensor"])
    model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    ModelLoss(INFO, -100)(model, batch(X, torch.ones(3)))
    assert isinstance(seen[0], InputParts) and len(seen[0]) == 2


class Detector(nn.Module):
    """As torchvision's: losses while training, else predictions."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop = nn.BatchNorm1d(2), nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Any:
        loss = self.drop(self.norm(x)).square().mean()
        return {"loss_box": loss} if self.training else [{"boxes": x}]


def test_a_model_that_gives_its_loss_only_in_training_is_evaluated_without_changing_it() -> None:
    model, task = Detector().eval(), ModelLoss(INFO, -100)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        outcome = task(model, batch())
    expected = (X / (1 + 1e-5) ** 0.5).square().mean()  # the norm's statistics are still 0 and 1, no dropout
    assert outcome.terms["loss"].item() == pytest.approx(3 * expected.item(), rel=1e-6)
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (lambda y: y, r"got a tensor of shape \(3, 2\)"),
        (lambda y: {"logits": y}, "got a dict with logits"),
        (lambda y: (y.mean(), y.sum()), "got a tuple"),
        (lambda y: None, "got a NoneType"),
    ],
)
def test_no_loss_is_refused_with_what_came(returned: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=f"must return its loss: .*{said}"):
        ModelLoss(INFO, -100)(Returns(returned), batch())


def test_a_loss_without_a_gradient_is_refused_in_training() -> None:
    with pytest.raises(ConfigError, match="its loss does not depend on its weights"):
        ModelLoss(INFO, -100)(Returns(lambda y: y.mean().detach()), batch())
    with torch.no_grad():
        ModelLoss(INFO, -100)(Returns(lambda y: y.mean().detach()), batch())


def test_predictions_are_the_outputs_beside_the_loss() -> None:
    task = ModelLoss(INFO, -100)
    for form in ("logits and loss", "loss first", "object", "dict with loss"):
        assert torch.equal(task.predict(Returns(FORMS[form]), X), 2 * X)
    assert torch.equal(task.predict(Returns(lambda y: y), X), 2 * X)
    with pytest.raises(ConfigError, match="cannot predict"):
        task.predict(Returns(FORMS["tensor"]), X)


def test_a_target_that_is_none_is_called_as_the_model_calls_it() -> None:
    class Tokens(nn.Module):
        def forward(self, parts: Any) -> Any:
            logits = torch.zeros(4, 5, requires_grad=True)
            return logits, nn.functional.cross_entropy(logits, parts[1].flatten(), ignore_index=-1)

    tokens = Batch(torch.zeros(2, 2), torch.tensor([[1, 2], [3, -100]]), torch.arange(2), Position())
    outcome = ModelLoss(INFO, -1)(Tokens(), tokens)
    assert outcome.terms["loss"].item() == pytest.approx(2 * torch.tensor(5.0).log().item())
