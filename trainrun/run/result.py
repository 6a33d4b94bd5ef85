"""result.json: the final numbers of a run that came to its end, read from its own record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from trainrun.run.files import replace_json
from trainrun.run.history import records
from trainrun.vocabulary.events import Finished, without_nonfinite

FILE = "result.json"
_NOT_METRICS = {"event", "step", "epoch", "split", "weights", "nonfinite"}
_NOT_LEARNED = {*_NOT_METRICS, "lr", "grad_norm", "grad_norm_after", "clipped", "skipped", "spikes"}
_NOT_LEARNED |= {"update_ratio", "dead_units"}


def write_result(run_dir: Path, finished: Finished) -> None:
    """Write result.json, whole or not at all; metrics.jsonl is complete. Raises OSError.

    All of it but `seconds` follows from what was computed, however often the run was interrupted.
    """
    content = result_of(finished, records(run_dir / "metrics.jsonl"))
    replace_json(run_dir / FILE, without_nonfinite(content))


def forget_result(run_dir: Path) -> None:
    """What goes on has no final numbers. Raises OSError."""
    if (run_dir / FILE).exists():
        (run_dir / FILE).unlink()


def result_of(finished: Finished, lines: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The final numbers. `lines` are the records of metrics.jsonl, in order.

    `kept` are the weights that the run ended with. `best`, `last` and `test` are evaluations with the
    step whose weights were evaluated; `train` are means over the steps since the log before. None: there
    was none.
    """
    train = best = last = test = epochs = None
    for record in lines:
        if record.get("event") == "train":
            train, epochs = record, record.get("epoch")
        elif record.get("split") == "val":
            last = record
            best = record if record.get("step") == finished.best_step else best
        elif record.get("split") == "test":
            test = record
    return {
        "reason": finished.reason,
        "steps": finished.step,
        "epochs": epochs,
        "samples": finished.samples,
        "skipped_steps": finished.skipped,
        "spikes": train.get("spikes", 0) if train else 0,
        "parameters": finished.parameters,
        "monitor": finished.monitor or None,
        "best_value": finished.best,
        "kept": {"step": finished.kept_step, "weights": finished.kept_weights},
        "best": _evaluation(best),
        "last": _evaluation(last),
        "test": _evaluation(test),
        "train": dict(_metrics(train, _NOT_LEARNED)) if train else None,
        "seconds": round(finished.seconds, 3),
    }


def _evaluation(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if record is None:
        return None
    about = {"step": record.get("step"), "weights": record.get("weights")}
    return about | {"metrics": dict(_metrics(record, _NOT_METRICS))}


def _metrics(record: Mapping[str, Any], others: set[str]) -> Iterator[tuple[str, Any]]:
    return ((name, value) for name, value in record.items() if name not in others)
