"""Optimizers of torch.optim and newer ones, wrappers of them, and learning-rate scaling.

Every function takes `params`, the parameter groups of `trainrun.parameters`.
"""

from trainrun.optimizer.newer import Lion, Muon, ScheduleFreeAdamW, lion, muon, schedule_free_adamw
from trainrun.optimizer.of_torch import (
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    adamw,
    lbfgs,
    momentum,
    nadam,
    nesterov,
    radam,
    rmsprop,
    scaled_lr,
    sgd,
)
from trainrun.optimizer.own import configure_optimizers
from trainrun.optimizer.sam import SAM, needs_closure, per_module, sam
