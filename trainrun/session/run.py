"""A stored run from Python: its status, settings, numbers and curves without torch, its model when asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainrun.run.directory import find_run
from trainrun.run.files import object_in, read_json
from trainrun.run.history import curves_of
from trainrun.run.listing import state_in

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, init=False)
class Run:
    """A stored run: `Run("last")`, or its name, its path, or the beginning of one.

    All but the path is read anew whenever it is asked for, so that a run may be watched while it trains.
    Raises ResumeError where there is no such run.
    """

    path: Path  # absolute: it stays this run wherever the process goes

    def __init__(self, run: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", find_run(os.fspath(run)).absolute())

    @property
    def status(self) -> dict[str, Any]:
        """status.json. `state`: running, completed, interrupted, failed, or died (its process is gone)."""
        status = read_json(self.path / "status.json")
        return status | {"state": state_in(self.path, status)}

    @property
    def settings(self) -> dict[str, Any]:
        """config.yaml, nested; references to the environment as they are written."""
        from trainrun.config.stored import load_stored

        return load_stored(self.path / "config.yaml")

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The newest metrics by split: {"val": {"loss": 0.1, "accuracy": 0.97}, "test": ...}."""
        status = read_json(self.path / "status.json")
        by_split = {"val": object_in(status, "metric"), "test": object_in(status, "test")}
        return {split: metrics for split, metrics in by_split.items() if metrics}

    def history(self) -> dict[str, list[tuple[int, float]]]:
        """The curves, (step, value) each, by the names that TensorBoard shows: "val/accuracy", "lr"."""
        return curves_of(self.path)

    def load(self, checkpoint: str | None = "best", trust: Sequence[str] = ()) -> nn.Module:
        """The model in evaluation mode, as `trainrun.load` returns it."""
        from trainrun.session.python import load

        return load(str(self.path), checkpoint, trust)

    def evaluate(
        self, split: str = "val", checkpoint: str = "best", overrides: Sequence[str] = (), tta: str = ""
    ) -> dict[str, float]:
        """The metrics on a split, as `trainrun.evaluate` returns them."""
        from trainrun.session.python import evaluate

        return evaluate(str(self.path), split, checkpoint, overrides, tta)


def history(run: str) -> dict[str, list[tuple[int, float]]]:
    """The curves of a stored run by the names that TensorBoard shows: {"val/accuracy": [(40, 0.91), ...]}.

    Each is (step, value) with rising steps. They are read from the run's records, without torch.
    """
    return Run(run).history()
