"""The search for the largest micro-batches that fit into memory, for training and for evaluating."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainrun.tune import batch
from trainrun.tune.batch import BatchSearchResult, Sizes, TriedSize
from trainrun.tune.batch_trials import BatchTrials, cut_of, replaced
from trainrun.tune.trial import Survey
from trainrun.vocabulary.errors import OutOfMemoryError, TrainrunError

_STREAMED = 16  # times data.eval_batch_size: as far as an evaluation without length is tried
_NOT_TOGETHER = "fits alone, but not in a run that trains and evaluates"


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
    sizes = batch.cuts_of_all(survey.window) if is_free else batch.cuts(survey.window)
    sizes = {size: pieces for size, pieces in sizes.items() if most is None or size <= most}
    train = _searched(sizes, False, tries.train, "batch_size", tries.limit)
    if most and train.largest.size == survey.window:
        train = BatchSearchResult((*train.tried, *_beyond(tries, survey, most)), train.largest)
    evaluation, no_evaluation = None, ""
    if not survey.split:
        no_evaluation = "there is no validation or test split"
    elif not survey.eval_batch_size:
        no_evaluation = "the data choose their own batches: they take no eval_batch_size"
    else:
        sizes = batch.rounded(survey.split_size or _STREAMED * survey.eval_batch_size)
        cut = _overrides(survey, train, None)
        attempt = lambda size, pieces: tries.time_evaluation(size, pieces, cut)  # noqa: E731
        evaluation = _searched(sizes, True, attempt, "data.eval_batch_size", tries.limit)
    train, evaluation, whole = _together(tries, survey, train, evaluation)
    words = _overrides(survey, train, evaluation)
    command = shlex.join(["trainrun", *replaced(tries.overrides, words)])
    notes = _notes(tries, survey, train.largest)
    return BatchSearch(survey, tries.limit, train, evaluation, no_evaluation, whole, words, command, notes)


def _overrides(survey: Survey, train: BatchSearchResult, evaluation: BatchSearchResult | None) -> list[str]:
    """The overrides that cut the run as was found; all samples at once are called full."""
    if survey.is_full and train.largest.pieces == 1:
        cut = ["batch_size=full", "loop.accumulate=1"]
    else:
        cut = cut_of(train.largest.size, train.largest.pieces)
    return [*cut, *([f"data.eval_batch_size={evaluation.largest.size}"] if evaluation else [])]


def _searched(
    sizes: Sizes, is_free: bool, attempt: Callable[[int, int], TriedSize], key: str, limit: str
) -> BatchSearchResult:
    """Raises OutOfMemoryError where no size fits, TrainrunError where each fails for a reason of its own."""
    tried: dict[int, TriedSize] = {}

    def fits(size: int) -> bool | None:
        tried[size] = attempt(size, sizes[size])
        return tried[size].fits

    best = batch.largest(list(sizes), batch.first_of(sizes, is_free), fits)
    if best is not None:
        return BatchSearchResult(tuple(tried[size] for size in sorted(tried)), tried[best])
    if too_large := [size for size, trial in tried.items() if trial.fits is False]:
        text = f"{key}={min(too_large)}: {tried[min(too_large)].why}, {limit}"
        raise OutOfMemoryError(f"{text}; no size fits: take a smaller model, or precision=bf16")
    failed = next(iter(tried.values()))
    raise TrainrunError(f"{key}={failed.size}: {failed.why}; no size that was tried runs")


def _beyond(tries: BatchTrials, survey: Survey, most: int) -> list[TriedSize]:
    """Micro-batches larger than the window, up to one that does not fit."""
    trials: list[TriedSize] = []
    for size in batch.beyond(survey.window, most) if survey.samples_per_step == survey.window else []:
        trials.append(tries.train(size, 1, is_beyond=True))
        if not trials[-1].fits:
            break
    return trials


def _together(
    tries: BatchTrials, survey: Survey, train: BatchSearchResult, evaluation: BatchSearchResult | None
) -> tuple[BatchSearchResult, BatchSearchResult | None, TriedSize]:
    """Both in one run, and what it takes; the hungrier is made smaller until they fit."""
    while not (whole := tries.together(words := _overrides(survey, train, evaluation))).fits:
        if whole.fits is None:
            raise TrainrunError(whole.why)
        is_hungry = evaluation is not None and evaluation.largest.peak_bytes > train.largest.peak_bytes
        smaller, other = train.less(_NOT_TOGETHER), evaluation and evaluation.less(_NOT_TOGETHER)
        if other is not None and (is_hungry or smaller is None):
            evaluation = other
        elif smaller is not None:
            train = smaller
        else:
            text = f"{' '.join(words)}: {whole.why}, {tries.limit}"
            raise OutOfMemoryError(f"{text}, when the run trains and evaluates")
    return train, evaluation, whole


def _notes(tries: BatchTrials, survey: Survey, largest: TriedSize) -> list[tuple[str, str]]:
    notes = [("caution", text) for text in tries.cautions.get(largest.size, [])]
    if survey.has_batch_norm and largest.size != survey.batch_size:
        text = f"sees {largest.size} samples at a time and not {survey.batch_size}"
        notes.insert(0, ("batch norm", f"{text}, so this is not the same run"))
    if tries.lengths_differ:
        text = "the inputs differ in length, and the longest may not have been met: leave room for them"
        notes.append(("caution", text))
    if survey.split and survey.split_size is None and survey.eval_batch_size:
        text = f"{survey.split} is a stream without length"
        notes.append(("", f"{text}: tried up to {_STREAMED} times data.eval_batch_size"))
    return notes
