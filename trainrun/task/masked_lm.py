"""Masked language modelling (BERT): tokens hidden from the model, to be predicted from both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainrun.protocols import IGNORED, Batch, DataInfo, Outcome
from trainrun.task.base import Task, perplexity, sum_exactly
from trainrun.task.own_metrics import OwnMetric
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import PositiveFraction


class MaskedLM(Task):
    """Inputs are tokens (N, T); the loss is a mean over the masked ones.

    Of each window the share `mask_rate` is masked, at least one token. Of these 80 % become the mask
    token, one after the vocabulary's last, 10 % a random token and 10 % stay (Devlin et al., 2019).
    The number of masked tokens depends on a window's length alone, so a step knows what it averages
    over. Which ones are masked is drawn in each step; evaluations repeat the same draws. Metrics:
    perplexity and accuracy over the masked tokens.
    """

    kinds: ClassVar[tuple[str, ...]] = ("tokens",)
    metric_modes: Mapping[str, str] = {"loss": "min", "perplexity": "min", "accuracy": "max"}
    per_token = True

    def __init__(
        self, metrics: list[OwnMetric], loss: Any, info: DataInfo, mask_rate: PositiveFraction
    ) -> None:
        super().__init__(metrics, loss, info)
        self.mask_rate = mask_rate
        if self.loss.weight(torch.zeros(1, dtype=torch.int64)) is not None:
            text = "cannot weigh masked tokens, which are drawn after the step has counted them"
            raise ConfigError.of("loss.class_weights", text, "loss.class_weights=null")

    @property
    def vocab_size(self) -> int:
        """One more than the outputs: the mask."""
        return self.num_outputs + 1

    def count(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"loss": self._masked_per_window(batch).sum()}

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        tokens, masked = batch.inputs, self._choose(batch)
        draws = torch.rand(tokens.shape, device=tokens.device)
        strangers = torch.randint(self.num_outputs, tokens.shape, device=tokens.device)
        inputs = tokens.masked_fill(masked & (draws < 0.8), self.num_outputs)
        inputs = torch.where(masked & (draws >= 0.9), strangers, inputs)
        targets = tokens.masked_fill(~masked, IGNORED).flatten()
        outputs = model(inputs).flatten(0, 1)
        total = sum_exactly(self.loss(outputs, targets))
        with torch.no_grad():
            hits = (outputs.argmax(1) == targets).sum()
            sums = {"nats": total.detach(), "hits": hits, "masked": masked.sum()}
        return Outcome({"loss": total}, sums, *self.for_own_metrics(model, outputs, targets))

    def summarize(self, sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
        nats, hits, masked = (float(sums[name]) for name in ("nats", "hits", "masked"))
        return {"perplexity": perplexity(nats / masked), "accuracy": hits / masked}

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Probabilities of the token at each position, with nothing masked, (N, T, V)."""
        return torch.softmax(model(inputs).float(), -1)

    def _masked_per_window(self, batch: Batch) -> Tensor:
        """(N,) int64."""
        lengths = (batch.targets != IGNORED).sum(1)
        counts: Tensor = (lengths * self.mask_rate).round().long().clamp(min=1)
        return counts

    def _choose(self, batch: Batch) -> Tensor:
        """(N, T) bool: the tokens with the lowest random numbers, among the real ones of a window."""
        draws = torch.rand(batch.inputs.shape, device=batch.inputs.device)
        draws = draws.masked_fill(batch.targets == IGNORED, 2.0)
        places: Tensor = draws.argsort(1).argsort(1)
        return places < self._masked_per_window(batch)[:, None]
