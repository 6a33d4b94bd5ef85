"""What two runs wrote, compared to rounding."""

from __future__ import annotations

from typing import Any

import pytest


def near(value: Any, rel: float) -> Any:
    """What compares equal to the same containers whose floats differ by no more than rounding."""
    if isinstance(value, dict):
        return {key: near(inner, rel) for key, inner in value.items()}
    if isinstance(value, list):
        return [near(inner, rel) for inner in value]
    return pytest.approx(value, rel=rel, abs=1e-5) if isinstance(value, float) else value
