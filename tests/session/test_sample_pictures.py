"""Samples as bytes: what was white is 255, what was black is 0, and nothing is changed by looking."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import toy
from torch import Tensor

from trainrun.data.resident import InMemoryData
from trainrun.protocols import BatchSpec, DataInfo, PixelRange, Position
from trainrun.session.sample_pictures import labels_of, sample_pictures, shown
from trainrun.vocabulary.errors import ConfigError

SPLITS = {"train": torch.arange(6), "val": torch.arange(0), "test": torch.arange(0)}


def data(
    inputs: Tensor, targets: Tensor, kind: str, pixels: bool, names: tuple[str, ...] = ()
) -> InMemoryData:
    ends = PixelRange(torch.tensor(0.0), torch.tensor(255.0)) if pixels else None
    sizes = {name: len(indices) for name, indices in SPLITS.items()}
    info = DataInfo("toy", tuple(inputs.shape[1:]), kind, 3, sizes, class_names=names, pixels=ends)
    # standardised: every value is moved and scaled on its way to the model
    return InMemoryData(
        info, inputs, targets, SPLITS, torch.full((1, 1, 1, 1), 100.0), torch.full((1, 1, 1, 1), 0.01), 4
    )


def test_pictures_have_the_values_that_the_data_have_and_the_first_order() -> None:
    inputs = torch.randint(
        0, 256, (6, 3, 2, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    samples = data(inputs, torch.tensor([0, 1, 2, 0, 1, 2]), "classes", True, ("cat", "dog", "cow"))
    event = sample_pictures(samples, 4, 0, "key")
    order = next(iter(samples.train_batches(Position(), BatchSpec(4, 1), 0))).indices.tolist()
    assert event.shape == (2, 4, 3)
    assert list(event.pictures) == [
        bytes(inputs[index].permute(1, 2, 0).flatten().tolist()) for index in order
    ]
    assert list(event.labels) == [("cat", "dog", "cow")[index % 3] for index in order]


def test_where_black_and_white_are_not_known_the_ends_of_the_values_are() -> None:
    inputs = torch.tensor([50.0, 150.0, 100.0, 75.0]).view(1, 1, 2, 2).repeat(6, 1, 1, 1)
    samples = data(inputs, torch.linspace(0, 1, 6)[:, None], "values", False)
    event = sample_pictures(samples, 99, 0, "key")
    assert len(event.pictures) == 6
    assert set(event.pictures) == {bytes([0, 255, 128, 64])}
    assert sorted(event.labels) == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


def test_a_sample_with_several_labels_names_them() -> None:
    targets = torch.tensor([[1.0, 0.0, 1.0]]).repeat(6, 1)
    assert set(
        sample_pictures(data(torch.zeros(6, 1, 2, 2), targets, "labels", True), 2, 0, "key").labels
    ) == {"0, 2"}


def test_what_is_no_picture_is_refused_with_the_setting() -> None:
    samples = toy.ToyData()
    with pytest.raises(
        ConfigError, match=r"^logger.x.samples: needs pictures .* toy are of shape 5$"
    ) as caught:
        sample_pictures(samples, 4, 0, "logger.x.samples")
    assert caught.value.problems[0].fix == "logger.x.samples=0"
    samples.info = replace(samples.info, input_shape=(1, 2, 2), sizes={"train": None})
    with pytest.raises(ConfigError, match="are a stream"):
        sample_pictures(samples, 4, 0, "logger.x.samples")


def test_a_constant_picture_is_black() -> None:
    """Without known ends there is no range to draw it in."""
    samples = data(torch.full((6, 1, 2, 2), 7.0), torch.zeros(6, dtype=torch.long), "classes", False)
    assert set(sample_pictures(samples, 3, 0, "key").pictures) == {bytes(4)}


INFO = DataInfo("toy", (1, 2, 2), "classes", 3, {}, ("ant", "bee", "cat"))


@pytest.mark.parametrize(
    ("kind", "targets", "labels"),
    [
        ("classes", torch.tensor([2, 0]), ["cat", "ant"]),
        ("classes", torch.tensor([3, -1]), ["3", "-1"]),  # which have no name
        ("classes", torch.tensor([[0.3, 0.0, 0.7], [0.0, 1.0, 0.0]]), ["cat 70%, ant 30%", "bee 100%"]),
        ("labels", torch.tensor([[1, 0, 1], [0, 0, 0]]), ["ant, cat", "none"]),
        ("labels", torch.tensor([[0, 1, 0, 1]]), ["bee, 3"]),
        ("values", torch.tensor([[1.5], [-2.0]]), ["1.5", "-2"]),
        ("other", ["a", "b" * 30], ["a", "b" * 22]),
    ],
)
def test_labels_are_names_or_numbers(kind: str, targets: object, labels: list[str]) -> None:
    assert labels_of(targets, replace(INFO, kind=kind)) == labels


def test_grey_values_go_from_least_to_largest_or_from_black_to_white() -> None:
    inputs = torch.tensor([[[[-3.0, 1.0], [5.0, 3.0]]]])
    assert shown(inputs, INFO).flatten().tolist() == [0.0, 0.5, 1.0, 0.75]
    with_ends = replace(INFO, pixels=PixelRange(torch.tensor(-1.0), torch.tensor(3.0)))
    assert shown(inputs, with_ends).flatten().tolist() == [0.0, 0.5, 1.0, 1.0]
