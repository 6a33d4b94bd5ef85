"""Language modelling, the next token: perplexity, bits per byte, and text that the model writes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainrun.protocols import IGNORED, Batch, DataInfo, Outcome
from trainrun.task.base import Task, perplexity, sum_exactly
from trainrun.task.own_metrics import OwnMetric
from trainrun.vocabulary.ranges import Natural, Positive
from trainrun.vocabulary.seeds import derive


class LanguageModel(Task):
    """Inputs and targets are tokens (N, T); the model gives logits (N, T, V) for what follows each.

    The loss is a mean over tokens. Metrics: perplexity, e to the mean cross-entropy in nats, and
    bits_per_byte, the bits of all tokens of a split divided by the bytes they stand for, which compares
    runs on bytes and on characters. A data set without a vocabulary has no bits_per_byte. At each
    evaluation the model continues `prompt` by `sample_tokens` tokens, drawn at `temperature`, with the
    same draws each time.
    """

    kinds: ClassVar[tuple[str, ...]] = ("tokens",)
    metric_modes: Mapping[str, str] = {"loss": "min", "perplexity": "min", "bits_per_byte": "min"}
    per_token = True

    def __init__(
        self,
        metrics: list[OwnMetric],
        loss: Any,
        info: DataInfo,
        prompt: str,
        sample_tokens: Natural,
        temperature: Positive,
    ) -> None:
        super().__init__(metrics, loss, info)
        self.prompt, self.sample_tokens, self.temperature = prompt, sample_tokens, temperature
        self.num_bytes = torch.tensor([len(token) for token in info.vocabulary])  # of each token, (V,)
        if not info.vocabulary:
            self.metric_modes = {"loss": "min", "perplexity": "min"}

    def count(self, batch: Batch) -> Mapping[str, float | Tensor]:
        """The number of tokens that are targets, or the sum of their weights."""
        targets = batch.targets.flatten()
        counted, weight = targets != IGNORED, self.loss.weight(targets.clamp(min=0))
        return {"loss": counted.sum() if weight is None else (weight * counted).sum()}

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        outputs, targets = model(batch.inputs).flatten(0, 1), batch.targets.flatten()
        losses = self.loss(outputs, targets)
        with torch.no_grad():
            sums = self.sums(self._nats(losses, outputs, targets), targets)
        return Outcome({"loss": sum_exactly(losses)}, sums, *self.for_own_metrics(model, outputs, targets))

    def _nats(self, losses: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """The unweighted cross-entropy of each token: the loss itself where it is just that."""
        if getattr(self.loss, "gives_nats", False) and losses.dtype == torch.float32:
            return losses.detach()
        return F.cross_entropy(outputs.float(), targets, ignore_index=IGNORED, reduction="none")

    def sums(self, nats: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Nats of the targets together, their number, and their bytes."""
        counted = targets != IGNORED
        exact = torch.float32 if targets.device.type == "mps" else torch.float64
        sums = {"nats": nats.sum(dtype=exact), "tokens": counted.sum()}
        if not self.info.vocabulary:
            return sums
        self.num_bytes = self.num_bytes.to(targets.device)
        return {**sums, "bytes": (self.num_bytes[targets.clamp(min=0)] * counted).sum()}

    def summarize(self, sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
        nats = float(sums["nats"])
        metrics = {"perplexity": perplexity(nats / float(sums["tokens"]))}
        if "bytes" in sums:
            metrics["bits_per_byte"] = nats / math.log(2) / (float(sums["bytes"]) or math.nan)
        return metrics

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Probabilities of the token after each, (N, T, V)."""
        return torch.softmax(model(inputs).float(), -1)

    def sample(self, model: nn.Module) -> str:
        """The prompt and its continuation, by draws of its own; nothing where outputs are not finite."""
        if not self.sample_tokens or not self.info.vocabulary:
            return ""
        block_size, device = self.info.input_shape[0], next(model.parameters()).device
        generator = torch.Generator().manual_seed(derive("sample"))
        tokens = self._encoded(self.prompt)
        for _ in range(self.sample_tokens):
            context = torch.tensor([tokens[-block_size:]], device=device)
            logits = model(context)[0, -1].float().cpu() / self.temperature
            if not bool(torch.isfinite(logits).all()):
                return ""
            tokens.append(int(torch.multinomial(torch.softmax(logits, 0), 1, generator=generator)))
        return b"".join(self.info.vocabulary[token] for token in tokens).decode(errors="replace")

    def _encoded(self, text: str) -> list[int]:
        """Tokens of a text: characters that the vocabulary has, else their bytes, else 0."""
        numbers = {token: number for number, token in enumerate(self.info.vocabulary)}
        tokens = []
        for character in map(str.encode, text):
            parts = [character] if character in numbers else [bytes([byte]) for byte in character]
            tokens += [numbers.get(part, 0) for part in parts]
        return tokens or [0]
