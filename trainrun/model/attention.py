"""Transformer blocks: multi-head attention and a feed-forward layer, each normalised before (pre-norm)."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from trainrun.model.layers import Residual
from trainrun.vocabulary.errors import ConfigError


class Attention(nn.Module):
    """(N, T, D) -> (N, T, D): softmax(q k' / sqrt(D / heads)) v of each head (Vaswani et al., 2017).

    The output projection is the layer that follows. With `causal` a token attends to itself and to
    earlier tokens.
    """

    def __init__(self, width: int, heads: int, causal: bool, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError.of("model.heads", f"must divide model.width={width}, got {heads}")
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.dropout = nn.Dropout(dropout)  # of the attention weights; only its rate is read

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        parts = self.qkv(x).view(n, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)  # each (N, heads, T, D / heads)
        rate = self.dropout.p if self.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, dropout_p=rate, is_causal=self.causal)
        return out.transpose(1, 2).reshape(n, length, width)


def block(width: int, heads: int, causal: bool, dropout: float) -> nn.Sequential:
    """x + attention(norm(x)), then x + feed-forward(norm(x)) with 4 times the width and GELU."""
    attention = nn.Sequential(
        nn.LayerNorm(width),
        Attention(width, heads, causal, dropout),
        nn.Linear(width, width),
        nn.Dropout(dropout),
    )
    feed_forward = nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width),
        nn.GELU(),
        nn.Linear(4 * width, width),
        nn.Dropout(dropout),
    )
    return nn.Sequential(Residual(attention), Residual(feed_forward))


def initialize(model: nn.Module) -> None:
    """Initialise as GPT-2: weights N(0, 0.02^2), biases 0.

    The last layer of each of n residual branches is divided by sqrt(n), so that their sum keeps its
    scale (Radford et al., 2019, section 2.3).
    """
    residuals = [module for module in model.modules() if isinstance(module, Residual)]
    last = {id([m for m in residual.branch if isinstance(m, nn.Linear)][-1]) for residual in residuals}
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Embedding, nn.Conv2d)):
            std = 0.02 / math.sqrt(len(residuals)) if id(layer) in last else 0.02
            nn.init.normal_(layer.weight, 0.0, std)
            if isinstance(layer, (nn.Linear, nn.Conv2d)) and layer.bias is not None:
                nn.init.zeros_(layer.bias)
