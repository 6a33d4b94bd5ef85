"""The search for the largest micro-batches that fit into memory, for training and for evaluating."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainrun.tune.batch import (
    BatchSearchResult,
    Sizes,
    TriedSize,
    beyond,
    cuts,
    cuts_of_all,
    first_of,
    largest,
    rounded,
)
from trainrun.tune.batch_trials import BatchTrials, cut_of, replaced
from trainrun.tune.trial import Survey
from trainrun.vocabulary.errors import OutOfMemoryError, TrainrunError

_STREAMED = 16  # times data.eval_batch_size: as far as an evaluation without length is tried


@dataclass(frozen=True)
class BatchSearch:
    """Both searches, and the command that trains with what they found."""

    survey: Survey
    limit: str  # in words
    train: BatchSearchResult
    evaluation: BatchSearchResult | None
    no_evaluation: str  # why there is none
    whole: TriedSize  # a run that trains and evaluates with what was found
    overrides: Sequence[str]
    command: str
    notes: Sequence[tuple[str, str]]


def search_batch(tries: BatchTrials, most: int | None) -> BatchSearch:
    """Search training first: evaluations are tried in a run that is cut as was found."""
    survey = tries.survey()
    is_free = survey.is_full and not survey.scales_lr
    sizes = cuts_of_all(survey.window) if is_free else cuts(survey.window)
    sizes = {size: pieces for size, pieces in sizes.items() if most is None or size <= most}
    train = _searched(sizes, first_of(sizes, False), tries.train, "batch_size", tries.limit)
    if most and train.largest.size == survey.window:
        train = BatchSearchResult((*train.tried, *_beyond(tries, survey, most)), train.largest)
    evaluation, no_evaluation = None, _why_no_evaluation(survey)
    if not no_evaluation:
        assert survey.eval_batch_size
        sizes, cut = (rounded(survey.split_size or _STREAMED * survey.eval_batch_size), _cut(survey, train))
        attempt = lambda size, pieces: tries.time_evaluation(size, pieces, cut)  # noqa: E731
        evaluation = _searched(sizes, first_of(sizes, True), attempt, "data.eval_batch_size", tries.limit)
    train, evaluation, whole = _together(tries, survey, train, evaluation)
    overrides = _overrides(survey, train, evaluation)
    return BatchSearch(
        survey=survey,
        limit=tries.limit,
        train=train,
        evaluation=evaluation,
        no_evaluation=no_evaluation,
        whole=whole,
        overrides=overrides,
        command=shlex.join(["trainrun", *replaced(tries.overrides, overrides)]),
        notes=_notes(tries, survey, train.largest),
    )


def _cut(survey: Survey, train: BatchSearchResult) -> list[str]:
    """The overrides that cut the window as was found; all samples at once are called full."""
    if survey.is_full and train.largest.pieces == 1:
        return ["batch_size=full", "loop.accumulate=1"]
    return cut_of(train.largest.size, train.largest.pieces)


def _overrides(survey: Survey, train: BatchSearchResult, evaluation: BatchSearchResult | None) -> list[str]:
    eval_size = [f"data.eval_batch_size={evaluation.largest.size}"] if evaluation else []
    return [*_cut(survey, train), *eval_size]


def _together(
    tries: BatchTrials, survey: Survey, train: BatchSearchResult, evaluation: BatchSearchResult | None
) -> tuple[BatchSearchResult, BatchSearchResult | None, TriedSize]:
    """Both as one run has them, and what it takes; the hungrier of the two is made smaller until they fit.

    Raises OutOfMemoryError where they do not fit in any size, TrainrunError where the run itself fails.
    """
    why = "fits alone, but not in a run that trains and evaluates"
    while not (whole := tries.together(_overrides(survey, train, evaluation))).fits:
        if whole.fits is None:
            raise TrainrunError(whole.why)
        is_hungry = evaluation is not None and evaluation.largest.peak_bytes > train.largest.peak_bytes
        smaller, other = train.less(why), evaluation.less(why) if evaluation else None
        if other is not None and (is_hungry or smaller is None):
            evaluation = other
        elif smaller is not None:
            train = smaller
        else:
            overrides = " ".join(_overrides(survey, train, evaluation))
            raise OutOfMemoryError(
                f"{overrides}: {whole.why}, {tries.limit}, when the run trains and evaluates"
            )
    return train, evaluation, whole


def _searched(
    sizes: Sizes, first: int, attempt: Callable[[int, int], TriedSize], key: str, limit: str
) -> BatchSearchResult:
    """Raises OutOfMemoryError where no size fits, TrainrunError where each fails for a reason of its own."""
    tried: dict[int, TriedSize] = {}

    def fits(size: int) -> bool | None:
        tried[size] = attempt(size, sizes[size])
        return tried[size].fits

    best = largest(list(sizes), first, fits)
    if best is not None:
        return BatchSearchResult(tuple(tried[size] for size in sorted(tried)), tried[best])
    least = min(
        (trial for trial in tried.values() if trial.fits is False), key=lambda trial: trial.size, default=None
    )
    if least is not None:
        text = f"{key}={least.size}: {least.why}, {limit}"
        raise OutOfMemoryError(f"{text}; no size fits: take a smaller model, or precision=bf16")
    failed = next(iter(tried.values()))
    raise TrainrunError(f"{key}={failed.size}: {failed.why}; no size that was tried runs")


def _beyond(tries: BatchTrials, survey: Survey, most: int) -> list[TriedSize]:
    """Micro-batches larger than the window, up to one that does not fit."""
    trials: list[TriedSize] = []
    for size in beyond(survey.window, most) if survey.samples_per_step == survey.window else []:
        trials.append(tries.train(size, 1, is_beyond=True))
        if not trials[-1].fits:
            break
    return trials


def _why_no_evaluation(survey: Survey) -> str:
    """Why no evaluation is tried; empty where one is."""
    if not survey.split:
        return "there is no validation or test split"
    return "" if survey.eval_batch_size else "the data choose their own batches: they take no eval_batch_size"


def _notes(tries: BatchTrials, survey: Survey, largest: TriedSize) -> list[tuple[str, str]]:
    """What to know of the size that was found."""
    plan = [(label, text) for label, text in tries.cautions.get(largest.size, [])]
    notes = [(label, text) for label, text in plan if label == "caution"]
    if survey.has_batch_norm and largest.size != survey.batch_size:
        text = (
            f"sees {largest.size} samples at a time and not {survey.batch_size}, so this is not the same run"
        )
        notes.insert(0, ("batch norm", text))
    if tries.lengths_differ:
        text = "the inputs differ in length, and the longest may not have been met: leave room for them"
        notes.append(("caution", text))
    if survey.split and survey.split_size is None and survey.eval_batch_size:
        text = (
            f"{survey.split} is a stream without length: tried up to {_STREAMED} times data.eval_batch_size"
        )
        notes.append(("", text))
    return notes
