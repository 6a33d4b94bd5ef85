"""Memory of this process, memory and use of its GPU: read without waiting for the GPU, for logs."""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch

from trainrun import ranks


def held_bytes() -> int:
    """The memory that this process holds now; 0 where the system does not say."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def peak_bytes() -> int:
    """The most memory that this process has held at once; the system's record is a little late."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return max(held_bytes(), peak)


def machine_use(device: torch.device) -> dict[str, float]:
    """`rss_bytes` of the process; on a GPU `gpu_bytes` that torch holds there, and `gpu_use` from 0 to 1.

    `rss_peak_bytes` and `gpu_peak_bytes`, what tensors took, are the most so far. What the system does
    not tell is left out.
    """
    use: dict[str, float] = {"rss_bytes": held} if (held := held_bytes()) else {}
    use["rss_peak_bytes"] = peak_bytes()
    if device.type == "cuda":
        use["gpu_bytes"] = torch.cuda.memory_reserved(device)
        use["gpu_peak_bytes"] = torch.cuda.max_memory_allocated(device)
        if (share := _gpu_use(device.index or 0)) is not None:
            use["gpu_use"] = share
    return use


def largest_peaks(use: Mapping[str, float]) -> dict[str, float]:
    """The peaks in `use` of the rank where they are largest, as `rss_peak_bytes_of_ranks`; the ranks meet."""
    peaks = {f"{name}_of_ranks": number for name, number in use.items() if "peak" in name}
    return dict(zip(peaks, ranks.largest([*peaks.values()]), strict=True)) if ranks.size() > 1 else {}


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
