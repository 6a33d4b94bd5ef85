"""Where a run comes from: environment.json (git, packages, device, data) and lineage.jsonl (each process)."""

from __future__ import annotations

import contextlib
import functools
import platform
import re
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainrun import ranks
from trainrun.config.suggest import hydra_value
from trainrun.run.files import read_json, replace_text, storage_errors
from trainrun.vocabulary.events import to_line
from trainrun.vocabulary.version import __version__

if TYPE_CHECKING:
    from trainrun.protocols import DataInfo
    from trainrun.runtime.machine import Runtime

Changes = Mapping[str, tuple[Any, Any, str]]  # of settings: key -> (old, new, class)

_FIELD = re.compile(r"^(Name|Version): *(.*?)\s*$", re.MULTILINE)
_LONGEST_DIFF = 1 << 20  # characters: more than anyone's edits, less than data checked in by mistake


def environment(runtime: Runtime, info: DataInfo, samples_per_step: int, command: str) -> dict[str, Any]:
    """The content of environment.json. Nothing of the process's environment variables is stored."""
    import torch

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
    """The versions of installed packages, by the heads of their records: to parse all takes far longer."""
    records = (dist.read_text("METADATA") or dist.read_text("PKG-INFO") for dist in metadata.distributions())
    heads = [dict(_FIELD.findall((record or "").partition("\n\n")[0])) for record in records]
    versions = {head["Name"]: head["Version"] for head in heads if {"Name", "Version"} <= head.keys()}
    return dict(sorted(versions.items()))


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


def experiment_files(run_dir: Path) -> dict[str, str]:
    """`experiment=NAME` -> the file that the run's command names, where that was a file of its own."""
    command = str(read_json(run_dir / "environment.json").get("command"))
    with contextlib.suppress(ValueError):  # not of a shell
        words = [word for word in shlex.split(command) if "=" not in word and word.isprintable()]
        files = [word for word in words if word.endswith((".yaml", ".yml"))]
        return {f"experiment={hydra_value(Path(file).stem)}": file for file in files}
    return {}


def add_lineage(
    run_dir: Path, command: str, from_step: int, changes: Changes, lr: Sequence[tuple[int, float]]
) -> None:
    """Add the line of a process that begins to train at `from_step` and holds the folder's lock.

    `lr`: (step, learning rate) over what remains, as planned. The file is replaced whole, so that it is
    whole at any instant. Raises StorageError.
    """
    path = run_dir / "lineage.jsonl"
    line = {"time": round(time.time(), 3), "command": command, "from_step": from_step, "changes": changes}
    with storage_errors(path):
        before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        lines = before[: before.rfind("\n") + 1]  # a copy of the folder may end in half a line
        replace_text(path, lines + to_line(line | {"lr": lr}))
