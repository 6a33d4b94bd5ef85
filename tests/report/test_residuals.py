"""The residual report holds scikit-learn's numbers in the targets' own units, and names the samples."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from trainrun.loss import MSE, GaussianNLL
from trainrun.protocols import Batch, DataInfo, Position, TargetScaling
from trainrun.report.residuals import ResidualReport, errors, largest
from trainrun.task.regression import Regression


def drawn(num_outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """(predicted, targets), (50, K)."""
    generator = np.random.default_rng(num_outputs)
    targets = generator.normal(3.0, 2.0, (50, num_outputs))
    return targets + generator.normal(0.1, 1.0, targets.shape) * np.arange(1, num_outputs + 1), targets


@pytest.mark.parametrize("num_outputs", [1, 3])
def test_errors_are_those_of_scikit_learn(num_outputs: int) -> None:
    predicted, targets = drawn(num_outputs)
    result = errors(predicted, targets)
    raw = {"multioutput": "raw_values"}
    assert result["mae"] == pytest.approx(sk.mean_absolute_error(targets, predicted, **raw))
    assert result["rmse"] == pytest.approx(sk.root_mean_squared_error(targets, predicted, **raw))
    assert result["r2"] == pytest.approx(sk.r2_score(targets, predicted, **raw))
    assert result["half within"] == pytest.approx(sk.median_absolute_error(targets, predicted, **raw))
    assert result["mean error"] == pytest.approx(predicted.mean(0) - targets.mean(0))
    below = np.abs(predicted - targets) <= result["95% within"]
    assert (below.mean(0) >= 0.94).all() and (below.mean(0) <= 0.96).all()


def test_the_largest_errors_are_found_by_brute_force() -> None:
    predicted, targets = drawn(3)
    rmse = np.sqrt(((predicted - targets) ** 2).mean(0))
    every = [(abs(predicted[i, k] - targets[i, k]) / rmse[k], i, k) for i in range(50) for k in range(3)]
    assert largest(predicted, targets, 7) == [(i, k) for _, i, k in sorted(every, reverse=True)[:7]]


def test_constant_targets_and_numbers_that_are_not_finite_warn_nobody() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = errors(np.ones((4, 1)), np.full((4, 1), 2.0))
        odd = np.array([[1.0], [np.nan], [np.inf], [2.0]])
        assert np.isnan(errors(odd, np.ones((4, 1)))["mae"]).all()
        assert {row for row, _ in largest(odd, np.ones((4, 1)), 2)} <= {1, 2}
    assert np.isnan(same["r2"]).all() and same["mae"] == [1.0]


@pytest.mark.parametrize("nll", [False, True], ids=["mse", "gaussian_nll"])
def test_a_report_is_in_own_units_and_names_samples_of_the_data_set(nll: bool) -> None:
    scaling = TargetScaling(torch.tensor([100.0, 0.0]), torch.tensor([10.0, 1.0]))
    info = DataInfo("toy", (4,), "values", 2, {}, target_scaling=scaling)
    report = ResidualReport(Regression([], GaussianNLL(1e-6) if nll else MSE(), info, True))
    targets = scaling.mean.repeat(40, 1)
    outputs = torch.zeros(40, 4 if nll else 2)
    outputs[:, 0] = 0.1
    outputs[17, 0] = -3.0  # 30 below in its own units
    samples = torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:40]
    for part in torch.arange(40).split((15, 25)):
        report.see(outputs[part], Batch(None, targets[part], samples[part], Position()))
    lines = [line.plain for line in report.lines(80)]
    assert max(map(len, lines)) <= 80
    line_number = next(i for i, line in enumerate(lines) if line.startswith("the largest errors"))
    assert lines[line_number + 2].split() == ["0", str(int(samples[17])), "100.00", "70.00", "-30.00"]
    row = lines[2].split()
    assert [float(row[1]), float(row[4])] == pytest.approx([(39 + 30) / 40, (39 - 30) / 40], abs=5e-3)


def test_of_many_outputs_the_worst_are_shown() -> None:
    info = DataInfo("toy", (4,), "values", 30, {})
    report = ResidualReport(Regression([], MSE(), info, True))
    predicted, targets = drawn(30)
    batch = Batch(None, torch.from_numpy(targets).float(), list(range(50)), Position())
    report.see(torch.from_numpy(predicted).float(), batch)
    lines = [line.plain for line in report.lines(80)]
    worst = np.argsort(sk.r2_score(targets, predicted, multioutput="raw_values"))[:20]
    assert lines[1] == "the 20 of 30 outputs with the lowest r2"
    assert [int(line.split()[0]) for line in lines[3:23]] == worst.tolist()
