"""lineage.jsonl: the processes that trained a run, one line each, with the settings that each changed."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainrun.config.suggest import hydra_value
from trainrun.run.files import read_json, replace_text, storage_failed
from trainrun.vocabulary.events import to_line

Changes = Mapping[str, tuple[Any, Any, str]]  # of settings: key -> (old, new, class)


def experiment_files(run_dir: Path) -> dict[str, str]:
    """`experiment=NAME` -> the file that the run's command names, where that was a file of its own."""
    command = str(read_json(run_dir / "environment.json").get("command"))
    with contextlib.suppress(ValueError):  # not of a shell
        words = [word for word in shlex.split(command) if "=" not in word and word.isprintable()]
        files = [word for word in words if word.endswith((".yaml", ".yml"))]
        return {f"experiment={hydra_value(Path(file).stem)}": file for file in files}
    return {}


def add(
    run_dir: Path, command: str, from_step: int, changes: Changes, lr: Sequence[tuple[int, float]]
) -> None:
    """Add the line of a process that begins to train at `from_step` and holds the folder's lock.

    `lr`: (step, learning rate) over what remains, as planned. The file is replaced whole, so that it is
    whole at any instant. Raises StorageError.
    """
    path = run_dir / "lineage.jsonl"
    line = {"time": round(time.time(), 3), "command": command, "from_step": from_step, "changes": changes}
    try:
        before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        lines = before[: before.rfind("\n") + 1]  # a copy of the folder may end in half a line
        replace_text(path, lines + to_line(line | {"lr": lr}))
    except OSError as error:
        raise storage_failed(path, error) from None
