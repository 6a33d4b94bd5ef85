"""Events as plain lines: what a log file and a pipe get."""

from __future__ import annotations

from typing import assert_never

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
            best = " best" if event.is_best else ""
            weights = "" if event.weights == "raw" else f" ({event.weights})"
            return [f"step {event.step} {event.split}{weights} {metrics_text(event.metrics)}{best}"]
        case events.Sampled():
            text = printable(event.text).strip("\n").split("\n")
            return [f"step {event.step} sample:", *(f"  | {line}" for line in text)]
        case events.Replanned():
            planned = f"step {event.step} planned: about {event.total_steps:,} steps in all"
            return [planned] if event.is_first else []
        case events.Pictured() | events.Progressed() | events.Weighed():
            return []
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


def describe_kept_weights(event: events.Finished) -> str:
    """Which weights a run ends with: `restored the ema weights of step 40, best on val/accuracy (0.9812)`."""
    done = "kept" if event.kept_step == event.step else "restored"
    kind = "" if event.kept_weights == "raw" else f"{event.kept_weights} "
    is_best = event.kept_step == event.best_step and event.best is not None
    why = f"best on {event.monitor} ({number(event.best or 0.0)})" if is_best else "the last"
    return f"{done} the {kind}weights of step {event.kept_step}, {why}"
