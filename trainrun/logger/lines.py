"""Events as plain lines: what a log file and a pipe get."""

from __future__ import annotations

from trainrun.terminal.numbers import metrics_text, number, printable
from trainrun.vocabulary.events import (
    CheckpointSaved,
    Evaluated,
    Event,
    Failed,
    Finished,
    Interrupted,
    NotFinite,
    Replanned,
    RolledBack,
    Sampled,
    Started,
    StepsLogged,
    Warned,
    shown,
)


def lines_of(event: Event) -> list[str]:
    """Zero or more lines without control codes."""
    if isinstance(event, Started):
        place = (
            f"{event.run_dir}"
            if event.resumed_from is None
            else f"{event.run_dir}, resumed at step {event.step}"
        )
        return [f"run {place}", *(f"  {label:<10} {text}" for label, text in event.plan)]
    if isinstance(event, StepsLogged):
        rates = " ".join(f"lr {rate:.3g}" for rate in sorted(set(event.lr.values()), reverse=True)[:1])
        line = f"step {event.step} train loss {number(event.loss)} {metrics_text(event.metrics)} {rates}"
        line += f" grad_norm {number(event.grad_norm)}"
        if event.clipped is not None:
            line += f" after {number(event.grad_norm_after or 0.0)} clipped {event.clipped:.0%}"
        line += f" skipped {event.skipped}" if event.skipped else ""
        line += f" spikes {event.spikes}" if event.spikes else ""
        return [f"{' '.join(line.split())} {event.samples_per_s:,.0f} samples/s"]
    if isinstance(event, NotFinite):
        answer = {"stop": "stopping", "skip": "skipped", "rollback": "rolling back"}[event.answer]
        return [f"step {event.step} {answer}: not finite: {event.where} ({shown(event.samples)})"]
    if isinstance(event, RolledBack):
        return [f"step {event.step} rolled back to step {event.to}, learning rate x {event.lr_factor:g}"]
    if isinstance(event, Evaluated):
        best = " best" if event.is_best else ""
        weights = "" if event.weights == "raw" else f" ({event.weights})"
        return [f"step {event.step} {event.split}{weights} {metrics_text(event.metrics)}{best}"]
    if isinstance(event, Sampled):
        return [
            f"step {event.step} sample:",
            *(f"  | {line}" for line in printable(event.text).strip("\n").split("\n")),
        ]
    if isinstance(event, Replanned) and event.is_first:
        return [f"step {event.step} planned: about {event.total_steps:,} steps in all"]
    if isinstance(event, CheckpointSaved):
        return [f"step {event.step} saved {event.num_bytes:,} bytes in {event.seconds:.3f} s"]
    if isinstance(event, Warned):
        return [f"step {event.step} warning: {event.text}"]
    if isinstance(event, Interrupted):
        return [f"step {event.step} interrupted by {event.signal}, saved"]
    if isinstance(event, Finished):
        ended = f"step {event.step} finished: {event.reason}, {event.seconds:.1f} s of training"
        return [f"{ended}; {kept(event)}"]
    if isinstance(event, Failed):
        return [f"step {event.step} failed: {event.reason}"]
    return []


def kept(event: Finished) -> str:
    """Which weights a run ends with: `restored the ema weights of step 40, best on val/accuracy (0.9812)`."""
    done = "kept" if event.kept_step == event.step else "restored"
    kind = "" if event.kept_weights == "raw" else f"{event.kept_weights} "
    is_best = event.kept_step == event.best_step and event.best is not None
    why = f"best on {event.monitor} ({number(event.best or 0.0)})" if is_best else "the last"
    return f"{done} the {kind}weights of step {event.kept_step}, {why}"
