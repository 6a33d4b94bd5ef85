"""Train a PyTorch model from YAML: one command, every piece of training advice one flag away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from trainrun.cli.session import Result

__version__ = "0.1.0"


def train(overrides: Sequence[str] = ()) -> Result:
    """Train as `trainrun` would with these words; returns the run's folder and metrics.

    Raises trainrun.errors.ConfigError with all problems of the configuration at once.
    """
    from trainrun.cli.train import train

    return train(overrides)


def load(run: str, checkpoint: str = "best", trust: Sequence[str] = ()) -> nn.Module:
    """The trained model of a run, in evaluation mode. `run`: a path, the beginning of one, a name, or last.

    `trust` names packages, beyond torch's own and the folder's, that the stored run may import.
    """
    from trainrun.cli.stored import load

    return load(run, checkpoint, trust)
