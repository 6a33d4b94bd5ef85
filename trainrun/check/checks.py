"""What usually breaks late, asked of a built run before training: a file per question, each a section.

Every question works on copies: the run's weights, data and random state stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from trainrun.assembly.build import Parts
from trainrun.check.baselines import probe
from trainrun.check.context import context_of, isolated
from trainrun.check.data import FEW, data
from trainrun.check.evaluation import evaluation
from trainrun.check.finding import CheckResult, CheckSection
from trainrun.check.initial_loss import start
from trainrun.check.layers import layers
from trainrun.check.numbers import numbers
from trainrun.check.overfit import overfit
from trainrun.check.sample_rows import read_splits
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
        context = context_of(parts)
        rows = read_splits(context)
        sections = [_asked(data, context, rows), _asked(splits, context), _asked(probe, context, rows)]
        size = parts.info.sizes["train"]
        if size is not None and size < FEW:  # whatever else is wrong may follow from that
            text = f"with {size} training sample{'' if size == 1 else 's'} the answers would say nothing"
            return [*sections, CheckSection("model", (("not asked", text),))]
        sections += [_asked(question, context) for question in (layers, numbers, modes)]
        first = _asked(start, context)
        sections.append(replace(first, findings=()) if _is_explained(sections) else first)
        sections.append(_asked(overfit, context, not _is_explained(sections)))
        if not _is_explained(sections):
            sections.append(_asked(first_steps, context))
        evaluated = _asked(evaluation, context)
        sections.append(replace(evaluated, findings=()) if _is_explained(sections) else evaluated)
        sections.append(_asked(storage, context, _is_explained(sections)))
    return sections


def _is_explained(sections: Sequence[CheckSection]) -> bool:
    """Whether something was found that also shows in the loss and in learning."""
    return any(signal.findings for signal in sections if signal.title not in _APART)


def _asked(question: Callable[..., CheckSection], *arguments: Any) -> CheckSection:
    """Return a question's answer, or what the run's own code raised, which training would also meet."""
    try:
        return question(*arguments)
    except TrainrunError:
        raise
    except Exception as error:
        title = _TITLES.get(question.__name__, question.__name__)
        text = (str(error).strip().splitlines() or [""])[0]
        return CheckSection(
            title, (), (CheckResult(f"{title} fails", f"{type(error).__name__}: {text}", "no error"),)
        )
