"""`trainrun eval RUN`: a stored run's metrics again, from its folder alone."""

from __future__ import annotations

import sys

from trainrun.cli.stored_run import load_named_run, parsed, parser_of
from trainrun.session.load_run import SPLITS, views_of
from trainrun.terminal.layout import WIDEST
from trainrun.terminal.lines import columns, say, show
from trainrun.terminal.numbers import metrics_text
from trainrun.vocabulary.events import Evaluated, metrics_record, to_line


def run(words: list[str]) -> int:
    """Print one JSON line, as in metrics.jsonl, to stdout, and to stderr a report for people."""
    about = "Evaluate a stored run from its folder alone, with a report by class or of the errors."
    parser = parser_of("eval", about)
    parser.add_argument("--split", default="val", choices=SPLITS, help="default: val")
    parser.add_argument("--tta", default="", metavar="VIEWS", help="flip, crop or flip,crop: mean over views")
    arguments = parsed(parser, words)
    views = views_of(arguments.tta)
    loaded = load_named_run(arguments)
    size, model = loaded.size_of(arguments.split), loaded.model_over(views)
    loaded.introduce(split=size)
    from trainrun.report.eval_observer import evaluate_split

    metrics, report = evaluate_split(loaded, model, arguments.split)
    if views:
        say(f"  {'views':<10} {model}")
    say(f"  {'metrics':<10} {metrics_text(metrics)}")
    if report is not None:
        show(report.lines(columns(sys.stderr) or WIDEST), sys.stderr)
        say()
    which = {"step": loaded.choice.step, "split": arguments.split, "weights": loaded.weights}
    event = Evaluated(**which, epoch=None, metrics=metrics, seconds=0.0)
    record = (metrics_record(event) or {}) | ({"tta": arguments.tta} if views else {})
    print(to_line({key: value for key, value in record.items() if key != "epoch"}), end="")
    return 0
