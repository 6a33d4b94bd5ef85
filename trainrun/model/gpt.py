"""A causal transformer over tokens (GPT-2's form: pre-norm, learned positions, tied embeddings)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainrun.model.attention import block, initialize
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Count, Rate


class GPT(nn.Module):
    """Tokens (N, T) -> logits (N, T, num_outputs) of the token after each; T at most the data's window.

    The rows of the embedding are also the output layer (Press and Wolf, 2017), so there is no head.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        vocab_size: int | None,
        width: Count,
        depth: Count,
        heads: Count,
        dropout: Rate,
    ) -> None:
        super().__init__()
        if vocab_size is None or len(input_shape) != 1:
            text = f"gpt needs tokens, such as those of data=text; the input is {input_shape} numbers"
            raise ConfigError.of("model", text, "model=transformer")
        if num_outputs > vocab_size:
            text = f"gpt has one output for each of {vocab_size} tokens, the task needs {num_outputs}"
            raise ConfigError.of("model", text)
        self.num_outputs = num_outputs
        self.tokens = nn.Embedding(vocab_size, width)
        self.positions = nn.Embedding(input_shape[0], width)
        self.dropout = nn.Dropout(dropout)
        self.body = nn.Sequential(*(block(width, heads, True, dropout) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def initialize(self) -> None:
        """Initialise as GPT-2; init=auto calls it in place of its own schemes."""
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        hidden = self.norm(self.body(self.dropout(self.tokens(x) + self.positions(places))))
        return F.linear(hidden, self.tokens.weight[: self.num_outputs])
