"""Warm-up, which every learning-rate schedule takes: a linear rise from `warmup_start`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trainrun.vocabulary.errors import ConfigError

Shape = Callable[[int], float]  # updates since its start -> factor of the learning rate


class Warmed:
    """The schedule `shape` with a linear warm-up: it starts after it, or with `spans_rest` False at once.

    `momentum` gives the absolute momentum (or first beta) at an update, for schedules that set it.
    `drops` are the updates at which a step schedule goes down, as far as its settings list them.
    """

    def __init__(
        self,
        shape: Shape,
        warmup: int,
        warmup_start: float,
        spans_rest: bool = True,
        momentum: Callable[[int], float] | None = None,
        drops: Sequence[int] = (),
    ) -> None:
        self.shape, self.momentum, self.drops = shape, momentum, drops
        self.warmup, self.warmup_start = warmup, warmup_start
        self.begins_at = warmup if spans_rest else 0

    def __call__(self, update: int) -> tuple[float, float | None]:
        since = max(0, update - self.begins_at)
        factor = self.shape(since)
        if update < self.warmup:
            factor *= self.warmup_start + (1 - self.warmup_start) * (update + 1) / self.warmup
        return factor, None if self.momentum is None else self.momentum(since)


def floor_of(min_lr: float, base_lr: float) -> float:
    """`min_lr` as a factor of the learning rate."""
    if min_lr > base_lr:
        raise ConfigError.of(
            "scheduler.min_lr", f"must be at most the learning rate {base_lr:g}, got {min_lr:g}"
        )
    return min_lr / base_lr


def rest_of(total_steps: int, warmup: int) -> int:
    """The updates after the warm-up, at least 1.

    A warm-up may take the whole run, as 5 % of a single step does. Raises ConfigError for a longer one.
    """
    if warmup > total_steps:
        text = f"takes {warmup} steps, the whole run only {total_steps}; shorten it"
        raise ConfigError.of("scheduler.warmup", text)
    return max(1, total_steps - warmup)
