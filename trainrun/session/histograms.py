"""How the weights and their gradients are distributed, in bins that a histogram is drawn of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from trainrun.vocabulary.events import Event, Histogram, StepsLogged, Weighed

_BINS = 40


def weighed(events: Iterable[Event], model: nn.Module) -> Iterator[Event]:
    """The same events, each log of steps followed by the histograms of `model` as it is then.

    A gradient is that of the log's last step, after clipping.
    """
    for event in events:
        yield event
        if isinstance(event, StepsLogged):
            weights = {name: weight.detach() for name, weight in model.named_parameters()}
            gradients = {name: w.grad for name, w in model.named_parameters() if w.grad is not None}
            yield Weighed(
                step=event.step,
                weights={name: histogram(one) for name, one in weights.items()},
                gradients={name: histogram(one) for name, one in gradients.items()},
            )


def histogram(values: Tensor) -> Histogram:
    """Of the finite ones among `values`, of any shape, in bins of one width."""
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
