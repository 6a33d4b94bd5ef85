"""Histograms of weights and gradients, for loggers that ask for them (TensorBoard)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from trainrun.vocabulary.events import Event, Histogram, StepsLogged, Weighed

_BINS = 40  # enough to see two modes or a long tail, and few enough for a line of metrics


def with_histograms(events: Iterable[Event], model: nn.Module) -> Iterator[Event]:
    """Pass the events on, each log of steps followed by the histograms of `model` as it is then.

    A gradient is that of the log's last step, after clipping.
    """
    for event in events:
        yield event
        if isinstance(event, StepsLogged):
            weights = dict(model.named_parameters())
            yield Weighed(
                step=event.step,
                weights={name: histogram(w) for name, w in weights.items()},
                gradients={name: histogram(w.grad) for name, w in weights.items() if w.grad is not None},
            )


def histogram(values: Tensor) -> Histogram:
    """The histogram of the finite ones among `values`, of any shape, in bins of one width."""
    finite = values.detach().double().flatten()
    finite = finite[finite.isfinite()].cpu()
    if not len(finite):
        return Histogram(edges=(0.0, 0.0), counts=(0,), total=0.0, total_squares=0.0)
    counts, edges = torch.histogram(finite, 1 if finite.min() == finite.max() else _BINS)
    return Histogram(
        edges=tuple(edges.tolist()),
        counts=tuple(map(int, counts.tolist())),
        total=float(finite.sum()),
        total_squares=float(finite.square().sum()),
    )
