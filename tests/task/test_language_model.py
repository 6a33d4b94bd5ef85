"""Language models: loss per token, perplexity and bits per byte over uneven batches; text that they write."""

from __future__ import annotations

import math
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy import new_state, new_step

from trainrun.loop.evaluate import evaluate, sample_text
from trainrun.loss import CrossEntropy
from trainrun.precision import fp32
from trainrun.protocols import IGNORED, Batch, DataInfo, Position
from trainrun.task.classification import Classification
from trainrun.task.language_model import LanguageModel
from trainrun.vocabulary.errors import ConfigError

VOCABULARY = (b"", b"a", b"b", "ë".encode(), "☃".encode())
V, T = len(VOCABULARY), 6


class Table(nn.Module):
    """Logits of what follows a token, looked up; it remembers how long its inputs were."""

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table, self.lengths = nn.Parameter(table), list[int]()

    def forward(self, x: Tensor) -> Tensor:
        self.lengths.append(x.shape[1])
        return self.table[x]


def task(loss: nn.Module | None = None, **changes: Any) -> LanguageModel:
    info = DataInfo("toy", (T,), "tokens", V, {}, vocabulary=VOCABULARY)
    settings = {"prompt": "ab", "sample_tokens": 20, "temperature": 1.0, **changes}
    return LanguageModel([], loss or CrossEntropy(None, ()), info, **settings)


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(3)
    result = []
    for size, real in ((4, T), (1, 2), (3, T)):  # the second is the end of a text
        inputs, targets = torch.randint(0, V, (2, size, T), generator=generator)
        targets[:, real:] = IGNORED
        result.append(Batch(inputs, targets, range(size), Position()))
    return result


def by_hand(table: Tensor) -> tuple[list[float], int]:
    """(nats of every target, bytes of all), token by token."""
    nats, num_bytes = [], 0
    for batch in batches():
        for row, wanted in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
            for token, target in zip(row, wanted, strict=True):
                if target != IGNORED:
                    scores = [math.exp(v) for v in table[token].tolist()]
                    nats.append(-math.log(scores[target] / sum(scores)))
                    num_bytes += len(VOCABULARY[target])
    return nats, num_bytes


def test_metrics_are_those_of_a_loop_over_tokens() -> None:
    table = torch.randn(V, V, generator=torch.Generator().manual_seed(0))
    nats, num_bytes = by_hand(table)
    metrics = evaluate(Table(table), task(), batches(), fp32(torch.device("cpu")))
    mean = sum(nats) / len(nats)
    assert metrics["loss"] == pytest.approx(mean, rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(math.exp(mean), rel=1e-5)
    assert metrics["bits_per_byte"] == pytest.approx(sum(nats) / math.log(2) / num_bytes, rel=1e-5)
    assert set(metrics) == set(task().metric_modes)


def test_the_count_is_known_before_the_forward_and_is_of_true_tokens() -> None:
    assert [float(task().count(batch)["loss"]) for batch in batches()] == [4 * T, 2, 3 * T]
    weights = [0.0, 1.0, 2.0, 3.0, 4.0]
    for batch in batches():
        expected = sum(weights[t] for row in batch.targets.tolist() for t in row if t != IGNORED)
        assert float(task(CrossEntropy(weights, ())).count(batch)["loss"]) == expected


def test_class_weights_weigh_the_loss_and_leave_perplexity_alone() -> None:
    table, weights = torch.randn(V, V, generator=torch.Generator().manual_seed(0)), [1.0, 2.0, 0.5, 1.0, 3.0]
    metrics = evaluate(Table(table), task(CrossEntropy(weights, ())), batches(), fp32(torch.device("cpu")))
    inputs, targets = (torch.cat([getattr(b, k).flatten() for b in batches()]) for k in ("inputs", "targets"))
    expected = nn.functional.cross_entropy(table[inputs], targets, torch.tensor(weights))
    assert metrics["loss"] == pytest.approx(float(expected), rel=1e-5)
    nats, _ = by_hand(table)
    assert metrics["perplexity"] == pytest.approx(math.exp(sum(nats) / len(nats)), rel=1e-5)


def test_a_sample_goes_on_from_the_prompt_as_the_model_says() -> None:
    sure = torch.full((V, V), -1e4)
    for token, follows in {1: 2, 2: 3, 3: 4, 4: 1}.items():
        sure[token, follows] = 0.0
    assert task(sample_tokens=6).sample(Table(sure)) == "ab" + "ë☃abë☃"
    assert task(sample_tokens=0).sample(Table(sure)) == ""
    assert task(prompt="x", sample_tokens=1).sample(Table(torch.eye(V) * 1e4)) == ""  # 0 follows 0
    model = Table(sure)
    task(sample_tokens=9).sample(model)
    assert model.lengths == [2, 3, 4, 5, 6, 6, 6, 6, 6]  # a window is all it sees
    assert task().sample(Table(torch.full((V, V), math.nan))) == ""


def test_drawn_tokens_are_as_frequent_as_their_probability_at_the_temperature() -> None:
    logits = torch.tensor([-1e4, 1.0, 0.0, -1e4, 0.5])
    written = task(sample_tokens=4000, temperature=0.5).sample(Table(logits.expand(V, V).clone()))[2:]
    for token, p in zip("ab☃", torch.softmax(logits[[1, 2, 4]] / 0.5, 0).tolist(), strict=True):
        assert abs(written.count(token) / 4000 - p) < 4 * math.sqrt(p * (1 - p) / 4000)


def test_sampling_changes_nothing_that_training_reads() -> None:
    model = nn.Sequential(Table(torch.zeros(V, V)), nn.Dropout(0.5)).train()
    first = sample_text(model, task(), fp32(torch.device("cpu")))
    assert first and first == sample_text(model, task(), fp32(torch.device("cpu")))
    assert model.training and model[1].training
    assert all(p.grad is None for p in model.parameters())


def test_other_targets_and_other_tasks_are_refused() -> None:
    info = DataInfo("toy", (T,), "tokens", V, {}, vocabulary=VOCABULARY)
    with pytest.raises(ConfigError, match=r"task: .* tokens; use task=language_model"):
        Classification([], CrossEntropy(None, ()), info)
    with pytest.raises(ConfigError, match="languagemodel learns tokens"):
        LanguageModel([], CrossEntropy(None, ()), DataInfo("toy", (4,), "classes", 3, {}), "", 0, 1.0)


def test_the_loss_is_computed_once_and_training_keeps_no_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    plain = torch.nn.functional.cross_entropy
    monkeypatch.setattr(
        torch.nn.functional, "cross_entropy", lambda *a, **k: calls.append("made") or plain(*a, **k)
    )
    model = Table(torch.randn(V, V, generator=torch.Generator().manual_seed(0))).train()
    outcome = task()(model, batches()[1])
    assert (len(calls), outcome.outputs, outcome.targets) == (1, None, None)
    expected = plain(
        model.table[batches()[1].inputs].flatten(0, 1), batches()[1].targets.flatten(), reduction="sum"
    )
    assert float(outcome.sums["nats"]) == pytest.approx(float(expected.detach()), rel=1e-6)
    weighted = task(CrossEntropy([1.0, 2.0, 1.0, 1.0, 1.0], ()))(model, batches()[1])
    assert float(weighted.sums["nats"]) == pytest.approx(float(expected.detach()), rel=1e-6)


def test_logits_are_gone_before_the_next_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    logits: list[weakref.ref[Tensor]] = []

    class Watched(Table):
        def forward(self, x: Tensor) -> Tensor:
            assert all(ref() is None for ref in logits)
            outputs = super().forward(x)
            logits.append(weakref.ref(outputs))
            return outputs

    state = new_state(Watched(torch.zeros(V, V)))
    data = SimpleNamespace(info=task().info)
    new_step(data, task(), accumulate=3)(state, batches())
    assert len(logits) == 3
