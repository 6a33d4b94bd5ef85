"""Share the GPUs among jobs that run at once: each job takes one (CUDA_VISIBLE_DEVICES)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from trainrun.session.child import in_child

_LOOK_S = 0.2  # between looks for a free slot: nothing beside a job's start of seconds


@contextlib.contextmanager
def own_gpu(sweep: Path, slots: Sequence[str]) -> Iterator[None]:
    """Within, this process, which must not have asked CUDA yet, sees only the GPU of a free slot, if any."""
    while slots:
        for number, name in enumerate(slots):
            with (sweep / f".gpu-{number}").open("a") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue  # another job's
                os.environ["CUDA_VISIBLE_DEVICES"] = name
                yield
                return
        time.sleep(_LOOK_S)  # there are as many slots as jobs at once: one is just leaving
    yield


def visible_gpus() -> list[str]:
    """The GPUs as CUDA_VISIBLE_DEVICES names them, counted in a fork: this process must not ask CUDA."""
    import torch

    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.version.cuda or names == "":
        return []
    if names is not None and names.startswith("MIG-"):  # parts of GPUs: a process sees only the first
        return names.split(",")
    count = in_child(_count, [])
    return list(map(str, range(count))) if names is None else names.split(",")[:count]


def _count() -> int:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that there is no driver
            return torch.cuda.device_count()
    except Exception:  # a broken driver's; a run that needs the GPU reports it
        return 0
