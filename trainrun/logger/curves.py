"""The numbers of an event by the names of their curves, which are the same in every run and every view."""

from __future__ import annotations

from trainrun.vocabulary.events import Evaluated, StepsLogged


def logged(event: StepsLogged) -> dict[str, float]:
    """Names and values. `lr` is the largest; where groups differ each has its own beside it."""
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
    return curves | {"speed/samples_per_s": event.samples_per_s, "speed/data_wait": event.data_wait}


def evaluated(event: Evaluated) -> dict[str, float]:
    """`val/accuracy` and the like."""
    return {f"{event.split}/{name}": value for name, value in event.metrics.items()}
