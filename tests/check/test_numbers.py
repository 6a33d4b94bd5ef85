"""What is not finite before training, in 32 bits or in the run's format, and where."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from trainrun.check.context import CheckContext
from trainrun.check.numbers import numbers


class Large(nn.Module):
    """Sums that reach `size` and are made small again."""

    def __init__(self, size: float) -> None:
        super().__init__()
        self.first, self.last, self.size = nn.Linear(6, 8), nn.Linear(8, 3), size

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x) * self.size) / self.size


class Rounded(nn.Module):
    """A number that is the largest of fp32, and is rounded up to infinity in bf16."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.last(x)
        large = torch.full((), torch.finfo(torch.float32).max).to(outputs.dtype)
        return outputs + 0 * large


class Log(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.log(self.first(x)))


@pytest.mark.parametrize(
    ("size", "precision", "name"),
    [
        (1e6, "fp16", "fp16 overflow"),
        (1e6, "bf16", None),
        (1e6, "fp32", None),
        (1.0, "fp16", None),
    ],
)
def test_what_fp16_cannot_hold_is_named(
    size: float,
    precision: str,
    name: str | None,
    make_context: Callable[..., CheckContext],
    classes: tuple[str, ...],
) -> None:
    section = numbers(make_context(*classes, f"precision={precision}", model=Large(size)))
    assert [finding.name for finding in section.findings] == ([name] if name else [])
    for finding in section.findings:
        assert finding.fix == ("precision=bf16",)
        assert "65,504" in finding.expected


def test_what_bf16_cannot_hold_is_mended_by_32_bits(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    (finding,) = numbers(make_context(*classes, "precision=bf16", model=Rounded())).findings
    assert (finding.name, finding.fix) == ("bf16 overflow", ("precision=fp32",))


def test_a_logarithm_of_what_is_negative_is_found_in_any_format(
    make_context: Callable[..., CheckContext], classes: tuple[str, ...]
) -> None:
    (finding,) = numbers(make_context(*classes, "precision=bf16", model=Log())).findings
    assert finding.name == "not finite"
    assert "the output of last (Linear)" in finding.measured
