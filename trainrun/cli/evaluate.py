"""`trainrun eval RUN`: a stored run's metrics again, from its folder alone."""

from __future__ import annotations

import argparse
import sys
from fnmatch import fnmatchcase

from trainrun.errors import ConfigError

CHANGEABLE = ("runtime.*", "precision*", "data.root", "data.num_workers", "data.eval_batch_size")


def run(words: list[str]) -> int:
    """Print one JSON line, as in metrics.jsonl, to stdout and the same for people to stderr."""
    parser = argparse.ArgumentParser(
        prog="trainrun eval", description="Evaluate a stored run from its folder alone."
    )
    parser.add_argument("run", metavar="RUN", help="a path, the beginning of one, a name, or last")
    parser.add_argument("--checkpoint", default="best", help="best (default), last, or a step")
    parser.add_argument("--split", default="val", choices=["train", "val", "test"], help="default: val")
    parser.add_argument("overrides", nargs="*", help="such as runtime.device=cpu data.root=FOLDER")
    try:
        arguments = parser.parse_args(words)
    except SystemExit as end:
        return int(end.code or 0)
    _check_overrides(arguments.overrides)
    from trainrun.cli.stored import load_weights, open_run
    from trainrun.evaluate import evaluate
    from trainrun.events import Evaluated, metrics_record, to_line
    from trainrun.logger.lines import metrics_text
    from trainrun.run.directory import find
    from trainrun.run.files import read_json
    from trainrun.state import require_same_data

    run_dir = find(arguments.run)
    parts = open_run(run_dir, arguments.overrides).parts
    require_same_data(read_json(run_dir / "environment.json").get("data", parts.state.data), parts.state.data)
    step, weights = load_weights(parts, run_dir, arguments.checkpoint)
    if parts.info.sizes.get(arguments.split, 0) == 0:
        raise ConfigError.one("--split", f"the run has no {arguments.split} split")
    model, batches = parts.state.model, parts.data.eval_batches(arguments.split)
    metrics = evaluate(model, parts.task, batches, parts.state.precision)
    event = Evaluated(
        step=step, epoch=None, split=arguments.split, weights=weights, metrics=metrics, seconds=0.0
    )
    print(f"{run_dir} step {step} {arguments.split} ({weights}) {metrics_text(metrics)}", file=sys.stderr)
    print(to_line(metrics_record(event) or {}), end="")
    return 0


def _check_overrides(overrides: list[str]) -> None:
    """Only what leaves the data and the model as they were may change."""
    for word in overrides:
        key = word.lstrip("+").partition("=")[0]
        if not any(fnmatchcase(key, pattern) for pattern in CHANGEABLE):
            raise ConfigError.one(key, f"would judge another run; eval takes {', '.join(CHANGEABLE)}")
