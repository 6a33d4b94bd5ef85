"""lineage.jsonl: which processes trained a run, and what each of them changed; a line for each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trainrun.events import to_line
from trainrun.run.files import replace_text, storage_failed


def add(
    run_dir: Path,
    command: str,
    from_step: int,
    changes: Mapping[str, tuple[Any, Any, str]],
    lr: Sequence[tuple[int, float]],
) -> None:
    """Note that a process begins to train at `from_step`. The folder must be the caller's.

    `changes`: key -> (old, new, class); `lr`: (step, learning rate) over what remains, as planned.
    The file is replaced whole, so that it is whole at any instant. Raises StorageFailed.
    """
    path = run_dir / "lineage.jsonl"
    line = {"time": round(time.time(), 3), "command": command, "from_step": from_step}
    listed = {key: list(change) for key, change in changes.items()}
    try:
        before = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        whole = before[: before.rfind("\n") + 1]  # a copy of the folder may end in half a line
        replace_text(path, whole + to_line(line | {"changes": listed, "lr": [list(one) for one in lr]}))
    except OSError as error:
        raise storage_failed(path, error) from None
