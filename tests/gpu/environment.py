"""The card, its driver, torch and the machine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib import metadata

import torch
from setup import Setup

from trainrun.vocabulary.version import __version__


def environment(setup: Setup) -> None:
    setup.figure("trainrun", __version__)
    cuda, cudnn = torch.version.cuda or "none", torch.backends.cudnn.version() or "none"
    setup.figure("torch", torch.__version__, f"CUDA {cuda}, cuDNN {cudnn}, triton {_version('triton')}")
    setup.figure("Python", platform.python_version())
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    setup.figure("processor", f"{len(os.sched_getaffinity(0))} cores", f"{_processor()}; load {load}")
    setup.figure("compiler", shutil.which("g++") or "none")
    if not setup.is_gpu:
        setup.figure("device", "CPU", "what only a GPU shows is skipped")
        return
    if not torch.cuda.is_available():
        fix = "no GPU that this torch can use; the miniature: tests/gpu/check.py --device cpu --small"
        setup.must("GPUs", 0, "1 or 2", False, fix)
        return
    setup.must("GPUs", torch.cuda.device_count(), "at least 1", True, _driver())
    for index in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(index)
        free, total = (size / 2**30 for size in torch.cuda.mem_get_info(index))
        ability = f"compute capability {card.major}.{card.minor}, {card.multi_processor_count} SMs"
        setup.figure(f"cuda:{index}", card.name, f"{ability}, {free:.1f} of {total:.1f} GiB free")


def _driver() -> str:
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, check=False, timeout=10).stdout
        return f"driver {answer.split()[0]}" if answer.split() else "driver unknown"
    except (OSError, subprocess.TimeoutExpired):
        return "driver unknown"


def _processor() -> str:
    with open("/proc/cpuinfo") as lines:
        return next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown"
        )


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
