"""The top-level settings of a run: budget, batch_size, seed, monitor, name, run_dir, resume, init_from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainrun.vocabulary.ranges import Count, Length, Seed


@dataclass(frozen=True)
class Dials:
    """What `conf/trainrun.yaml` holds beside the groups; their meaning stands there."""

    budget: Length
    batch_size: Count | Literal["full"]
    seed: Seed
    monitor: str
    monitor_mode: Literal["auto", "max", "min"]
    name: str | None
    run_dir: str | None
    resume: Literal["never", "auto"]
    init_from: str | None


DIALS = f"{Dials.__module__}.{Dials.__qualname__}"
NAMES = tuple(Dials.__dataclass_fields__)
