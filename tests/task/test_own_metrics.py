"""Own metrics: every number becomes a curve under a name that is its own; what is no number is named."""

from __future__ import annotations

from collections import namedtuple
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainrun.task.own_metrics import curves, named
from trainrun.vocabulary.errors import ConfigError

Pair = namedtuple("Pair", "low high")
NUMBERS = [
    *(3, 3.0, np.float64(3), np.int8(3), np.array(3), np.array([3.0]), Decimal(3), Fraction(3)),
    *(torch.tensor(3), torch.tensor([3.0]), torch.tensor(3.0, requires_grad=True)),
    *(torch.tensor(3.0, dtype=torch.bfloat16), torch.tensor(3, dtype=torch.uint8)),
]


@pytest.mark.parametrize("value", NUMBERS, ids=repr)
def test_a_number_of_any_kind_is_one_curve(value: Any) -> None:
    assert curves("f", value, ("a", "b"), 2) == {"f": 3.0}


@pytest.mark.parametrize("value", [True, np.bool_(True), torch.tensor(True)], ids=repr)
def test_true_is_one(value: Any) -> None:
    assert curves("f", value, (), 0) == {"f": 1.0}


def test_a_number_that_is_not_finite_stays_one() -> None:
    assert np.isnan(curves("f", torch.tensor(float("nan")), (), 0)["f"])


ENTRIES = [
    (torch.tensor([1, 2]), ("cat", "dog"), {"f/cat": 1, "f/dog": 2}),
    (np.array([1.0, 2.0]), ("cat", "dog"), {"f/cat": 1, "f/dog": 2}),
    ([torch.tensor(1), np.float32(2)], ("cat", "dog"), {"f/cat": 1, "f/dog": 2}),
    ((1, 2), ("cat", "dog", "emu"), {"f/0": 1, "f/1": 2}),
    ((1, 2), ("cat", "cat"), {"f/0": 1, "f/1": 2}),  # names that do not tell them apart
    ([1], ("cat",), {"f/cat": 1}),
    ({"a": torch.tensor(1), 7: np.int64(2)}, ("cat", "dog"), {"f/a": 1, "f/7": 2}),
    ({"recall": [1, 2], "n": 3}, ("cat", "dog"), {"f/recall/cat": 1, "f/recall/dog": 2, "f/n": 3}),
    ({"a\n b": 1}, (), {"f/a b": 1}),
    (Pair(1, 2), ("cat", "dog"), {"f/low": 1, "f/high": 2}),
]


@pytest.mark.parametrize(("value", "labels", "expected"), ENTRIES, ids=lambda value: str(value)[:30])
def test_a_vector_or_dict_is_a_curve_per_entry(value: Any, labels: Any, expected: dict[str, float]) -> None:
    assert curves("f", value, labels, 3) == expected


REFUSED = [
    (None, "returns None: is its `return` missing"),
    ("0.5", "returns '0.5', a str"),
    (1j, "returns '1j', a complex"),
    (torch.tensor(1j), "a complex"),
    (np.complex64(1), "a complex64"),
    (object, "a type"),
    (torch.zeros(3, 3), r"an array of shape \(3, 3\)"),
    (np.zeros((2, 1)), r"an array of shape \(2, 1\)"),
    (torch.zeros(0), "returns nothing"),
    ({}, "returns nothing"),
    ([], "returns nothing"),
    ({"a": 1, "b": None}, r"\['b'\] returns None"),
    ({"a": {"b": "x"}}, r"\['b'\] returns 'x'"),
    ({1: 0.0, "1": 0.0}, "two entries called f/1"),
    (torch.zeros(2000), "returns 2,000 numbers"),
]


@pytest.mark.parametrize(("value", "text"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_is_no_number_is_said(value: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        curves("f", value, (), 3)


def test_two_metrics_of_one_name_are_refused() -> None:
    def f1(outputs: Tensor, targets: Tensor) -> float:
        return 0.0

    class F1:
        def __call__(self, outputs: Tensor, targets: Tensor) -> float:
            return 0.0

    assert list(named([f1, F1()])) == ["f1", "F1"]
    with pytest.raises(ConfigError, match=r"task\.metrics: two are called F1"):
        named([F1(), F1()])


def test_an_object_with_update_and_compute_alone_begins_anew_with_every_split() -> None:
    class Mean:
        def __init__(self) -> None:
            self.outputs: list[Tensor] = []

        def update(self, outputs: Tensor, targets: Tensor) -> None:
            self.outputs.append(outputs)

        def compute(self) -> Tensor:
            return torch.cat(self.outputs).mean()

    mean = named([Mean()])["Mean"]
    assert mean(torch.ones(2), None) == 1 and mean(torch.zeros(2), None) == 0


def test_what_cannot_be_called_is_no_metric() -> None:
    with pytest.raises(ConfigError, match="object can neither be called nor has it update and compute"):
        named([object()])
