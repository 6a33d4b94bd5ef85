"""Options of one process of a run: its command, what it changes on resume, who may stop it early."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trainrun.vocabulary.events import Evaluated, Event

if TYPE_CHECKING:
    from trainrun.assembly.schedule import Rates

# Asked after each evaluation of the validation split but the last, with the run's length in steps: a
# reason to stop there, saved, or None.
ShouldStop = Callable[[Evaluated, int], str | None]


@dataclass(frozen=True)
class RunOptions:
    """The command as typed, and its changes: key -> (old, new, class), with `notes` on them for people."""

    command: Sequence[str]
    quiet: bool
    changes: Mapping[str, tuple[Any, Any, str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    previous_rates: Rates | None = None  # as planned so far, where the changes plan others
    watch: Callable[[Event], None] | None = None  # given every event after all loggers
    should_stop: ShouldStop | None = None
