"""Recurrent networks, LSTM and GRU: classes of sequences, or a text's next token."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Count, Rate


class Recurrent(nn.Module):
    """`depth` layers of nn.LSTM or nn.GRU, each followed by `norm` and dropout.

    Inputs are tokens (N, T), sequences (N, T, F) or pictures (N, C, H, W), read row by row. Outputs
    are of the last position, (N, num_outputs), or with `per_token` of each, (N, T, num_outputs).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        num_outputs: int,
        vocab_size: int | None,
        per_token: bool,
        cell: Literal["lstm", "gru"],
        width: Count,
        depth: Count,
        norm: Literal["none", "layer"],
        dropout: Rate,
    ) -> None:
        super().__init__()
        self.per_token, self.width = per_token, width
        if vocab_size is not None and len(input_shape) == 1:
            self.embed: nn.Module = nn.Embedding(vocab_size, width)
            features = width
        elif len(input_shape) in (2, 3):
            self.embed = nn.Identity() if len(input_shape) == 2 else RowSequence()
            features = input_shape[-1] * (input_shape[0] if len(input_shape) == 3 else 1)
        else:
            text = f"{cell} needs tokens, sequences (length, features) or pictures"
            raise ConfigError.of("model", f"{text}, the input is {input_shape}; use mlp", "model=mlp")
        kind: type[nn.LSTM | nn.GRU] = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        sizes = [features, *[width] * (depth - 1)]
        self.layers = nn.ModuleList(kind(size, width, batch_first=True) for size in sizes)
        norms = (nn.LayerNorm(width) if norm == "layer" else nn.Identity() for _ in sizes)
        self.after = nn.ModuleList(nn.Sequential(layer_norm, nn.Dropout(dropout)) for layer_norm in norms)
        self.head = nn.Linear(width, num_outputs)

    @torch.no_grad()
    def initialize(self) -> None:
        """Initialise gate by gate; init=auto calls it in place of its own schemes.

        Recurrent weights are orthogonal (Saxe et al., 2014), input weights Xavier-uniform, biases 0 but
        1 for the LSTM's forget gate (Jozefowicz et al., 2015). With init=default all are torch's
        U(-1/sqrt(width), 1/sqrt(width)).
        """
        for layer in self.layers:
            for name, parameter in layer.named_parameters():
                gates = parameter.split(self.width)  # LSTM: i, f, g, o
                for gate in gates if parameter.ndim > 1 else ():
                    (nn.init.orthogonal_ if "_hh_" in name else nn.init.xavier_uniform_)(gate)
                if parameter.ndim == 1:
                    nn.init.zeros_(parameter)
                    if len(gates) == 4 and "_ih_" in name:
                        gates[1].fill_(1.0)
        if isinstance(self.embed, nn.Embedding):
            nn.init.normal_(self.embed.weight)
        nn.init.normal_(self.head.weight, 0.0, self.head.in_features**-0.5)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embed(x)
        for layer, after in zip(self.layers, self.after, strict=True):
            hidden = after(layer(hidden)[0])
        out: Tensor = self.head(hidden if self.per_token else hidden[:, -1])
        return out


class RowSequence(nn.Module):
    """(N, C, H, W) -> (N, H, C W): a picture as the sequence of its rows."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).flatten(2)
