"""GPUs among jobs that run at once: each job takes one that is free, and waits while there is none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from trainrun.cli.child import in_child

_LOOK_S = 0.2


@contextlib.contextmanager
def own_gpu(sweep: Path, device: str) -> Iterator[None]:
    """Within, this process sees one GPU alone. For a process that has not touched CUDA yet."""
    visible = visible_gpus() if device in ("auto", "cuda") else []
    if not visible:
        yield
        return
    while True:
        for name in visible:
            with (sweep / f".gpu-{name.replace('/', '-')}").open("a") as file:
                if _taken(file.fileno()):
                    os.environ["CUDA_VISIBLE_DEVICES"] = name
                    yield
                    return
        time.sleep(_LOOK_S)


def visible_gpus() -> list[str]:
    """The GPUs of this process as CUDA_VISIBLE_DEVICES names them."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if not torch.version.cuda or named == "":
        return []
    return [str(one) for one in range(torch.cuda.device_count())] if named is None else named.split(",")


def count_gpus() -> int:
    """How many there are; counted in a fork, for a process that has asked CUDA cannot fork jobs."""
    import torch

    return in_child(lambda: len(visible_gpus()), []) if torch.version.cuda else 0


def _taken(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
