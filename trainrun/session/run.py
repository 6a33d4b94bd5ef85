"""A stored run from Python: its status, settings, numbers and curves without torch, its model when asked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainrun.run.directory import find_run
from trainrun.run.files import object_in, read_json
from trainrun.run.history import history_of
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
    def config(self) -> dict[str, Any]:
        """config.yaml, nested; references to the environment as they are written."""
        from trainrun.config.stored import load_stored

        return load_stored(self.path / "config.yaml")

    settings = config

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """The newest metrics by split: {"val": {"loss": 0.1, "accuracy": 0.97}, "test": ...}."""
        status = read_json(self.path / "status.json")
        by_split = {"val": object_in(status, "metric"), "test": object_in(status, "test")}
        return {split: metrics for split, metrics in by_split.items() if metrics}

    def history(self, frame: bool = False) -> Any:
        """The curves by the names that TensorBoard shows, as `trainrun.history` returns them."""
        return history_of(self.path, frame)

    def model(self, checkpoint: str | None = "best", trust: Sequence[str] = ()) -> nn.Module:
        """The model in evaluation mode, as `trainrun.load` returns it."""
        from trainrun.session.python import load

        return load(str(self.path), checkpoint, trust)

    load = model

    def evaluate(
        self, split: str = "val", checkpoint: str = "best", overrides: Sequence[str] = (), tta: str = ""
    ) -> dict[str, float]:
        """The metrics on a split, as `trainrun.evaluate` returns them."""
        from trainrun.session.python import evaluate

        return evaluate(str(self.path), split, checkpoint, overrides, tta)

    def predictions(
        self, split: str = "test", checkpoint: str = "best", overrides: Sequence[str] = (), tta: str = ""
    ) -> list[dict[str, Any]]:
        """A row for each sample of a split, as `trainrun.predict` returns them."""
        from trainrun.session.python import predict

        return predict(str(self.path), None, split, checkpoint, overrides, tta)


def history(run: str | os.PathLike[str], frame: bool = False) -> Any:
    """The curves of a stored run by the names that TensorBoard shows: {"val/accuracy": [(40, 0.91), ...]}.

    Each is (step, value) with rising steps. They are read from the run's records, without torch.
    `frame`: a pandas.DataFrame instead, a row for each step and a column for each curve.
    """
    return Run(run).history(frame)
