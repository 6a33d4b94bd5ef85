"""`make_context("data=wine", ...)`: a built run to be checked, its model replaced where one is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from trainrun.assembly.build import build
from trainrun.check.context import CheckContext, context_of
from trainrun.config.compose.composer import Composer
from trainrun.protocols import Batch, Outcome

TABLE = ("data=synthetic_table", "data.num_samples=300", "data.num_features=6")
CLASSES = (*TABLE, "data.kind=classes", "data.num_outputs=3", "task=classification", "loss=cross_entropy")


@pytest.fixture
def make_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., CheckContext]:
    monkeypatch.chdir(tmp_path)

    def make(*words: str, model: nn.Module | None = None) -> CheckContext:
        built = build(Composer().checked([*words, "runtime.threads=1"]).settings)
        if model is not None:
            built.state.model = model
        return context_of(built)

    return make


@pytest.fixture
def classes() -> tuple[str, ...]:
    """A small table of three classes, 6 columns."""
    return CLASSES


@pytest.fixture
def table() -> tuple[str, ...]:
    """The same with one value to be predicted."""
    return TABLE


class Asking:
    """The task of a run, for a model that is called as `call` calls it."""

    def __init__(self, task: Any, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        self.task, self.call = task, call

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        return self.task(Called(model, self.call), batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)


class Called(nn.Module):
    def __init__(self, model: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.call = model, call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.model, x)


class Pair(nn.Module):
    """Gives its outputs and a penalty, in a tuple; takes its inputs by name, too."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.first(input=x).relu()
        return self.last(input=hidden), hidden.square().mean()


CALLS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "tuple": lambda model, x: torch.add(*model(x), alpha=0.01),
    "named": lambda model, x: model(x=x)[0],
    "parts": lambda model, x: model.last(model.first(x).relu()),
}


@pytest.fixture(params=CALLS)
def own_task(request: pytest.FixtureRequest, make_context: Callable[..., CheckContext]) -> CheckContext:
    """A run whose model gives two tensors, with a task of the user's own that calls it so."""
    context = make_context(*CLASSES, model=Pair())
    return CheckContext(
        replace(context.parts, task=Asking(context.parts.task, CALLS[request.param])), context.batch
    )
