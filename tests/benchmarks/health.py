"""What the health figures cost: steps of the CNN on pictures as large as Fashion-MNIST's, with and without.

A log window is measured in turns with and without, so that a busy machine is busy for both. Prints the
median times of a window and their ratio, and of a single step.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from itertools import islice

from trainrun.config.build import Parts, build
from trainrun.config.compose import Composer
from trainrun.health import measured
from trainrun.protocols import Position, Step, Window
from trainrun.step import Clip, Policy
from trainrun.step import Step as PlainStep

WINDOW, ROUNDS, BAR = 50, 9, 1.02
WORDS = ["data=synthetic", "data.shape=[1,28,28]", "data.num_samples=6000", "model=cnn", "budget=100ep"]


def main() -> None:
    parts = build(Composer().checked(WORDS).settings)
    policy = Policy(Clip(None, None, None), "stop", 1, 0.5)
    step = PlainStep(parts.task, policy, (), {}, parts.info, 1, 0)
    windows = ([batch] for batch in parts.data.train_batches(Position(), parts.cut, 0))
    run(parts, step, windows, plain)  # warms up
    times: dict[str, list[float]] = {"without": [], "with": []}
    for round_ in range(2 * ROUNDS):
        name = "with" if round_ % 2 else "without"
        times[name].append(run(parts, step, windows, with_health if name == "with" else plain))
    without, with_ = (statistics.median(times[name]) for name in ("without", "with"))
    print(
        f"{WINDOW} steps of {parts.cut.window} pictures 28 x 28: without {without:.3f} s, with {with_:.3f} s"
    )
    single = {name: run(parts, step, windows, way, 20) / 20 for name, way in SINGLES.items()}
    print(
        f"a step takes {single['plain'] * 1e3:.1f} ms, one that is measured {single['measured'] * 1e3:.1f} ms"
    )
    print(f"ratio {with_ / without:.4f}; wanted: at most {BAR}")
    share = 1 + (single["measured"] / single["plain"] - 1) / WINDOW
    print(f"ratio by single steps {share:.4f}")


Way = Callable[[Parts, Step, list[Window]], None]


def run(parts: Parts, step: Step, windows: Iterator[Window], way: Way, count: int = WINDOW) -> float:
    """Seconds of the processor for `count` steps: other programs add nothing to them."""
    given = list(islice(windows, count))
    began = time.process_time()
    way(parts, step, given)
    return time.process_time() - began


def plain(parts: Parts, step: Step, windows: list[Window]) -> None:
    for window in windows:
        step(parts.state, window)


def every(parts: Parts, step: Step, windows: list[Window]) -> None:
    for window in windows:
        measured(step, parts.state, window)


def with_health(parts: Parts, step: Step, windows: list[Window]) -> None:
    """As the loop does: the last step of a window is looked at, and its figures are read."""
    plain(parts, step, windows[:-1])
    result = measured(step, parts.state, windows[-1])
    assert {name: float(value) for name, value in result.health.items()}


SINGLES: dict[str, Way] = {"plain": plain, "measured": every}

if __name__ == "__main__":
    main()
