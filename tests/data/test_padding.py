"""Samples of different lengths, against torch's own padding."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

from trainrun.data.padding import pad


def test_one_axis_is_filled_as_torch_fills_it() -> None:
    samples = [(torch.randn(length, 3), torch.arange(length)) for length in (2, 5, 1)]
    inputs, targets = pad(samples)
    assert torch.equal(inputs, pad_sequence([x for x, _ in samples], batch_first=True))
    assert torch.equal(targets, pad_sequence([y for _, y in samples], batch_first=True, padding_value=-100))


def test_every_axis_is_filled_at_its_end() -> None:
    inputs, _ = pad([(torch.ones(1, 2, 3), 0), (torch.ones(1, 3, 1), 1)])
    assert inputs.shape == (2, 1, 3, 3)
    assert inputs[0].sum() == 6 and inputs[0, :, :2, :3].sum() == 6
    assert inputs[1].sum() == 3 and inputs[1, :, :3, :1].sum() == 3


def test_dicts_tuples_and_numbers_are_stacked_as_usual() -> None:
    samples = [({"ids": torch.arange(n), "pair": (torch.ones(n), torch.tensor(n))}, float(n)) for n in (1, 3)]
    inputs, targets = pad(samples)
    assert inputs["ids"].tolist() == [[0, 0, 0], [0, 1, 2]]
    assert inputs["pair"][0].tolist() == [[1, 0, 0], [1, 1, 1]] and inputs["pair"][1].tolist() == [1, 3]
    assert targets.tolist() == [1, 3] and targets.dtype == torch.float64
    assert pad([(torch.ones(2), None), (torch.ones(1), None)])[1] is None


def test_numbers_of_axes_must_agree() -> None:
    with pytest.raises((RuntimeError, ValueError)):
        pad([(torch.ones(2), 0), (torch.ones(2, 2), 1)])
