"""What trainrun is told to train: guide 1's MLP and the CNN, as models.py has them, on Fashion-MNIST.

They are started in the folder of this file, where trainrun finds the models.
"""

from __future__ import annotations

import os
from pathlib import Path

HOME = Path(__file__).parent
MLP_SIZE, CNN_SIZE = 64, 128
_GUIDES = [
    *("data=fashion_mnist", "budget=20ep", "optimizer.lr=1e-3", "optimizer.weight_decay=0.01"),
    *("scheduler=step", "scheduler.every=10ep", "scheduler.gamma=0.5"),
]
MLP = [*_GUIDES, "model._target_=models.MLP", f"batch_size={MLP_SIZE}"]
CNN = [*_GUIDES, "model._target_=models.CNN", f"batch_size={CNN_SIZE}", "augment=crop_flip"]


def enter(folder: Path) -> None:
    """Make this process one that may start such commands; their state is kept in `folder`."""
    os.chdir(HOME)
    os.environ["TRAINRUN_STATE"] = str(folder / "state")
