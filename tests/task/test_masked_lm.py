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
        self.inputs: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.inputs.append(x)
        return self.scale * nn.functional.one_hot(torch.where(x == V, 7, x), V).float()


def own_metric(outputs: Tensor, targets: Tensor) -> int:
    return len(outputs)


def task(rate: float = 0.15) -> MaskedLM:
    info = DataInfo("toy", (T,), "tokens", V, {}, vocabulary=tuple(bytes([n]) for n in range(V)))
    return MaskedLM([own_metric], CrossEntropy(None, ()), info, rate)


def batch(size: int, real: int = T) -> Batch:
    inputs = torch.randint(0, V, (size, T), generator=torch.Generator().manual_seed(size))
    targets = inputs.roll(-1, 1).index_fill(1, torch.arange(real, T), IGNORED)
    return Batch(inputs, targets, range(size), Position())


@pytest.mark.parametrize(
    ("real", "rate", "each"), [(20, 0.15, 3), (20, 0.5, 10), (4, 0.15, 1), (1, 0.15, 1), (7, 1.0, 7)]
)
def test_their_number_is_known_and_they_are_real_tokens(real: int, rate: float, each: int) -> None:
    masked_lm, windows = task(rate), batch(6, real)
    assert float(masked_lm.count(windows)["loss"]) == 6 * each
    assert masked_lm(Spy(), windows).outputs is None  # which training would only keep in memory
    outcome = masked_lm(Spy().eval(), windows)
    assert int(outcome.sums["masked"]) == 6 * each
    assert outcome.targets is not None
    is_masked = outcome.targets.view(6, T) != IGNORED
    assert is_masked.sum(1).tolist() == [each] * 6
    assert not is_masked[:, real:].any()
    assert torch.equal(outcome.targets.view(6, T)[is_masked], windows.inputs[is_masked])


def test_places_are_fair_and_tokens_are_hidden_as_bert_does() -> None:
    torch.manual_seed(0)
    spy, windows = Spy(), batch(4000)
    is_masked = task()(spy.eval(), windows).targets.view(4000, T) != IGNORED  # type: ignore[union-attr]
    share, spread = 3 / T, math.sqrt(3 / T * (1 - 3 / T) / 4000)
    assert ((is_masked.float().mean(0) - share).abs() < 5 * spread).all()
    inputs, n = spy.inputs[0], 12000
    assert torch.equal(inputs[~is_masked], windows.inputs[~is_masked])
    shares = {
        "mask": float((inputs[is_masked] == V).float().mean()),
        "same": float((inputs[is_masked] == windows.inputs[is_masked]).float().mean()),
    }
    for name, p in {"mask": 0.8, "same": 0.1 + 0.1 / V}.items():
        assert abs(shares[name] - p) < 5 * math.sqrt(p * (1 - p) / n)
    strangers = Counter(inputs[is_masked & (inputs != V) & (inputs != windows.inputs)].tolist())
    assert len(strangers) == V  # any token may stand there


def test_metrics_are_of_the_masked_tokens_of_uneven_batches() -> None:
    spy, batches = Spy(), [batch(5), batch(2, real=3), batch(9)]
    masked_lm = task(0.4)
    metrics = evaluate(spy, masked_lm, batches, fp32(torch.device("cpu")))
    assert metrics == evaluate(spy, masked_lm, batches, fp32(torch.device("cpu")))  # the same draws each time
    assert metrics["perplexity"] == pytest.approx(math.exp(metrics["loss"]), rel=1e-5)
    hits = nats = count = 0.0
    rest = math.log(math.exp(5) + V - 1)
    for index, tokens in enumerate(batches):
        seed_forward(0, index, torch.device("cpu"))
        targets = masked_lm(spy.eval(), tokens).targets
        assert targets is not None
        answers = torch.where(spy.inputs[-1] == V, 7, spy.inputs[-1]).flatten()
        for answer, target in zip(answers.tolist(), targets.tolist(), strict=True):
            if target != IGNORED:
                hits, count = hits + (answer == target), count + 1
                nats += rest - (5 if answer == target else 0)
    assert metrics["accuracy"] == pytest.approx(hits / count)
    assert metrics["loss"] == pytest.approx(nats / count, rel=1e-5)


def test_weights_of_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"loss\.class_weights: cannot weigh"):
        MaskedLM([], CrossEntropy([1.0] * V, ()), task().info, 0.15)


def test_the_mask_is_a_token_more_than_there_are_answers() -> None:
    assert (task().vocab_size, task().num_outputs) == (V + 1, V)
