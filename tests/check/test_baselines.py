"""Shuffled labels and labels off by one, told from those that follow from the inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from trainrun.check.baselines import _by_neighbours, _by_ridge, probe
from trainrun.check.context import CheckContext
from trainrun.check.sample_rows import SampleRows, seen


def names(of: CheckContext, rows: dict) -> list[str]:
    return [one.name for one in probe(of, rows).findings]


def test_ridge_leaves_each_sample_out_as_refitting_without_it_does() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(30, 4, dtype=torch.float64), torch.randn(30, 2, dtype=torch.float64)
    found = _by_ridge(x.float(), y.float())
    for at in (0, 7, 29):
        kept = torch.arange(30) != at
        kernel = x[kept] @ x[kept].T / 4 + 1
        weights = torch.linalg.solve(kernel + 0.01 * 30 * torch.eye(29, dtype=torch.float64), y[kept])
        expected = (x[at] @ x[kept].T / 4 + 1) @ weights
        assert torch.allclose(found[at].double(), expected, atol=1e-4)


def test_neighbours_are_the_five_nearest_others() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(20, 3), torch.randn(20, 1)
    found = _by_neighbours(x, y)
    distances = [(float((x[3] - x[at]).norm()), at) for at in range(20) if at != 3]
    nearest = [at for _, at in sorted(distances)[:5]]
    assert torch.allclose(found[3], y[nearest].mean(0))


@pytest.mark.parametrize("kind", ["classes", "values"])
def test_shuffled_targets_are_told_from_others(
    kind: str, bench: Callable[..., CheckContext], classes: tuple[str, ...], table: tuple[str, ...]
) -> None:
    of = bench(*(classes if kind == "classes" else table), "model=linear")
    rows = dict(seen(of))
    assert names(of, rows) == []
    order = torch.randperm(len(rows["train"]), generator=torch.Generator().manual_seed(1))
    shuffled = replace(rows["train"], targets=rows["train"].targets[order])
    assert names(of, {**rows, "train": shuffled}) == ["targets unrelated to inputs"]


@pytest.mark.parametrize("by", [1, -1])
def test_labels_off_by_one_in_one_split_are_named(by: int, bench: Callable[..., CheckContext]) -> None:
    of = bench("data=digits", "model=linear")
    rows = dict(seen(of))
    rows["val"] = replace(rows["val"], targets=(rows["val"].targets + by) % 10)
    (found,) = probe(of, rows).findings
    assert found.name == "labels off by one class"
    assert f"with 1 {'subtracted from' if by > 0 else 'added to'} them" in found.measured


def test_few_samples_have_no_verdict(bench: Callable[..., CheckContext], classes: tuple[str, ...]) -> None:
    of = bench(*classes, "model=linear", "data.limit=50")
    rows = dict(seen(of))
    rows["train"] = replace(rows["train"], targets=rows["train"].targets.flip(0))
    assert names(of, rows) == []


@pytest.mark.parametrize("positive", ["few", "very few"])
def test_a_rare_class_that_follows_from_the_inputs_is_no_chance(
    positive: str, bench: Callable[..., CheckContext]
) -> None:
    """Of 1,500 rows about 6 % or 1 % are positive, by a logistic model of two columns: the best guess of a
    single sample is always the negative.
    """
    words = ("data=synthetic_table", "data.num_samples=300", "data.num_features=2", "model=linear")
    of = bench(*words, "data.kind=classes", "data.num_outputs=2", "task=classification", "loss=cross_entropy")
    for seed in range(8):
        draws = torch.Generator().manual_seed(seed)
        x = torch.randn(1500, 2, generator=draws)
        chances = torch.sigmoid(x.sum(1) - (3.5 if positive == "few" else 5.5))
        y = (torch.rand(1500, generator=draws) < chances).long()
        rows = {"train": SampleRows(x, y, torch.arange(1500))}
        assert names(of, rows) == [], seed
        if positive == "few":
            shuffled = replace(rows["train"], targets=y[torch.randperm(1500, generator=draws)])
            assert names(of, {"train": shuffled}) == ["targets unrelated to inputs"], seed
