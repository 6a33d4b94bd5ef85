"""The settings of a run as one flat table, which is how runs are compared."""

from __future__ import annotations

from collections.abc import Mapping
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
