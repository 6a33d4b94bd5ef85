"""What a process makes of a run that it goes on with: the settings it changes, the learning rates ahead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from trainrun.vocabulary.events import Evaluated, Event

if TYPE_CHECKING:
    from trainrun.assembly.schedule import LRPreview, Rates


@dataclass(frozen=True)
class RunOptions:
    """What was typed, and what that changes: key -> (old, new, class), with `notes` on it for people.

    `was`: the learning rates planned so far, where the change plans others. `watch` is given every
    event after all loggers. `judge`, asked after every evaluation of the validation split but the last,
    has a reason to stop there, saved, or None.
    """

    command: Sequence[str]
    quiet: bool
    changes: Mapping[str, tuple[Any, Any, str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    was: Rates | None = None
    watch: Callable[[Event], None] | None = None
    judge: Callable[[Evaluated, int], str | None] | None = None  # given also the run's length in steps


def table(before: LRPreview, after: LRPreview) -> str:
    """The learning rate over what remains, as it was planned and as it is now, in lines for people."""
    shares = [f"{share} %" for share in (0, 25, 50, 75, 100)]
    rows = [("of what remains", "before", "now")]
    for share, old, new in zip_longest(shares[: max(len(before), len(after))], before, after):
        rows.append((share or "", _at(old), _at(new)))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  " + "   ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _at(point: tuple[int, float] | None) -> str:
    return "" if point is None else f"step {point[0]}: {point[1]:.3g}"
