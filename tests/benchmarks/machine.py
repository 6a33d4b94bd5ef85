"""The machine that a benchmark runs on, and the settings that must be alike for all contestants."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path

# Read when a process starts. A second thread waits for the first where other programs want the cores.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
# One heap that keeps its memory, for loops that take turns: else luck decides which pays for page faults.
ONE_HEAP = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
}
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
_PACKAGES = ("torch", "torchvision", "pillow", "lightning", "accelerate", "transformers")


def flags() -> set[str]:
    """The processor's."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return set(next((line for line in lines if line.startswith(("flags", "Features"))), "").split())


def describe() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    present = [flag for flag in _FLAGS if flag in flags()]
    versions = [f"{name} {_version(name)}" for name in _PACKAGES]
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    return "\n".join(
        (
            f"{model}, {os.cpu_count()} cores, {' '.join(present) or 'none of ' + ' '.join(_FLAGS)}",
            f"Python {sys.version.split()[0]}, {', '.join(versions)}",
            f"load {load}",
        )
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
