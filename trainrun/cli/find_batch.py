"""`trainrun find-batch [overrides]`: the largest micro-batches that fit, for training and for evaluating."""

from __future__ import annotations

import json
import sys

from trainrun.cli.arguments import WIDE, ArgumentParser, paint, picture_file
from trainrun.config.compose.composer import Composer
from trainrun.terminal.lines import columns, say, show
from trainrun.tune.memory import parse_bytes
from trainrun.vocabulary.errors import ConfigError

_ABOUT = """Find the largest micro-batch that fits into memory, for training and for evaluating apart. The
run stays what it is: batch_size x loop.accumulate keeps its product, so only its divisors are tried. Each
size makes whole steps of the run, in a process of its own, that nothing is left of. On a GPU the limit is
its memory, on a CPU what the machine has to spare. Ends with the command that trains with what was found."""


def run(words: list[str]) -> int:
    """The tables and the command go to stdout, what is being tried and the picture's place to stderr."""
    parser = ArgumentParser(prog="trainrun find-batch", description=_ABOUT)
    parser.add_argument("--memory", metavar="SIZE", help="fit into this much, such as 2GiB or 800MB")
    largest = "the largest micro-batch to train with; beyond the window for its throughput alone"
    parser.add_argument("--max", type=int, metavar="N", help=largest)
    drawn = "draw throughput and memory as .png, .pdf or .svg"
    parser.add_argument("--out", type=picture_file, metavar="FILE", help=drawn)
    parser.add_argument("--json", action="store_true", help="the same as one JSON object")
    parser.add_argument("overrides", nargs="*", help="as for trainrun itself")
    arguments = parser.parse_intermixed_args(words)
    try:
        limit_bytes = parse_bytes(arguments.memory) if arguments.memory else None
    except ValueError as error:
        raise ConfigError.of("--memory", str(error)) from None
    if arguments.max is not None and arguments.max < 1:
        raise ConfigError.of("--max", f"must be at least 1, got {arguments.max}")
    for note in Composer().checked(arguments.overrides).notes:
        say(note)
    from trainrun.tune.batch_search import search_batch
    from trainrun.tune.batch_trials import BatchTrialError, BatchTrials

    try:
        result = search_batch(BatchTrials(words, arguments.overrides, limit_bytes), arguments.max)
    except BatchTrialError as ended:
        return ended.code
    from trainrun.report import throughput

    if arguments.json:
        print(json.dumps(throughput.record(result), indent=1))
    else:
        show(throughput.lines(result, columns(sys.stdout) or WIDE), sys.stdout)
    if arguments.out:
        paint(arguments.out, lambda where: throughput.picture(result, where))
    return 0
