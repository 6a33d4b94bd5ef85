"""LightningModules: a stand-in of the same shape, and the real package where it is installed."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainrun.protocols import Batch, DataInfo, InputParts, Position
from trainrun.runtime.vision import declare_missing_operators
from trainrun.task.lightning import Lightning
from trainrun.vocabulary.errors import ConfigError

X, Y = torch.arange(6.0).reshape(3, 2), torch.tensor([1.0, 2.0, 3.0])
INFO = DataInfo("whole", (), "whole", 0, {})


def stand_in() -> ModuleType:
    """A module of the package's name whose LightningModule is a plain Module."""
    owner = type("LightningModule", (nn.Module,), {"__module__": "lightning.pytorch.core.module"})
    return SimpleNamespace(LightningModule=owner)  # type: ignore[return-value]


@pytest.fixture(params=["stand-in", "lightning"])
def package(request: pytest.FixtureRequest) -> Any:
    if request.param == "stand-in":
        return stand_in()
    declare_missing_operators()  # it imports torchvision
    return pytest.importorskip("lightning", reason="lightning is not installed")


def module(package: Any, **methods: Any) -> nn.Module:
    class Lit(package.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.weight * x.sum(1)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            loss = (self(x) - y).square().mean()
            self.log("train_loss", loss, prog_bar=True)
            self.log_dict({"at": float(self.global_step), "epoch": self.current_epoch, "index": batch_idx})
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            self.log("val/mae", (self(x) - y).abs().mean(), on_epoch=True)
            self.log("val_loss", (self(x) - y).square().mean())

    for name, method in methods.items():
        setattr(Lit, name, method)
    return Lit()


def batch(**fields: Any) -> Batch:
    return Batch(InputParts((X, Y)), None, torch.arange(3), Position(), **fields)


def test_the_training_step_gives_the_loss_and_what_it_logs(package: Any) -> None:
    model, task = module(package), Lightning(INFO)
    task.progress = lambda: (7, 2)
    task.check(model)
    outcome = task(model, batch())
    expected = (2 * X.sum(1) - Y).square().mean()
    assert outcome.terms["loss"].item() == pytest.approx(3 * expected.item())
    outcome.terms["loss"].backward()
    assert model.weight.grad is not None
    assert task.summarize(outcome.sums, 3) == {"at": 7, "epoch": 2, "index": 7}
    assert "log" not in vars(model) and vars(model).get("_trainer") is None


def test_a_validation_step_that_only_logs_has_its_loss_and_metrics(package: Any) -> None:
    model, task = module(package).eval(), Lightning(INFO)
    outcome = task(model, batch(split="val"))
    assert outcome.terms["loss"].item() == pytest.approx(3 * (2 * X.sum(1) - Y).square().mean().item())
    assert task.summarize(outcome.sums, 3) == pytest.approx({"mae": (2 * X.sum(1) - Y).abs().mean().item()})


def test_the_test_split_has_its_own_step_and_batches_are_counted(package: Any) -> None:
    seen: list[tuple[str, int]] = []

    def test_step(self: Any, batch: Any, batch_idx: int) -> Tensor:
        seen.append(("test", batch_idx))
        return self(batch[0]).mean()

    model = module(package, test_step=test_step).eval()
    Lightning(INFO)(model, batch(split="test", number=4))
    assert seen == [("test", 4)]


def test_a_validation_step_without_a_loss_is_not_given_another_metric_for_it() -> None:
    """An accuracy in its place would have the worst weights chosen."""

    def validation_step(self: Any, batch: Any, batch_idx: int) -> None:
        self.log("val_acc", self(batch[0]).mean())

    model = module(stand_in(), validation_step=validation_step).eval()
    with pytest.raises(ConfigError, match=r"validation_step must return its loss, .*or log one whose name"):
        Lightning(INFO)(model, batch(split="val"))


def test_what_is_not_supplied_is_refused_by_name() -> None:
    class Manual(stand_in().LightningModule):  # type: ignore[misc, name-defined]
        def training_step(self, batch: Any) -> None:
            optimizer = self.optimizers()
            self.manual_backward(batch)
            optimizer.step()
            self.logger.experiment.add_image(self.trainer.max_epochs)

        def on_train_epoch_end(self) -> None: ...

        def train_dataloader(self) -> None: ...

    said = "does not supply what Manual uses: logger, manual_backward, on_train_epoch_end, optimizers, "
    with pytest.raises(ConfigError, match=f"{said}train_dataloader, trainer; .*loop.step._target_"):
        Lightning(INFO).check(Manual())


def test_a_model_without_steps_is_refused() -> None:
    with pytest.raises(ConfigError, match="Linear has no training_step"):
        Lightning(INFO).check(nn.Linear(1, 1))
