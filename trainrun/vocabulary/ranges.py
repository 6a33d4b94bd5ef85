"""Type annotations with ranges, which make a signature the schema of its YAML.

`config/values.py` reads these names from source, without importing what carries them. A `Steps`
is written as a duration in YAML (`5%`, `10ep`) and reaches the callable as optimizer steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal


@dataclass(frozen=True)
class Interval:
    """Numbers from `low` to `high`; an end named in `open_ends` is excluded."""

    low: float = float("-inf")
    high: float = float("inf")
    open_ends: str = ""  # "low", "high" or "low high"

    def __contains__(self, value: float) -> bool:
        above = value > self.low if "low" in self.open_ends else value >= self.low
        below = value < self.high if "high" in self.open_ends else value <= self.high
        return above and below

    def __str__(self) -> str:
        if self.high == float("inf"):
            return f"greater than {self.low:g}" if "low" in self.open_ends else f"of at least {self.low:g}"
        if self.low == float("-inf"):
            return f"{'less than' if 'high' in self.open_ends else 'of at most'} {self.high:g}"
        left = "(" if "low" in self.open_ends else "["
        right = ")" if "high" in self.open_ends else "]"
        return f"in {left}{self.low:g}, {self.high:g}{right}"


@dataclass(frozen=True)
class InSteps:
    """A duration in YAML, with `by_clock` also in time; in the call, optimizer steps, `least` or more."""

    least: int = 0
    by_clock: bool = False


@dataclass(frozen=True)
class ByClock:
    """A time such as 90min, above 0; text in the call as well."""


Positive = Annotated[float, Interval(0, open_ends="low")]
NonNegative = Annotated[float, Interval(0)]
Negative = Annotated[float, Interval(high=0, open_ends="high")]
Fraction = Annotated[float, Interval(0, 1)]  # both ends included
PositiveFraction = Annotated[float, Interval(0, 1, "low")]
Rate = Annotated[float, Interval(0, 1, "high")]  # dropout, betas, momentum: 1 has no meaning
Split = Annotated[float, Interval(0, 1, "high")]  # a share of the samples held out
Betas = tuple[Rate, Rate]
Count = Annotated[int, Interval(1)]
Natural = Annotated[int, Interval(0)]
Divisor = Annotated[int, Interval(2)]  # what makes less of something
Seed = Annotated[int, Interval(0, 2**63 - 1)]
Steps = Annotated[int, InSteps()]
Period = Annotated[int, InSteps(1)]
Length = Annotated[str, InSteps(1, by_clock=True)]
ClockTime = Annotated[str, ByClock()]

# Mean and std of pictures, white being 1: of every channel, or a list with one of each.
MeanAndStd = tuple[float | list[float], Positive | list[Positive]]
Normalize = Literal["train", "published", "imagenet"] | MeanAndStd | None
NormalizeOwn = Literal["auto", "train", "imagenet"] | MeanAndStd | None

# Choices that several models share.
Activation = Literal["relu", "leaky_relu", "gelu", "silu", "elu", "selu", "tanh", "sigmoid"]
Norm = Literal["none", "batch", "layer"]
ConvNorm = Literal["none", "batch", "group"]
