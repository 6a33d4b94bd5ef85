"""Masked tokens: their number is known before, their places are fair, and only they count."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from trainrun.loop.evaluate import evaluate
from trainrun.loss import CrossEntropy
from trainrun.precision import fp32
from trainrun.protocols import IGNORED, Batch, DataInfo, Position
from trainrun.runtime.machine import seed_forward
from trainrun.task.masked_lm import MaskedLM
from trainrun.vocabulary.errors import ConfigError

V, T = 50, 20


class Spy(nn.Module):
    """Remembers what it sees; is sure that every token is the one it sees, and of 7 behind a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(5.0))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return self.scale * nn.functional.one_hot(torch.where(x == V, 7, x), V).float()


def task(rate: float = 0.15) -> MaskedLM:
    info = DataInfo("toy", (T,), "tokens", V, {}, vocabulary=tuple(bytes([n]) for n in range(V)))
    return MaskedLM([], CrossEntropy(None, ()), info, rate)


def batch(size: int, real: int = T) -> Batch:
    inputs = torch.randint(0, V, (size, T), generator=torch.Generator().manual_seed(size))
    targets = inputs.roll(-1, 1).index_fill(1, torch.arange(real, T), IGNORED)
    return Batch(inputs, targets, range(size), Position())


@pytest.mark.parametrize(
    ("real", "rate", "each"), [(20, 0.15, 3), (20, 0.5, 10), (4, 0.15, 1), (1, 0.15, 1), (7, 1.0, 7)]
)
def test_their_number_is_known_and_they_are_real_tokens(real: int, rate: float, each: int) -> None:
    made, one = task(rate), batch(6, real)
    assert float(made.count(one)["loss"]) == 6 * each
    outcome = made(Spy(), one)
    assert int(outcome.sums["masked"]) == 6 * each
    assert outcome.targets is not None
    told = outcome.targets.view(6, T) != IGNORED
    assert told.sum(1).tolist() == [each] * 6
    assert not told[:, real:].any()
    assert torch.equal(outcome.targets.view(6, T)[told], one.inputs[told])


def test_places_are_fair_and_tokens_are_hidden_as_bert_does() -> None:
    torch.manual_seed(0)
    spy, one = Spy(), batch(4000)
    told = task()(spy, one).targets.view(4000, T) != IGNORED  # type: ignore[union-attr]
    share, spread = 3 / T, math.sqrt(3 / T * (1 - 3 / T) / 4000)
    assert ((told.float().mean(0) - share).abs() < 5 * spread).all()
    seen, n = spy.seen[0], 12000
    assert torch.equal(seen[~told], one.inputs[~told])
    shares = {
        "mask": float((seen[told] == V).float().mean()),
        "same": float((seen[told] == one.inputs[told]).float().mean()),
    }
    for name, p in {"mask": 0.8, "same": 0.1 + 0.1 / V}.items():
        assert abs(shares[name] - p) < 5 * math.sqrt(p * (1 - p) / n)
    strangers = Counter(seen[told & (seen != V) & (seen != one.inputs)].tolist())
    assert len(strangers) == V  # any token may stand there


def test_metrics_are_of_the_masked_tokens_of_uneven_batches() -> None:
    spy, batches = Spy(), [batch(5), batch(2, real=3), batch(9)]
    made = task(0.4)
    found = evaluate(spy, made, batches, fp32(torch.device("cpu")))
    assert found == evaluate(spy, made, batches, fp32(torch.device("cpu")))  # the same draws each time
    assert found["perplexity"] == pytest.approx(math.exp(found["loss"]), rel=1e-5)
    hits = nats = count = 0.0
    rest = math.log(math.exp(5) + V - 1)
    for index, one in enumerate(batches):
        seed_forward(0, index, torch.device("cpu"))
        targets = made(spy, one).targets
        assert targets is not None
        answers = torch.where(spy.seen[-1] == V, 7, spy.seen[-1]).flatten()
        for answer, target in zip(answers.tolist(), targets.tolist(), strict=True):
            if target != IGNORED:
                hits, count = hits + (answer == target), count + 1
                nats += rest - (5 if answer == target else 0)
    assert found["accuracy"] == pytest.approx(hits / count)
    assert found["loss"] == pytest.approx(nats / count, rel=1e-5)


def test_weights_of_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss\.class_weights: cannot weigh"):
        MaskedLM([], CrossEntropy([1.0] * V, ()), task().info, 0.15)


def test_the_mask_is_a_token_more_than_there_are_answers() -> None:
    assert (task().vocab_size, task().num_outputs) == (V + 1, V)
