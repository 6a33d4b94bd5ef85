"""`bench("data=wine", ...)`: a built run to ask questions of, its model replaced where one is given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from trainrun.check.bench import Bench, bench_of
from trainrun.config.build import build
from trainrun.config.compose import Composer

TABLE = ("data=synthetic_table", "data.num_samples=300", "data.num_features=6")
CLASSES = (*TABLE, "data.kind=classes", "data.num_outputs=3", "task=classification", "loss=cross_entropy")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    monkeypatch.chdir(tmp_path)

    def made(*words: str, model: nn.Module | None = None) -> Bench:
        found = build(Composer().checked([*words, "runtime.threads=1"]).settings)
        if model is not None:
            found.state.model = model
        return bench_of(found)

    return made


@pytest.fixture
def classes() -> tuple[str, ...]:
    """A small table of three classes, 6 columns."""
    return CLASSES


@pytest.fixture
def table() -> tuple[str, ...]:
    """The same with one value to be predicted."""
    return TABLE
