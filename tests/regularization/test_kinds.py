"""The kinds of regulariser: several mixings become one that draws; penalties act on matrices alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from trainrun.protocols import Batch, DataInfo, Position
from trainrun.regularization.kinds import (
    BatchChange,
    Mixing,
    ModelChange,
    Penalty,
    Stopper,
    WeightAverage,
    combine_batch_changes,
)
from trainrun.regularization.penalty import decayed
from trainrun.vocabulary.errors import ConfigError

INFO = DataInfo("toy", (2,), "classes", 3, {})
BATCH = Batch(torch.zeros(4, 2), torch.arange(4) % 3, range(4), Position())


class Adding(BatchChange):
    """Adds a number to the inputs, and multiplies by 10: the order of two shows."""

    def __init__(self, number: float) -> None:
        self.number = number

    def check(self, info: DataInfo) -> None:
        if info.kind != "classes":
            raise ConfigError.of("regularization.adding", "needs classes")

    def change_batch(self, batch: Batch, info: DataInfo, generator: torch.Generator) -> Batch:
        return replace(batch, inputs=10 * batch.inputs + self.number)


class AddingMix(Adding, Mixing):
    name = "adding_mix"


class Nothing(ModelChange):
    def change_model(self, model: nn.Module) -> None:
        """Leave it."""


def test_changes_of_batches_are_picked_in_their_order() -> None:
    first, second = Adding(1), AddingMix(2)
    assert combine_batch_changes([Nothing(), first, Nothing(), second]) == [first, second]
    assert combine_batch_changes([second, first]) == [second, first]  # a single mixing stays where it was
    assert combine_batch_changes([Nothing()]) == []


def test_several_mixings_become_one_that_comes_first() -> None:
    plain, mixings = Adding(1), [AddingMix(2), AddingMix(3)]
    drawing, last = combine_batch_changes([plain, *mixings])
    assert last is plain and drawing not in mixings
    assert not isinstance(drawing, Mixing)  # joined again, it would be one of two


def test_each_batch_has_one_mixing_and_all_come_equally_often() -> None:
    (drawing,) = combine_batch_changes([AddingMix(1), AddingMix(2), AddingMix(3)])
    generator = torch.Generator().manual_seed(0)
    n = 3000
    counts = Counter(float(drawing.change_batch(BATCH, INFO, generator).inputs[0, 0]) for _ in range(n))
    assert set(counts) == {1.0, 2.0, 3.0}
    assert all(abs(count - n / 3) < 5 * (n * 2 / 9) ** 0.5 for count in counts.values())
    before = torch.get_rng_state()
    drawing.change_batch(BATCH, INFO, generator)
    assert torch.equal(torch.get_rng_state(), before)  # its draws come from the generator alone


def test_every_mixing_checks_the_data() -> None:
    (drawing,) = combine_batch_changes([AddingMix(1), AddingMix(2)])
    drawing.check(INFO)
    with pytest.raises(ConfigError, match="needs classes"):
        drawing.check(replace(INFO, kind="values"))


def test_penalties_act_on_trained_matrices_and_kernels_alone() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 3), nn.Linear(3, 1)
    )
    model[4].weight.requires_grad_(False)  # type: ignore[operator, union-attr]
    assert [tuple(weight.shape) for weight in decayed(model)] == [(2, 1, 3, 3), (3, 2)]
    assert decayed(nn.BatchNorm1d(3)) == []


def test_a_kind_is_abstract_and_no_kind_is_another() -> None:
    kinds = (ModelChange, BatchChange, Penalty, WeightAverage, Stopper)
    for kind in kinds:
        with pytest.raises(TypeError, match="abstract"):
            kind()
        assert sum(issubclass(kind, other) for other in kinds) == 1
