"""`trainrun find-batch [overrides]`: the largest micro-batches that fit, for training and for evaluating."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from trainrun.cli.image_output import paint, picture_file
from trainrun.config.compose.composer import Composer
from trainrun.terminal.lines import columns, say, show
from trainrun.vocabulary.errors import ConfigError, OutOfMemory, TrainrunError

if TYPE_CHECKING:
    from trainrun.report.throughput import BatchSearch
    from trainrun.tune.batch import Found, Sizes, TriedSize
    from trainrun.tune.batch_trials import Tries
    from trainrun.tune.trial import Survey

_ABOUT = """Find the largest micro-batch that fits into memory, for training and for evaluating apart. The
run stays what it is: batch_size x loop.accumulate keeps its product, so only its divisors are tried. Each
size makes whole steps of the run, in a process of its own, that nothing is left of. On a GPU the limit is
its memory, on a CPU what the machine has to spare. Ends with the command that trains with what was found."""
_WIDE = 100  # columns, where there is no terminal to ask
_STREAMED = 16  # times data.eval_batch_size: as far as an evaluation without length is tried


def run(words: list[str]) -> int:
    """The tables and the command go to stdout, what is being tried and the picture's place to stderr."""
    parser = argparse.ArgumentParser(prog="trainrun find-batch", description=_ABOUT)
    parser.add_argument("--memory", metavar="SIZE", help="fit into this much, such as 2GiB or 800MB")
    parser.add_argument(
        "--max",
        type=int,
        metavar="N",
        help="the largest micro-batch to train with; beyond the window for its throughput alone",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="draw throughput and memory as .png, .pdf or .svg"
    )
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    parser.add_argument("overrides", nargs="*", help="as for trainrun itself")
    try:
        arguments = parser.parse_intermixed_args(words)
    except SystemExit as end:
        return int(end.code or 0)
    file = picture_file(arguments.out) if arguments.out else None
    limit_bytes = _bytes(arguments.memory) if arguments.memory else None
    if arguments.max is not None and arguments.max < 1:
        raise ConfigError.one("--max", f"wants at least 1, got {arguments.max}")
    for note in Composer().checked(arguments.overrides).notes:
        say(note)
    from trainrun.tune.batch_trials import TrialEnd, Tries

    try:
        result = _find(Tries(words, arguments.overrides, limit_bytes), arguments.max)
    except TrialEnd as ended:
        return ended.code
    from trainrun.report import throughput

    if arguments.json:
        print(json.dumps(throughput.record(result), indent=1))
    else:
        show(throughput.lines(result, columns(sys.stdout) or _WIDE), sys.stdout)
    if file:
        paint(file, lambda where: throughput.picture(result, where))
    return 0


def _find(tries: Tries, most: int | None) -> BatchSearch:
    """Search training first: evaluations are tried in a run that is cut as was found."""
    from trainrun.report.throughput import BatchSearch
    from trainrun.tune import batch
    from trainrun.tune.batch_trials import replaced

    survey = tries.survey()
    is_free = survey.is_full and not survey.scales_lr
    sizes = batch.cuts_of_all(survey.window) if is_free else batch.cuts(survey.window)
    sizes = {size: pieces for size, pieces in sizes.items() if most is None or size <= most}
    train = _searched(sizes, batch.first_of(sizes, False), tries.train, "batch_size", tries.limit)
    if most and train.largest.size == survey.window:
        train = batch.Found((*train.tried, *_beyond(tries, survey, most)), train.largest)
    evaluation, no_evaluation = None, _why_no_evaluation(survey)
    if not no_evaluation:
        assert survey.eval_batch_size
        sizes, cut = (
            batch.rounded(survey.split_size or _STREAMED * survey.eval_batch_size),
            _cut(survey, train),
        )
        attempt = lambda size, pieces: tries.time_evaluation(size, pieces, cut)  # noqa: E731
        evaluation = _searched(
            sizes, batch.first_of(sizes, True), attempt, "data.eval_batch_size", tries.limit
        )
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


def _cut(survey: Survey, train: Found) -> list[str]:
    """The overrides that cut the window as was found; all samples at once are called full."""
    from trainrun.tune.batch_trials import cut_of

    if survey.is_full and train.largest.pieces == 1:
        return ["batch_size=full", "loop.accumulate=1"]
    return cut_of(train.largest.size, train.largest.pieces)


def _overrides(survey: Survey, train: Found, evaluation: Found | None) -> list[str]:
    eval_size = [f"data.eval_batch_size={evaluation.largest.size}"] if evaluation else []
    return [*_cut(survey, train), *eval_size]


def _together(
    tries: Tries, survey: Survey, train: Found, evaluation: Found | None
) -> tuple[Found, Found | None, TriedSize]:
    """Both as one run has them, and what it takes; the hungrier of the two is made smaller until they fit.

    Raises OutOfMemory where they do not fit in any size, TrainrunError where the run itself fails.
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
            raise OutOfMemory(f"{overrides}: {whole.why}, {tries.limit}, when the run trains and evaluates")
    return train, evaluation, whole


def _searched(
    sizes: Sizes, first: int, attempt: Callable[[int, int], TriedSize], key: str, limit: str
) -> Found:
    """Raises OutOfMemory where no size fits, TrainrunError where each fails for a reason of its own."""
    from trainrun.tune.batch import Found, largest

    tried: dict[int, TriedSize] = {}

    def fits(size: int) -> bool | None:
        tried[size] = attempt(size, sizes[size])
        return tried[size].fits

    best = largest(list(sizes), first, fits)
    if best is not None:
        return Found(tuple(tried[size] for size in sorted(tried)), tried[best])
    least = min(
        (trial for trial in tried.values() if trial.fits is False), key=lambda trial: trial.size, default=None
    )
    if least is not None:
        text = f"{key}={least.size}: {least.why}, {limit}"
        raise OutOfMemory(f"{text}; no size fits: take a smaller model, or precision=bf16")
    failed = next(iter(tried.values()))
    raise TrainrunError(f"{key}={failed.size}: {failed.why}; no size that was tried runs")


def _beyond(tries: Tries, survey: Survey, most: int) -> list[TriedSize]:
    """Micro-batches larger than the window, up to one that does not fit."""
    from trainrun.tune.batch import beyond

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


def _notes(tries: Tries, survey: Survey, largest: TriedSize) -> list[tuple[str, str]]:
    """What to know of the size that was found."""
    plan = [(label, text) for label, text in tries.told.get(largest.size, [])]
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


def _bytes(text: str) -> int:
    from trainrun.tune.memory import parse_bytes

    try:
        return parse_bytes(text)
    except ValueError as error:
        raise ConfigError.one("--memory", str(error)) from None
