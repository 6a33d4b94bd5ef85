"""Provenance for environment.json: git commit and diff, package versions, device, data, command."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib import metadata
from typing import Any

import torch

from trainrun import ranks
from trainrun.protocols import DataInfo
from trainrun.runtime.machine import Runtime
from trainrun.vocabulary.version import __version__

_LONGEST_DIFF = 1 << 20  # characters: more than anyone's edits, less than data checked in by mistake


def environment(runtime: Runtime, info: DataInfo, samples_per_step: int, command: str) -> dict[str, Any]:
    """The content of environment.json. Nothing of the process's environment variables is stored."""
    is_gpu = runtime.device.type == "cuda"
    name = f" ({torch.cuda.get_device_name(runtime.device)})" if is_gpu else ""
    return {
        "command": command,
        "trainrun": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "device": f"{runtime.device}{name}",
        "ranks": ranks.size(),
        "threads": runtime.num_threads,
        "deterministic": runtime.deterministic,
        "data": info.identity,
        "in_memory": info.in_memory,
        "samples_per_step": samples_per_step,  # how ranks and accumulation cut it is free on resume
        "git": _git(),
        "packages": packages(),
    }


@functools.cache
def packages() -> dict[str, str]:
    """The versions of installed packages. Reading them takes a third of a second, once in a process."""
    versions = {dist.metadata["Name"]: dist.version for dist in metadata.distributions()}
    return dict(sorted((name, version) for name, version in versions.items() if name))


def _git() -> dict[str, str] | None:
    """Commit and uncommitted changes of the folder the run was started in; None outside a checkout."""
    commit = _run("git", "rev-parse", "HEAD")
    if commit is None:
        return None
    diff = _run("git", "diff", "HEAD") or ""
    diff = diff if len(diff) < _LONGEST_DIFF else f"{len(diff)} characters, left out"
    return {"commit": commit.strip(), "diff": diff}


def _run(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, errors="replace")
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
