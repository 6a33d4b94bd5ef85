"""The rows that benchmarks print: a figure, and beside it the bar where the project has set one."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from turns import Turn


def title(text: str) -> None:
    print(f"\n{text}\n{'-' * len(text)}", flush=True)


def row(name: str, figure: float, must: str = "", note: str = "") -> None:
    """One figure; `must` such as "at least 5.7"."""
    bar = f"must be {must}" if must else ""
    print(f"{name:44}{figure:8.3g}   {bar:24}{note}".rstrip(), flush=True)


def costs(turns: Mapping[str, list[Turn]]) -> None:
    """CPU and wall time of a step of each."""
    print(f"{'us a step':34}{'p10':>10}{'median':>10}{'mean':>10}{'wall, median':>14}")
    for name, taken in turns.items():
        cpu = [turn.cpu_s * 1e6 for turn in taken]
        wall = statistics.median(turn.wall_s * 1e6 for turn in taken)
        figures = (p10(cpu), statistics.median(cpu), statistics.mean(cpu))
        print(f"{name:34}{''.join(f'{figure:10.0f}' for figure in figures)}{wall:14.0f}", flush=True)


def compare(turns: Mapping[str, list[Turn]], over: str, under: str, must: str = "") -> None:
    """How many times the CPU time of `under` a step of `over` takes: the median over pairs of turns.

    A pair was taken in one round, so that a disturbance met both.
    """
    pairs = zip(turns[over], turns[under], strict=True)
    ratio = statistics.median(above.cpu_s / below.cpu_s for above, below in pairs)
    fast = p10(turn.cpu_s for turn in turns[over]) / p10(turn.cpu_s for turn in turns[under])
    row(f"{over} / {under}", ratio, f"at least {must}" if must else "", f"of the p10s {fast:.3g}")


def p10(values: Iterable[float]) -> float:
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 10]
