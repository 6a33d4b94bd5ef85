"""The stored runs as a table for people and as objects for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.cells import cell_len
from rich.text import Text

from trainrun.run.listing import STATES, ListedRun
from trainrun.terminal.numbers import number
from trainrun.terminal.table import GAP, row_of

_STYLES = {"running": "cyan", "completed": "green", "interrupted": "yellow", "failed": "red", "died": "red"}
_FIGURES = ("best", "step", "age", "size")
_NOTE = 24  # columns, below which a reason is not worth its place
# What goes first where the terminal is narrow.
_GIVEN_UP = ("folder", "reason", "size", "model", "age", "data", "best")
_GIVEN_UP_FOR_REASONS = ("folder", "size", "model", "age", "data", "best", "reason")


def table(entries: Sequence[ListedRun], width: int | None, now: float, reasons: bool) -> list[Text]:
    """A line per run below a line of heads, at most `width` columns wide; None: as wide as it comes.

    `now` is in seconds since 1970. `reasons`: why a run ended matters more than what it was.
    """
    monitors = {entry.monitor for entry in entries if entry.best is not None}
    rows = [_row(entry, now, len(monitors) > 1) for entry in entries]
    heads = {name: name for row in rows for name in row}
    if len(monitors) == 1:
        heads["best"] = min(monitors)
    columns = {name: [head, *(row[name] for row in rows)] for name, head in heads.items()}
    widths = {name: max(map(cell_len, cells)) for name, cells in columns.items() if any(cells[1:])}
    if width is not None:
        _fit(widths, width, _GIVEN_UP_FOR_REASONS if reasons else _GIVEN_UP)
    words = [place for place, name in enumerate(widths) if name not in _FIGURES]
    cells = zip(*(columns[name] for name in widths), strict=True)
    lines = [Text(row_of(row, list(widths.values()), words)) for row in cells]
    lines[0].stylize("dim")
    for line, entry in zip(lines[1:], entries, strict=True):
        line.stylize(_STYLES[entry.state], 0, len(entry.state))
    return lines


def _row(entry: ListedRun, now: float, with_monitor: bool) -> dict[str, str]:
    """The cells of a run by their columns, these in their order."""
    best = "" if entry.best is None else number(entry.best)
    is_whole = entry.total_steps in (None, entry.step)
    return {
        "state": entry.state,
        # What to type as RUN, and the name where that means a newer run.
        "run": entry.run if entry.name in (None, entry.run) else f"{entry.run} ({entry.name})",
        "data": entry.data,
        "model": entry.model,
        "best": f"{entry.monitor} {best}" if best and with_monitor else best,
        "step": str(entry.step) if is_whole else f"{entry.step}/{entry.total_steps}",
        "age": "" if entry.started is None else age(now - entry.started),
        "size": size(entry.num_bytes),
        "folder": str(entry.path) if entry.run == entry.name else "",
        "reason": (entry.reason or "") if entry.state in ("failed", "interrupted") else "",
    }


def total(entries: Sequence[ListedRun]) -> str:
    """`12 runs, 45.2 MB: 9 completed, 3 failed`."""
    counts = Counter(entry.state for entry in entries)
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    noun = "run" if len(entries) == 1 else "runs"
    return f"{len(entries)} {noun}, {size(sum(entry.num_bytes for entry in entries))}: {states}"


def record(entry: ListedRun) -> Mapping[str, Any]:
    """The entry as JSON writes it: its fields by their names, `path` as text."""
    return asdict(entry) | {"path": str(entry.path)}


def age(seconds: float) -> str:
    """The largest unit that a person would name: 45 s, 12 min, 3 h, 9 d."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length or (unit == "min" and seconds >= length):
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def size(num_bytes: int) -> str:
    """In powers of 1000, as disks are sold: 980 B, 12 kB, 3.4 MB."""
    value = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{value:.0f} {unit}" if value >= 9.95 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _fit(widths: dict[str, int], width: int, given_up: Sequence[str]) -> None:
    """Leave out columns, and cut the reasons, until the table is not wider than `width`."""
    for name in ("", *given_up):
        widths.pop(name, None)
        excess = sum(widths.values()) + GAP * (len(widths) - 1) - width
        if excess <= 0:
            return
        if widths.get("reason", 0) - excess >= _NOTE:
            widths["reason"] -= excess
            return
