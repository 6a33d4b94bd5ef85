"""The run's top-level dials."""

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


NAMES = tuple(Dials.__dataclass_fields__)
