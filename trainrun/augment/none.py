"""No augmentation: samples as they are."""

from __future__ import annotations


def none() -> None:
    """Nothing is drawn and nothing changes."""
