"""What usually breaks late, asked of a built run before training: a file per question, each a section.

Every question works on copies: the run's weights, data and random state stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from trainrun.assembly.build import Parts
from trainrun.check.baselines import probe
from trainrun.check.context import bench_of, isolated
from trainrun.check.data import FEW, data
from trainrun.check.evaluation import evaluation
from trainrun.check.finding import CheckResult, CheckSection
from trainrun.check.initial_loss import start
from trainrun.check.layers import layers
from trainrun.check.numbers import numbers
from trainrun.check.overfit import overfit
from trainrun.check.sample_rows import seen
from trainrun.check.splits import splits
from trainrun.check.steps import first_steps
from trainrun.check.storage import storage
from trainrun.check.train_vs_eval import modes
from trainrun.vocabulary.errors import TrainrunError

__all__ = ["CheckResult", "CheckSection", "examine"]

_APART = ("splits", "probe")  # what is wrong there does not show in the loss
_TITLES = {"layers": "model", "first_steps": "first steps"}  # of sections not named as their question


def examine(parts: Parts) -> list[CheckSection]:
    """Every question's answer, in an order in which causes come before what follows from them."""
    with isolated():
        bench = bench_of(parts)
        rows = seen(bench)
        found = [_asked(data, bench, rows), _asked(splits, bench), _asked(probe, bench, rows)]
        size = parts.info.sizes["train"]
        if size is not None and size < FEW:  # whatever else is wrong may follow from that
            text = f"with {size} training sample{'' if size == 1 else 's'} the answers would say nothing"
            return [*found, CheckSection("model", (("not asked", text),))]
        found += [_asked(question, bench) for question in (layers, numbers, modes)]
        first = _asked(start, bench)
        found.append(replace(first, findings=()) if _is_explained(found) else first)
        found.append(_asked(overfit, bench, not _is_explained(found)))
        if not _is_explained(found):
            found.append(_asked(first_steps, bench))
        judged = _asked(evaluation, bench)
        found.append(replace(judged, findings=()) if _is_explained(found) else judged)
        found.append(_asked(storage, bench, _is_explained(found)))
    return found


def _is_explained(found: Sequence[CheckSection]) -> bool:
    """Whether something was found that shows in the loss and in learning, too."""
    return any(one.findings for one in found if one.title not in _APART)


def _asked(question: Callable[..., CheckSection], *of: Any) -> CheckSection:
    """Its answer, or what the run's own code raised, which training would meet, too."""
    try:
        return question(*of)
    except TrainrunError:
        raise
    except Exception as error:
        title = _TITLES.get(question.__name__, question.__name__)
        text = (str(error).strip().splitlines() or [""])[0]
        return CheckSection(
            title, (), (CheckResult(f"{title} fails", f"{type(error).__name__}: {text}", "no error"),)
        )
