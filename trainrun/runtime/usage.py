"""Memory of this process, memory and use of its GPU: read without waiting for the GPU, for logs."""

from __future__ import annotations

import ctypes
import functools
import os
from contextlib import suppress
from pathlib import Path

import torch


def held_bytes() -> int:
    """The memory that this process holds now; 0 where the system does not say."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def machine_use(device: torch.device) -> dict[str, float]:
    """`rss_bytes` of the process; on a GPU `gpu_bytes` that torch holds there, and `gpu_use` from 0 to 1.

    What the system does not tell is left out.
    """
    use: dict[str, float] = {"rss_bytes": held} if (held := held_bytes()) else {}
    if device.type == "cuda":
        use["gpu_bytes"] = torch.cuda.memory_reserved(device)
        if (share := _gpu_use(device.index or 0)) is not None:
            use["gpu_use"] = share
    return use


def _gpu_use(index: int) -> float | None:
    """The share of the driver's last sampling period in which the GPU computed; None where it is not told."""
    driver, use = _driver(), (ctypes.c_uint * 2)()  # of the GPU and of its memory, per cent
    if driver is None or (handle := _handle(driver, index)) is None:
        return None
    failed = driver.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(use))
    return None if failed else use[0] / 100


@functools.cache
def _driver() -> ctypes.CDLL | None:
    """NVIDIA's management library, which comes with the driver."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    return None if library.nvmlInit_v2() else library


@functools.cache
def _handle(driver: ctypes.CDLL, index: int) -> ctypes.c_void_p | None:
    """The library's name for torch's GPU `index`, whatever CUDA_VISIBLE_DEVICES leaves out."""
    handle, uuid = ctypes.c_void_p(), f"GPU-{torch.cuda.get_device_properties(index).uuid}"
    return None if driver.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)) else handle
