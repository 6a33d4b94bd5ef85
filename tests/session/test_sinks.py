"""Histograms count what numpy counts, and looking at the weights changes no event of a run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import toy
from torch import nn

from trainrun.session.sinks import histogram, with_histograms
from trainrun.vocabulary.events import Evaluated, Weighed

EVALUATED = Evaluated(step=5, epoch=1.0, split="val", weights="raw", metrics={"loss": 0.4}, seconds=0.1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_bins_are_those_of_numpy(dtype: torch.dtype) -> None:
    values = torch.randn(7, 11, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    bins, truth = histogram(values), values.double().numpy()
    counts, edges = np.histogram(truth, 40)
    assert list(bins.counts) == counts.tolist()
    assert list(bins.edges) == pytest.approx(edges.tolist())
    assert bins.total == pytest.approx(truth.sum())
    assert bins.total_squares == pytest.approx((truth**2).sum())


def test_equal_values_make_one_bin_and_what_is_not_finite_is_left_out() -> None:
    same = histogram(torch.full((3, 2), 0.25))
    assert same.counts == (6,) and same.edges[0] <= 0.25 <= same.edges[1]
    finite = histogram(torch.tensor([1.0, float("nan"), 3.0, float("inf")]))
    assert (finite.edges[0], finite.edges[-1], sum(finite.counts), finite.total) == (1, 3, 2, 4)
    assert histogram(torch.tensor([float("nan")])).counts == (0,)


def test_each_log_is_followed_by_the_weights_as_they_are_then() -> None:
    model = nn.Linear(2, 1)
    model.weight.grad = torch.tensor([[1.0, 2.0]])
    events = list(with_histograms([EVALUATED, toy.LOGGED, toy.FINISHED], model))
    assert [events[0], events[1], events[3]] == [EVALUATED, toy.LOGGED, toy.FINISHED]
    event = events[2]
    assert isinstance(event, Weighed)
    assert event.step == 5 and set(event.weights) == {"weight", "bias"}
    assert event.weights["weight"].total == pytest.approx(float(model.weight.detach().sum()))
    assert event.gradients == {"weight": histogram(model.weight.grad)}
