"""`trainrun eval RUN`: a stored run's metrics again, from its folder alone."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from trainrun.cli.found import find
from trainrun.cli.guide.layout import WIDEST
from trainrun.cli.terminal import columns, show
from trainrun.errors import ConfigError
from trainrun.events import Evaluated, metrics_record, to_line
from trainrun.logger.lines import metrics_text

if TYPE_CHECKING:
    from trainrun.cli.stored import Choice
    from trainrun.config.build import Parts
    from trainrun.report.classes import ClassReport
    from trainrun.report.residuals import ResidualReport

CHANGEABLE = ("runtime.*", "precision*", "data.root", "data.num_workers", "data.eval_batch_size")
_AVERAGES = {"ema": "exponential moving average", "swa": "average over the last part of training"}


def run(words: list[str]) -> int:
    """Print one JSON line, as in metrics.jsonl, to stdout, and to stderr a report for people."""
    parser = argparse.ArgumentParser(
        prog="trainrun eval",
        description="Evaluate a stored run from its folder alone, with a report by class or of the errors.",
    )
    parser.add_argument("run", metavar="RUN", nargs="?", help="a path, the beginning of one, a name, or last")
    parser.add_argument("--checkpoint", default="best", help="best (default), last, or a step")
    parser.add_argument("--split", default="val", choices=["train", "val", "test"], help="default: val")
    parser.add_argument("overrides", nargs="*", help="such as runtime.device=cpu data.root=FOLDER")
    try:
        arguments = parser.parse_intermixed_args(words)
    except SystemExit as end:
        return int(end.code or 0)
    if arguments.run is None:
        raise ConfigError.one("RUN", "name the run to judge: a path, the beginning of one, a name, or last")
    _check_overrides(arguments.overrides)
    from trainrun.cli.stored import choose, load_choice, open_run
    from trainrun.run.files import read_json
    from trainrun.state import require_same_data

    run_dir = find(arguments.run)
    parts = open_run(run_dir, arguments.overrides).parts
    require_same_data(read_json(run_dir / "environment.json").get("data", parts.state.data), parts.state.data)
    choice = choose(run_dir, arguments.checkpoint)
    weights = load_choice(parts, choice)
    if parts.info.sizes.get(arguments.split, 0) == 0:
        raise ConfigError.one("--split", f"the run has no {arguments.split} split")
    print(run_dir, file=sys.stderr)
    size = parts.info.sizes[arguments.split]
    print(f"  {'split':<10} {arguments.split}{f', {size} samples' if size else ''}", file=sys.stderr)
    print(f"  {'weights':<10} {_in_words(parts, choice, weights)}", file=sys.stderr)
    metrics, report = _judge(parts, arguments.split)
    print(f"  {'metrics':<10} {metrics_text(metrics)}", file=sys.stderr)
    if report is not None:
        show(report.lines(columns(sys.stderr) or WIDEST), sys.stderr)
        print(file=sys.stderr)
    event = Evaluated(
        step=choice.step, epoch=None, split=arguments.split, weights=weights, metrics=metrics, seconds=0.0
    )
    record = metrics_record(event) or {}
    print(to_line({key: value for key, value in record.items() if key != "epoch"}), end="")
    return 0


def _judge(parts: Parts, split: str) -> tuple[dict[str, float], ClassReport | ResidualReport | None]:
    """The metrics of a split, and the report that suits its task."""
    from trainrun.evaluate import evaluate
    from trainrun.report.watch import report_on, watched

    model, batches, report = parts.state.model, parts.data.eval_batches(split), report_on(parts.task)
    if report is not None:
        batches = watched(model, batches, report.see)
    return evaluate(model, parts.task, batches, parts.state.precision), report


def _in_words(parts: Parts, choice: Choice, weights: str) -> str:
    """`of step 400, best on val/accuracy`, and which of the two that a run with an average has."""
    roles = ["last"] if choice.is_last else []
    if choice.is_best and parts.monitor is not None:
        roles.insert(0, f"best on val/{parts.monitor.name}")
    words = f"of step {choice.step}{', ' if roles else ''}{' and '.join(roles)}"
    if weights != "raw":
        return f"{words}; their {_AVERAGES.get(weights, 'average')} ({weights})"
    return f"{words}; raw, for the average had not begun" if parts.state.averager else words


def _check_overrides(overrides: list[str]) -> None:
    """Only what leaves the data and the model as they were may change."""
    for word in overrides:
        key = word.lstrip("+").partition("=")[0]
        if not any(fnmatchcase(key, pattern) for pattern in CHANGEABLE):
            raise ConfigError.one(key, f"would judge another run; eval takes {', '.join(CHANGEABLE)}")
