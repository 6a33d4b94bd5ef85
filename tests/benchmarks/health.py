"""What the health figures cost: steps of the CNN on pictures as large as Fashion-MNIST's, with and without.

Plain steps and measured ones are taken in turns, in seconds of the processor, so that a busy machine
adds to neither. One step of each log window is measured; from the medians follows the window's share.
"""

from __future__ import annotations

import statistics
import time
from itertools import islice

from torch.utils._pytree import tree_leaves

from trainrun.assembly.build import build
from trainrun.config.compose.composer import Composer
from trainrun.loop.health import measure_health
from trainrun.loop.step import Clip, Policy, Step
from trainrun.protocols import Position

WINDOW, PAIRS, BAR = 50, 60, 1.02
WORDS = ["data=synthetic", "data.shape=[1,28,28]", "model=cnn", "budget=100ep", "runtime.threads=1"]


def main() -> None:
    parts = build(Composer().checked(WORDS).settings)
    step = Step(
        parts.task, Policy(Clip(None, None, None), "stop", 1, 0.5), (), {}, parts.info, 1, 0, parts.parallel
    )
    batches = parts.data.train_batches(Position(), parts.batch_spec, 0)
    times: dict[bool, list[float]] = {False: [], True: []}
    for count, batch in enumerate(islice(batches, 2 * PAIRS + 10)):
        is_measured = count % 2 == 1
        began = time.process_time()
        if is_measured:
            result = measure_health(step, parts.state, [batch])
            assert [float(value) for value in tree_leaves(result.health)]  # reads them, as a log does
        else:
            step(parts.state, [batch])
        if count >= 10:  # warm
            times[is_measured].append(time.process_time() - began)
    plain, looked = statistics.median(times[False]), statistics.median(times[True])
    size = parts.batch_spec.window
    print(f"a step of {size} pictures takes {plain * 1e3:.1f} ms, measured {looked * 1e3:.1f} ms")
    share = 1 + (looked / plain - 1) / WINDOW
    print(f"with one of {WINDOW} measured {share:.4f} of the time without; wanted: at most {BAR}")


if __name__ == "__main__":
    main()
