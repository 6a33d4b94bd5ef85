"""What usually breaks late, asked of a built run before training: a function per question, each a section.

Every question works on copies: the run's weights, data and random state stay as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trainrun.assembly.build import Parts
from trainrun.check.context import context_of, isolated
from trainrun.check.data import FEW, data, probe
from trainrun.check.finding import CheckSection
from trainrun.check.layers import layers
from trainrun.check.learning_rate import first_steps, overfit
from trainrun.check.numbers import evaluation, numbers, start
from trainrun.check.splits import read_splits, splits
from trainrun.check.storage import storage
from trainrun.check.train_vs_eval import modes
from trainrun.vocabulary.errors import TrainrunError

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
            return [*sections, CheckSection("model", [("not asked", text)])]
        sections += [_asked(question, context) for question in (layers, numbers, modes)]
        sections.append(_asked(start, context, explained=_is_explained(sections)))
        sections.append(_asked(overfit, context, not _is_explained(sections)))
        if not _is_explained(sections):
            sections.append(_asked(first_steps, context))
        sections.append(_asked(evaluation, context, explained=_is_explained(sections)))
        sections.append(_asked(storage, context, _is_explained(sections)))
    return sections


def _is_explained(sections: Sequence[CheckSection]) -> bool:
    """Whether something was found that also shows in the loss and in learning."""
    return any(section.findings for section in sections if section.title not in _APART)


def _asked(question: Callable[..., CheckSection], *arguments: Any, explained: bool = False) -> CheckSection:
    """Return a question's answer, or what the run's own code raised, which training would also meet.

    Without its findings where they are `explained`.
    """
    try:
        section = question(*arguments)
    except TrainrunError:
        raise
    except Exception as error:
        section = CheckSection(_TITLES.get(question.__name__, question.__name__))
        text = (str(error).strip().splitlines() or [""])[0]
        section.add(f"{section.title} fails", f"{type(error).__name__}: {text}", "no error")
    if explained:
        section.findings.clear()
    return section
