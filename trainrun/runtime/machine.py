"""The machine: device, threads, seeds, determinism and the memory allocator."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn

from trainrun import ranks
from trainrun.runtime import slurm
from trainrun.runtime.signals import Signals
from trainrun.vocabulary.duration import parse
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import ClockTime, Count
from trainrun.vocabulary.seeds import derive, stream


@dataclass(frozen=True)
class Runtime:
    """Settings of the machine. `threads` None: chosen when the model is known."""

    device: torch.device
    threads: int | None
    deterministic: bool
    compile: Literal["off", "model", "step"]
    activation_checkpointing: str | None  # a name pattern of modules, or auto
    channels_last: bool
    sync_batch_norm: bool
    profile: int | None  # steps to trace
    preemption_signal: str | None
    time_limit_s: float | None

    @property
    def num_threads(self) -> int:
        """CPU threads in use."""
        return torch.get_num_threads()

    def prepare(self, model: nn.Module, batch_size: int) -> nn.Module:
        """The model on its device, in the memory format that convolutions like."""
        model = model.to(self.device)
        if self.sync_batch_norm and self._can_sync:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        if self.threads is None and self.device.type == "cpu":
            products = (p.ndim <= 2 and p.numel() * batch_size < 1 << 21 for p in model.parameters())
            if all(products):  # every layer is a small one: a second thread would cost more than it saves
                torch.set_num_threads(1)
        for parameter in model.parameters() if self.channels_last else ():
            if parameter.ndim == 4:  # `contiguous` would leave kernels of one channel or pixel as they are
                parameter.data = parameter.data.to(memory_format=torch.channels_last)
        return model

    def signals(self) -> Signals:
        """What the outside may ask of a run."""
        return Signals(self.preemption_signal, self.time_limit_s)

    def require_sync(self) -> None:
        """Raises ConfigError where training would ignore `sync_batch_norm`; evaluating a stored run may."""
        if self.sync_batch_norm and not self._can_sync:
            where = "one rank" if ranks.size() == 1 else self.device.type
            text = f"is torch's SyncBatchNorm, for several ranks on GPUs; on {where} it has no effect"
            raise ConfigError.of("runtime.sync_batch_norm", text, "runtime.sync_batch_norm=false")

    @property
    def _can_sync(self) -> bool:
        return ranks.size() > 1 and self.device.type == "cuda"


def runtime(
    device: Literal["auto", "cpu", "cuda", "mps"] | str,
    threads: Count | None,
    deterministic: bool,
    compile: Literal["off", "model", "step"],
    activation_checkpointing: Literal["auto"] | str | None,
    channels_last: bool,
    sync_batch_norm: bool,
    profile: Count | None,
    preemption_signal: Literal["auto", "USR1", "USR2", "TERM", "HUP"] | None,
    time_limit: ClockTime | None,
    timeout: ClockTime,
    trust: list[str],
) -> Runtime:
    """Choose the device, set threads and determinism for this process.

    Of several ranks each gets the GPU of its number on its machine, or its part of the cores.
    `preemption_signal` auto is USR2 in a Slurm job, none elsewhere. `time_limit` is by the clock: 90min.
    `timeout` is how long a rank waits for another.

    `trust` names packages that stored runs may import beyond torch's own; it is read where a
    config is resolved, and has no effect here. `compile` is done when training starts: runtime/compiler.py.
    """
    chosen = _device(device) if ranks.size() == 1 else _device_of_rank(device)
    if chosen.type == "cuda":  # what names no device means this one: contexts, pinned memory, NCCL
        torch.cuda.set_device(chosen)
    torch.set_num_threads(threads or cores())
    tune_allocator()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at first use
    if deterministic != torch.are_deterministic_algorithms_enabled():  # it imports the compiler: 2.5 s
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.deterministic = deterministic
    torch.backends.cudnn.benchmark = False  # it would choose the arithmetic by a timing
    told_by = slurm.preemption_signal() if preemption_signal == "auto" else preemption_signal
    limit_s = None if time_limit is None else parse(time_limit).seconds
    ranks.set_timeout(parse(timeout).seconds)
    flags = (deterministic, compile, activation_checkpointing, channels_last, sync_batch_norm)
    return Runtime(chosen, threads, *flags, profile, told_by, limit_s)


_NO_MEMORY = (
    *("DefaultCPUAllocator", "CUDA out of memory", "CUDA error: out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED", "CUFFT_ALLOC_FAILED"),
    "cudaErrorMemoryAllocation",
    "size calculation overflow",  # more than any memory has
)


def syncs_batch_norm(model: nn.Module) -> bool:
    """Whether ranks meet inside the forward pass, so that even one without samples must make it."""
    return any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is a lack of memory, of which few have a type of their own and most only words.

    Beside the allocators' these are of workspaces, of pinned host memory and of NCCL's buffers.
    """
    kinds, text = (MemoryError, torch.OutOfMemoryError), str(error)
    is_nccl = "NCCL" in text and "out of memory" in text.lower()
    return isinstance(error, kinds) or is_nccl or any(words in text for words in _NO_MEMORY)


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch with all its devices, once, before anything is built.

    PYTHONHASHSEED cannot be set from inside a process; nothing here depends on hash order.
    """
    random.seed(seed)
    np.random.seed(derive(seed, "numpy") & 0xFFFFFFFF)
    torch.manual_seed(seed)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from streams of their own inside, whatever was drawn before; afterwards the old ones go on."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed_everything(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def seed_forward(seed: int, count: int, device: torch.device) -> None:
    """Seed the generators for one forward pass, the `count`-th of the run: the device's and the host's.

    Models draw on the host, too, such as which layers to drop. Reseeding a generator costs a
    microsecond, torch.manual_seed about a hundred.
    """
    number = stream(seed, count)
    torch.default_generator.manual_seed(number)
    if device.type == "cuda":
        torch.cuda.default_generators[device.index or 0].manual_seed(number)
    elif device.type == "mps":
        torch.mps.manual_seed(number)


def tune_allocator() -> None:
    """Keep glibc from returning large blocks to the kernel after every step.

    The page faults of getting them back cost a training step up to a third of its time on a CPU.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # another C library: nothing to tune
            libc = ctypes.CDLL("libc.so.6")
            libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
            libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError.of("runtime.device", f"must be auto, cpu, cuda, cuda:1 or mps, got {name}")
    has_no_gpu = device.type == "cuda" and not torch.cuda.is_available()
    if has_no_gpu or (device.type == "mps" and not torch.backends.mps.is_available()):
        text = f"this machine or this build of torch has no {name}; use cpu or auto"
        raise ConfigError.of("runtime.device", text)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        text = f"there are {torch.cuda.device_count()} GPUs, counted from 0, got {name}"
        raise ConfigError.of("runtime.device", text)
    return device


def _device_of_rank(name: str) -> torch.device:
    if name not in ("auto", "cpu", "cuda"):
        text = f"must be auto, cpu or cuda with several ranks, which choose their GPUs themselves, got {name}"
        raise ConfigError.of("runtime.device", text)
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    _device("cuda")  # or the error that there is none
    place, num_gpus = ranks.rank_info(), torch.cuda.device_count()
    if place.local_size > num_gpus:
        text = f"{place.local_size} ranks on this machine need a GPU each, there are {num_gpus}"
        raise ConfigError.of("runtime.device", text)
    return torch.device("cuda", place.local_rank)


def cores() -> int:
    """OMP_NUM_THREADS where it is set, else this rank's part of the cores this process may run on."""
    local = ranks.rank_info().local_size
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdigit() and int(wanted) > 0 and not (local > 1 and wanted == "1"):  # torchrun's own way out
        return int(wanted)
    has_affinity = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, count // local)
