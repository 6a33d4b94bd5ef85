"""The optimizer over a model's parameters, where its class asks something of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainrun import train
from trainrun.vocabulary.errors import ConfigError

LBFGS = ("data.limit=40", "model=cnn", "model.dropout=0", "optimizer=lbfgs", "batch_size=full", "logger=none")


def test_lbfgs_takes_kernels_that_lie_channels_last(folder: Path) -> None:
    """Whole runs with them and without end alike."""
    losses = []
    for where in ("true", "false"):
        result = train([*LBFGS, "budget=3step", f"runtime.channels_last={where}"])
        losses.append(result.metrics["test"]["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_lbfgs_takes_one_group_of_parameters(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^optimizer: .*parameter groups"):
        train([*LBFGS, "budget=1step", "parameters.layer_decay=0.5"])
    assert list(folder.iterdir()) == []
