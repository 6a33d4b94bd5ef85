"""One evaluation, as the run would make it: its metrics exist, and so does the monitored one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from trainrun.check.context import CheckContext, Patience
from trainrun.check.finding import CheckResult, CheckSection
from trainrun.loop.evaluate import evaluate
from trainrun.protocols import Batch

_MOST_S = 4.0  # the whole check is to take seconds


def evaluation(context: CheckContext) -> CheckSection:
    """The validation split, or as much of it as there is time for, with the first weights."""
    parts = context.parts
    split = next((name for name in ("val", "test") if parts.info.sizes.get(name, 0) != 0), None)
    if split is None:
        return CheckSection("evaluation", (("splits", "there is none to evaluate on"),))
    read = _Timed(parts.data.eval_batches(split))
    metrics = evaluate(context.model, parts.task, read, parts.state.precision)
    text = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
    lines = [(split, f"{text}{'' if read.is_whole else f' (of {read.count} samples)'}")]
    findings = []
    if parts.monitor is not None:
        name = parts.monitor.name
        lines.append(("monitor", f"val/{name} ({'max' if parts.monitor.maximize else 'min'})"))
        if name not in metrics or not math.isfinite(metrics[name]):
            findings.append(_undecided(name, metrics, split))
    return CheckSection("evaluation", tuple(lines), tuple(findings), metrics)


def _undecided(name: str, metrics: Mapping[str, float], split: str) -> CheckResult:
    """The monitored metric is not there or not finite."""
    got = metrics.get(name, "none")
    there = [f"val/{other}" for other, value in metrics.items() if math.isfinite(value)]
    measured = f"the monitor val/{name} chooses the best weights; an evaluation gives {got} for it"
    if there:
        return CheckResult("monitor", measured, f"one of {', '.join(there)}", (f"monitor={there[0]}",))
    advice = f"no metric is a finite number: look at the inputs and targets of {split}, then at the model"
    return CheckResult("monitor", measured, "a finite number", (), advice)


class _Timed:
    """Batches until the time is over."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self.batches, self.count, self.is_whole = batches, 0, True

    def __iter__(self) -> Iterator[Batch]:
        patience = Patience(_MOST_S, 4 * _MOST_S)
        for batch in self.batches:
            if patience.is_over and self.count:
                self.is_whole = False
                return
            self.count += len(batch)
            yield batch
