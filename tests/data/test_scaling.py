"""Scaling: NumPy's means and deviations, and what a task and its data share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainrun.data import scaling
from trainrun.data.scaling import standardization, target_scaling
from trainrun.protocols import TargetScaling

GENERATOR = torch.Generator().manual_seed(0)
VALUES = torch.randn(5000, 3, generator=GENERATOR) * torch.tensor([1.0, 1e3, 0.0]) + torch.tensor([0, 1e6, 7])


@pytest.mark.parametrize("is_table", [True, False])
def test_pictures_are_scaled_by_channel_and_tables_by_feature(is_table: bool) -> None:
    pictures = torch.randint(0, 256, (5000, 2, 3, 3), generator=GENERATOR, dtype=torch.uint8)
    inputs, axes = (pictures.flatten(1), (0,)) if is_table else (pictures, (0, 2, 3))
    shift, scale = standardization(inputs)
    exact = inputs.double().numpy()
    np.testing.assert_allclose(shift, exact.mean(axes, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(scale, 1 / exact.std(axes, keepdims=True), rtol=1e-6)


def test_a_constant_feature_becomes_zero_over_more_samples_than_one_block() -> None:
    shift, scale = standardization(torch.full((10_001, 1), 0.1))
    assert shift.item() == torch.tensor(0.1).item() and scale.item() == 1


def test_target_scaling_is_numpys_and_spares_a_constant() -> None:
    scaling = target_scaling(VALUES)
    np.testing.assert_allclose(scaling.mean, VALUES.double().numpy().mean(0), rtol=1e-6)
    np.testing.assert_allclose(scaling.std, [*VALUES.double().numpy().std(0)[:2], 1], rtol=1e-6)
    assert scaling.mean.dtype == scaling.std.dtype == torch.float32


def test_restoring_reaches_whoever_holds_it() -> None:
    held = target_scaling(VALUES)
    stored = scaling.fitted(TargetScaling(torch.tensor([1.0]), torch.tensor([2.0])))
    scaling.restore(held, stored)
    assert (held.mean.tolist(), held.std.tolist()) == ([1], [2])
    scaling.move(held, torch.device("meta"))
    assert held.mean.device.type == held.std.device.type == "meta"


def test_without_values_there_is_nothing_to_store() -> None:
    assert scaling.fitted(None) == {}
    scaling.restore(None, {})
    scaling.move(None, torch.device("cpu"))


def test_what_inputs_are_standardised_by_is_told_in_numbers_where_they_are_few() -> None:
    two = scaling.describe_scaling(
        torch.tensor([0.5, 2.0]).view(1, 2, 1, 1), torch.tensor([4.0, 0.1]).view(1, 2, 1, 1)
    )
    assert two == "mean 0.5, 2 and std 0.25, 10 of the training split"
    many = scaling.describe_scaling(torch.zeros(1, 9), torch.ones(1, 9))
    assert many == "mean and std of each feature in the training split"
