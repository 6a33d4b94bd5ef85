"""The settings of a run as one flat table, which is how runs are compared, and the run's id."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """`optimizer.lr` -> 0.1, and `optimizer` -> `adamw`; lists stay whole, what is empty is left out."""
    table: dict[str, Any] = {}
    for key, value in settings.items():
        path = f"{above}.{key}" if above else str(key)
        if isinstance(value, Mapping):
            table |= flat(value, path)
        elif key == "_target_" and above:
            name = str(value)  # of the package's own parts the last word
            table = {above: name.rpartition(".")[2] if name.startswith("trainrun.") else name, **table}
        else:
            table[path] = value
    return table


def run_id_in(run_dir: Path) -> str | None:
    """The run's own, so that a resume finds it; None where the folder has none."""
    try:
        return str(json.loads((run_dir / "status.json").read_text(encoding="utf-8"))["run_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
