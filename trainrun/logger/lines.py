"""Events as plain lines, which a log file and a pipe get, and as named curves, which views draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_never

from trainrun.terminal.numbers import metrics_text, number, printable
from trainrun.vocabulary import events


def lines_of(event: events.Event) -> list[str]:
    """Zero or more lines without control codes."""
    match event:
        case events.Started():
            resumed = "" if event.resumed_from is None else f", resumed at step {event.step}"
            return [f"run {event.run_dir}{resumed}", *(f"  {label:<10} {text}" for label, text in event.plan)]
        case events.StepsLogged():
            return [_logged(event)]
        case events.Evaluated():
            weights = "" if event.weights == "raw" else f" ({event.weights})"
            best = " best" if event.is_best else ""
            return [f"step {event.step} {event.split}{weights} {metrics_text(event.metrics)}{best}"]
        case events.Sampled():
            lines = printable(event.text).strip("\n").split("\n")
            return [f"step {event.step} sample:", *(f"  | {line}" for line in lines)]
        case events.Probed():
            return _probed(event)
        case events.Profiled():
            head, *rows = event.lines
            return [f"step {event.step} profile: {head}", *(f"  {row}" for row in rows)]
        case events.Replanned():
            planned = f"step {event.step} planned: about {event.total_steps:,} steps in all"
            return [planned] if event.is_first else []
        case events.Progressed() | events.Pictured() | events.Weighed():
            return []  # for views alone
        case _:
            return [f"step {event.step} {_description(event)}"]


def _description(
    event: events.NotFinite
    | events.RolledBack
    | events.CheckpointSaved
    | events.Warned
    | events.Interrupted
    | events.Finished
    | events.Failed,
) -> str:
    match event:
        case events.NotFinite():
            answer = {"stop": "stopping", "skip": "skipped", "rollback": "rolling back"}[event.answer]
            return f"{answer}: not finite: {event.where} ({events.shown(event.samples)})"
        case events.RolledBack():
            return f"rolled back to step {event.to}, learning rate x {event.lr_factor:g}"
        case events.CheckpointSaved():
            return f"saved {event.num_bytes:,} bytes in {event.seconds:.3f} s"
        case events.Warned():
            return f"warning: {event.text}"
        case events.Interrupted():
            return f"interrupted by {event.signal}, saved"
        case events.Finished():
            weights = describe_kept_weights(event)
            return f"finished: {event.reason}, {event.seconds:.1f} s of training; {weights}"
        case events.Failed():
            return f"failed: {event.reason}"
        case _:
            assert_never(event)


def _logged(event: events.StepsLogged) -> str:
    line = f"step {event.step} train loss {number(event.loss)} {metrics_text(event.metrics)}"
    line += f" lr {max(event.lr.values()):.3g}" if event.lr else ""
    line += f" grad_norm {number(event.grad_norm)}"
    if event.clipped is not None:
        line += f" after {number(event.grad_norm_after or 0.0)} clipped {event.clipped:.0%}"
    line += f" skipped {event.skipped}" if event.skipped else ""
    line += f" spikes {event.spikes}" if event.spikes else ""
    return f"{' '.join(line.split())} {event.samples_per_s:,.0f} samples/s"


def _probed(event: events.Probed) -> list[str]:
    """The numbers and what else there is in one line, then the texts."""
    files = ", ".join((*event.pictures, *event.tables))
    parts = [metrics_text(event.numbers), f"pictures and tables: {files}" if files else ""]
    line = " ".join(filter(None, parts))
    lines = [f"step {event.step} probe {printable(line)}"] if line else []
    for name, text in event.texts.items():
        lines += [f"step {event.step} probe {printable(name)}:"]
        lines += [f"  | {line}" for line in printable(text).strip("\n").split("\n")]
    return lines


def describe_kept_weights(event: events.Finished) -> str:
    """Which weights a run ends with: `restored the ema weights of step 40, best on val/accuracy (0.9812)`."""
    done = "kept" if event.kept_step == event.step else "restored"
    kind = "" if event.kept_weights == "raw" else f"{event.kept_weights} "
    is_best = event.kept_step == event.best_step and event.best is not None
    why = f"best on {event.monitor} ({number(event.best or 0.0)})" if is_best else "the last"
    return f"{done} the {kind}weights of step {event.kept_step}, {why}"


def logged_curves(event: events.StepsLogged) -> dict[str, float]:
    """The curves of a log; `lr` is the largest, and where groups differ each has its own beside it."""
    rates = event.lr if len(set(event.lr.values())) > 1 else {}
    curves = {"train/loss": event.loss} | {f"train/{name}": value for name, value in event.metrics.items()}
    curves |= {"train/grad_norm": event.grad_norm}
    if event.clipped is not None and event.grad_norm_after is not None:
        curves |= {"train/clipped": event.clipped, "train/grad_norm_after": event.grad_norm_after}
    curves |= {"train/skipped": float(event.skipped)} if event.skipped else {}
    curves |= {"train/spikes": float(event.spikes)} if event.spikes else {}
    curves |= {f"update_ratio/{group}": value for group, value in event.update_ratio.items()}
    curves |= {} if event.dead_units is None else {"train/dead_units": event.dead_units}
    curves |= {"lr": max(event.lr.values())} | {f"lr/{group}": value for group, value in rates.items()}
    curves |= {"train/epoch": event.epoch} if event.epoch is not None else {}
    curves |= {f"machine/{name}": value for name, value in event.machine.items()}
    return curves | {"speed/samples_per_s": event.samples_per_s, "speed/data_wait": event.data_wait}


def evaluated_curves(event: events.Evaluated) -> dict[str, float]:
    """`val/accuracy` and the like."""
    return {f"{event.split}/{name}": value for name, value in event.metrics.items()}


def probed_curves(event: events.Probed) -> dict[str, float]:
    """`probe/spread` and the like."""
    return {f"probe/{name}": value for name, value in event.numbers.items()}


def markdown_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as a table of Markdown, whose columns are the keys of all rows."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([row.get(key, "") for key in columns] for row in rows)]
    cells = ([" ".join(str(cell).split()).replace("|", "\\|") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) if rows else "no rows"
