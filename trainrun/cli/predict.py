"""`trainrun predict RUN`: what a stored run makes of each sample of a split or a file, as CSV."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

from trainrun.cli.stored_run import load_named_run, parsed, parser_of
from trainrun.run.files import replacing
from trainrun.session.load_run import SPLITS, views_of
from trainrun.session.predictions import about_input, samples_of
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError, StorageError


def run(words: list[str]) -> int:
    """Print a row per sample to stdout, or write them to --out; who they are from goes to stderr."""
    about = (
        "Predict a split, or the samples of a file, with a stored run's weights; a CSV row for each sample."
    )
    parser = parser_of("predict", about)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--split", choices=SPLITS, help="default: test")
    source.add_argument("--input", metavar="FILE", type=Path, help="samples such as those of the run's data")
    parser.add_argument("--out", metavar="FILE", type=Path, help="written over; default: stdout")
    parser.add_argument("--tta", default="", metavar="VIEWS", help="flip, crop or flip,crop: mean over views")
    arguments = parsed(parser, words)
    views = views_of(arguments.tta)
    if arguments.out and not arguments.out.parent.is_dir():
        raise ConfigError.of("--out", f"there is no folder {arguments.out.parent}")
    loaded, split = load_named_run(arguments), arguments.split or "test"
    source_text = {"input": str(arguments.input)} if arguments.input else {"split": loaded.size_of(split)}
    model, samples = loaded.model_over(views), samples_of(loaded, arguments.input, split)
    loaded.introduce(**source_text)
    if views:
        say(f"  {'views':<10} {model}")
    for note in samples.notes:
        say(f"  {'note':<10} {note}")
    from trainrun.loop.evaluate import predictions
    from trainrun.session.predictions import rows_of

    parts = loaded.parts
    predicted = predictions(model, parts.task, samples.batches, parts.state.precision)
    with about_input(arguments.input):
        count = _write(rows_of(parts.task, parts.info, samples, predicted), arguments.out)
    if arguments.out:
        say(f"{count} predictions: {arguments.out}")
    return 0


def _write(rows: Iterable[Sequence[str]], out: Path | None) -> int:
    """Returns how many there were, without their heads."""
    if out is None:
        count = _count(rows, sys.stdout)
        sys.stdout.flush()
        return count
    try:
        with replacing(out) as part, part.open("w", encoding="utf-8", newline="") as file:
            return _count(rows, file)
    except OSError as error:
        raise StorageError(f"--out: {out} cannot be written: {error.strerror or error}") from None


def _count(rows: Iterable[Sequence[str]], file: TextIO) -> int:
    writer = csv.writer(file, lineterminator="\n")
    return sum(1 for _ in map(writer.writerow, rows)) - 1
