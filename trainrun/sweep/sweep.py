"""Sweeps: which points are tried, what became of them, and how they rank."""

from __future__ import annotations

from dataclasses import dataclass

from trainrun.vocabulary.ranges import Count, Natural


def counted(number: int, noun: str) -> str:
    """`1 job`, `2 jobs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True)
class Sweep:
    """The settings of a sweep; what they mean stands in `conf/sweep/default.yaml`."""

    zip: list[str] | list[list[str]]
    exclude: list[str]
    trials: Count | None
    fail_fast: bool
    retries: Natural
    repeat_failed: bool
    ranks: Count
