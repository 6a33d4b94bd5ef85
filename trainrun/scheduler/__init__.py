"""Learning-rate schedules: functions of the update's index, planned over the run's own length.

A schedule has values at updates 0 .. T-1 and reaches its end value at T, as torch's own do. All
factors multiply the learning rate of each parameter group. `warmup` composes with every schedule:
factor (n + 1) / warmup on the way up from `warmup_start`. Cosine, linear, polynomial, wsd,
one_cycle and cosine_restarts span what follows the warm-up; step, multistep, exponential, noam
and cyclic count from the start of the run. `min_lr` is the value that a decay ends at.
"""

from trainrun.scheduler.closed_form import (
    Restarting,
    Warmed,
    constant,
    cosine,
    cosine_restarts,
    cyclic,
    exponential,
    linear,
    multistep,
    noam,
    one_cycle,
    polynomial,
    step,
    wsd,
)
from trainrun.scheduler.own import FromTorch, from_torch, per_module
from trainrun.scheduler.reduce_on_plateau import Plateau, plateau
