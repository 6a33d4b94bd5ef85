"""A LightningModule's own optimizer and schedulers: as a loop by hand and as Lightning's Trainer."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import IterableDataset

from trainrun.assembly.build import Parts, build
from trainrun.assembly.coverage import coverage
from trainrun.config.compose.composer import Composer
from trainrun.data.order import epoch_order, hold_out
from trainrun.runtime.signals import Signals
from trainrun.runtime.vision import declare_missing_operators
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.events import Evaluated, StepsLogged

CODE = """
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import lr_scheduler as S
from torch.utils.data import Dataset

GENERATOR = torch.Generator().manual_seed(0)
X = torch.rand(60, 3, generator=GENERATOR) - 0.5
Y = X.sum(1) + torch.randn(60, generator=GENERATOR) / 5


class Pairs(Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return X[i], Y[i]


class Net(LightningModule):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.layer = kind, nn.Linear(3, 1)
        nn.init.zeros_(self.layer.weight), nn.init.zeros_(self.layer.bias)

    def training_step(self, batch, batch_idx):
        return F.mse_loss(self.layer(batch[0])[:, 0], batch[1])

    def validation_step(self, batch, batch_idx):
        error = self.layer(batch[0])[:, 0] - batch[1]
        self.log("val_loss", error.square().mean())
        self.log("val_mae", error.abs().mean())

    def configure_optimizers(self):
        adam = torch.optim.Adam(self.parameters(), lr=0.1)
        groups = [{"params": [self.layer.weight]}, {"params": [self.layer.bias], "lr": 0.5}]
        sgd = torch.optim.SGD(groups, lr=0.1)
        if self.kind == "alone":
            return adam
        if self.kind == "lists":
            return [adam], [S.ExponentialLR(adam, 0.7)]
        if self.kind == "groups":
            factors = [lambda t: 1 / (t + 1), lambda t: 0.8**t]
            return {"optimizer": sgd, "lr_scheduler": S.LambdaLR(sgd, factors)}
        if self.kind == "step":
            once = S.OneCycleLR(adam, max_lr=0.3, total_steps=13)
            return {"optimizer": adam, "lr_scheduler": {"scheduler": once, "interval": "step", "name": "lr"}}
        if self.kind == "seldom":
            return [adam], [{"scheduler": S.StepLR(adam, 1, 0.5), "frequency": 2}]
        if self.kind == "seldom step":
            return [adam], [{"scheduler": S.StepLR(adam, 1, 0.8), "interval": "step", "frequency": 2}]
        if self.kind == "both":
            warm = S.LinearLR(sgd, 0.2, total_iters=5)
            return [sgd], [{"scheduler": warm, "interval": "step"}, S.ExponentialLR(sgd, 0.7)]
        plateau = S.ReduceLROnPlateau(adam, factor=0.3, patience=0, threshold=0.5)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": plateau, "monitor": "val_mae"}}
"""
BASES = {
    "lit": "import torch\nclass LightningModule(torch.nn.Module):\n    log = lambda *_: None\n"
    "LightningModule.__module__ = 'lightning.pytorch.core.module'\n",
    "real": "from lightning.pytorch import LightningModule\n",
}
KINDS = ("alone", "lists", "groups", "step", "seldom", "seldom step", "both", "plateau")
EPOCHS, SIZE = 4, 14  # of 42 training samples: 3 steps an epoch
REST, _ = hold_out(torch.arange(60), 9, 0, "test", None)
TRAIN, VAL = hold_out(REST, 9, 0, "val", None)


@pytest.fixture
def module(folder: Path) -> Callable[[str], Any]:
    def load(name: str) -> Any:
        (folder / f"{name}.py").write_text(BASES[name] + CODE)
        return importlib.import_module(name)

    return load


def parts_of(kind: str, *words: str, name: str = "lit") -> Parts:
    given = [f"data.train._target_={name}.Pairs", f"model._target_={name}.Net", f"+model.kind='{kind}'"]
    fixed = ["data=dataset", "task=lightning", "optimizer=own", "init=default", f"batch_size={SIZE}"]
    more = ["loop.log_every=1step", "checkpoint.keep_best=0", f"budget={EPOCHS}ep", "runtime.threads=1"]
    return build(Composer().checked([*fixed, *given, *more, *words]).settings)


def trained(parts: Parts, at: Mapping[int, Any] | None = None) -> list[list[float]]:
    """The learning rates of every step; keeps the state's dict `at` steps, as a checkpoint would."""
    rates = []
    for event in parts.loop(Path("unused"), "", None, Signals()).train(parts.state):
        if isinstance(event, StepsLogged):
            rates.append([*event.lr.values()])
        if isinstance(event, (StepsLogged, Evaluated)) and at is not None and parts.state.step in at:
            at[parts.state.step].append(copy.deepcopy(parts.state.state_dict()))
    return rates


def by_hand(lit: Any, kind: str) -> tuple[Any, list[list[float]]]:
    """The loop as one writes it: schedulers step after a batch, or at the end of an epoch."""
    net, rates = lit.Net(kind), []
    returned = net.configure_optimizers()
    if kind == "alone":
        returned = [returned], []
    if isinstance(returned, dict):
        returned = [returned["optimizer"]], [returned["lr_scheduler"]]
    (optimizer,), entries = returned
    entries = [entry if isinstance(entry, dict) else {"scheduler": entry} for entry in entries]

    def step(interval: str, count: int) -> None:
        for entry in entries:
            if entry.get("interval", "epoch") == interval and count % entry.get("frequency", 1) == 0:
                metric = (net.layer(lit.X[VAL])[:, 0] - lit.Y[VAL]).abs().mean().item()
                entry["scheduler"].step(*([metric] if "monitor" in entry else []))

    for epoch in range(EPOCHS):
        for index, rows in enumerate(epoch_order(TRAIN, 0, epoch, None).split(SIZE)):
            rates.append([group["lr"] for group in optimizer.param_groups])
            optimizer.zero_grad()
            (net.layer(lit.X[rows])[:, 0] - lit.Y[rows]).square().mean().backward()
            optimizer.step()
            step("step", index + 1)
        step("epoch", epoch + 1)
    return net, rates


@pytest.mark.parametrize("kind", KINDS)
def test_weights_and_learning_rates_are_those_of_a_loop_by_hand(kind: str, module: Any) -> None:
    net, rates = by_hand(module("lit"), kind)
    parts = parts_of(kind)
    ours = trained(parts)
    assert len({tuple(rate) for rate in ours}) > 1 or kind == "alone"
    assert [pytest.approx(rate, rel=1e-12) for rate in rates] == ours
    for name, weight in net.state_dict().items():
        assert torch.allclose(parts.state.model.state_dict()[name], weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::Warning")  # the Trainer's advice
def test_weights_are_those_of_lightnings_trainer(kind: str, module: Any) -> None:
    declare_missing_operators()  # the package imports torchvision
    pl = pytest.importorskip("lightning.pytorch", reason="lightning is not installed")
    real = module("real")

    class Epochs(IterableDataset[Any]):
        epoch = -1

        def __iter__(self) -> Any:
            self.epoch += 1
            rows = epoch_order(TRAIN, 0, self.epoch, None).split(SIZE)
            return iter([(real.X[part], real.Y[part]) for part in rows])

    loader = torch.utils.data.DataLoader(Epochs(), batch_size=None)
    quiet = dict.fromkeys(
        ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = pl.Trainer(max_epochs=EPOCHS, accelerator="cpu", num_sanity_val_steps=0, **quiet)
    net = real.Net(kind)
    val = torch.utils.data.DataLoader([(real.X[VAL], real.Y[VAL])], batch_size=None)  # type: ignore[arg-type]
    trainer.fit(net, loader, val)
    parts = parts_of(kind, name="real")
    trained(parts)
    for name, weight in net.state_dict().items():
        assert torch.allclose(parts.state.model.state_dict()[name], weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_from_any_step_to_the_same_bits(kind: str, module: Any) -> None:
    """At an epoch's end the stored state has the metric, and its scheduler has not stepped."""
    module("lit")
    whole, at = parts_of(kind), {1: [], 3: [], 7: [], 9: []}
    rates = trained(whole, at)
    expected = whole.state.state_dict()
    for step, states in at.items():
        parts = parts_of(kind)
        parts.state.load_state_dict(states[-1])
        assert trained(parts) == rates[step:]
        assert str(parts.state.state_dict()["optimizer"]) == str(expected["optimizer"])
        for name, weight in whole.state.model.state_dict().items():
            assert torch.equal(parts.state.model.state_dict()[name], weight)


def test_every_parameter_has_its_groups_rate(module: Any) -> None:
    module("lit")
    rows = [line.split() for line in coverage(parts_of("groups")).splitlines()]
    assert [(row[0], row[-2]) for row in rows[1:]] == [("layer.weight", "0.1"), ("layer.bias", "0.5")]


def test_a_rollbacks_factor_does_not_compound(module: Any) -> None:
    module("lit")
    plain, slowed = parts_of("lists"), parts_of("lists")
    slowed.state.lr_factor = 0.5
    assert trained(slowed) == [[rate / 2] for (rate,) in trained(plain)]


def test_the_plan_says_whose_optimizer_and_when_schedulers_step(module: Any) -> None:
    module("lit")
    text = dict(parts_of("both").plan)["optimizer"]
    assert text == "configure_optimizers, lr 0.02 of SGD; LinearLR every step and ExponentialLR every epoch"
    assert dict(parts_of("seldom").plan)["optimizer"].endswith("; StepLR every 2 epochs")
    assert dict(parts_of("alone").plan)["optimizer"].endswith("lr 0.1 of Adam; no schedule")


def test_a_scheduler_that_ends_before_the_run_is_refused_before_training(module: Any) -> None:
    module("lit")  # OneCycleLR of 13 steps, 3 an epoch
    with pytest.raises(ConfigError, match=r"OneCycleLR of .* ends after 13 steps, the run takes 15"):
        parts_of("step", "budget=5ep")


def test_what_a_scheduler_sets_beside_the_rate_is_loaded_as_it_was_stored(module: Any) -> None:
    module("lit")
    first, second = parts_of("step").state, parts_of("step").state
    first.optimizer.step()
    for update in range(5):  # OneCycleLR moves Adam's first beta, too
        first.schedule(update)
    second.load_state_dict(first.state_dict())
    ours, theirs = (state.optimizer.param_groups[0]["betas"] for state in (first, second))
    assert ours == theirs != (0.9, 0.999)


def test_a_metric_that_no_validation_gives_is_refused_before_training(module: Any, folder: Path) -> None:
    module("lit")
    with pytest.raises(ConfigError, match="own follows mae, validation gives nothing"):
        parts_of("plateau", "data.val_fraction=0")
    for monitor, said in {
        "val_iou": "own follows iou, validation gives loss, mae",
        "train_loss": "own follows train_loss, validation",
    }.items():
        (folder / "other.py").write_text(
            (BASES["lit"] + CODE).replace('"monitor": "val_mae"', f'"monitor": "{monitor}"')
        )
        importlib.invalidate_caches()
        with pytest.raises(ConfigError, match=said):
            parts_of("plateau", name="other")
        del __import__("sys").modules["other"]
