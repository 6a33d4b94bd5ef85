"""Crop and flip, and data whose training samples are changed: by seed, epoch and sample alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from trainrun.augment.draws import Draws
from trainrun.augment.groups import Groups
from trainrun.augment.pictures import Colored, CropFlip, Until, augmented
from trainrun.augment.policies import AutoAugment, RandAugment, TrivialAugment
from trainrun.augment.standard import Standard
from trainrun.data.resident import Holdout, InMemoryData, resident
from trainrun.protocols import BatchSpec, DataInfo, PixelRange, Position
from trainrun.vocabulary.duration import Pace
from trainrun.vocabulary.errors import ConfigError

CPU, START = torch.device("cpu"), Position()
PLAIN = DataInfo("toy", (3, 8, 8), "classes", 2, {})


def pictures_data(seed: int = 0) -> InMemoryData:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 200, (60, 3, 8, 8), generator=generator).byte()
    y = torch.arange(60) % 2
    return resident(PLAIN, x, y, Holdout(0.2, 0.0, 0, None, None, 5), 16)


def epochs(batch_size: int, ranks: int = 1, start: Position = START, count: int = 2) -> dict[str, Tensor]:
    """`epoch/sample` -> pixels, over the first epochs, of all ranks."""
    samples = {}
    for rank in range(ranks):
        data = pictures_data()
        data = augmented(data, CropFlip(0.25, 0.5, data.info))  # type: ignore[assignment]
        for batch in data.train_batches(start, BatchSpec(batch_size, 1, ranks, rank), seed=5):
            epoch = batch.position.epoch - (batch.position.offset == 0)
            if epoch == count:
                break
            samples |= {f"{epoch}/{int(i)}": x for i, x in zip(batch.indices, batch.inputs, strict=True)}
    return samples


@pytest.mark.parametrize(("batch_size", "ranks"), [(48, 1), (1, 1), (5, 3), (2, 4)])
def test_the_same_samples_get_the_same_pixels_in_other_batches_and_on_other_ranks(
    batch_size: int, ranks: int
) -> None:
    expected, samples = epochs(7), epochs(batch_size, ranks)
    assert len(expected) == 2 * 48 and samples.keys() == expected.keys()
    assert all(torch.equal(samples[key], expected[key]) for key in expected)


def test_a_run_that_goes_on_draws_what_it_would_have_drawn() -> None:
    expected, resumed = epochs(7), epochs(7, start=Position(1, 14))
    assert len(resumed) == 48 - 14
    assert all(torch.equal(resumed[key], expected[key]) for key in resumed)


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "ranks"), [(10, 1, 1), (5, 2, 1), (5, 1, 2), (1, 10, 1)]
)
def test_the_last_steps_see_samples_as_they_are_however_a_window_is_cut(
    batch_size: int, accumulate: int, ranks: int
) -> None:
    """48 samples in windows of 10: steps 1 to 5 are epoch 0, the last of them 8 samples; 7 are augmented."""
    plain = pictures_data()
    until = Until(7, Pace(10, 48))
    changed: dict[tuple[int, int], list[bool]] = {}
    for rank in range(ranks):
        data = augmented(plain, CropFlip(0.25, 0.5, plain.info), until)
        spec = BatchSpec(batch_size, accumulate, ranks, rank)
        pairs = zip(data.train_batches(START, spec, 5), plain.train_batches(START, spec, 5), strict=False)
        for batch, same in pairs:
            epoch = batch.position.epoch - (batch.position.offset == 0)
            if epoch == 3:
                break
            offset = batch.position.offset or 48
            step = epoch * 5 + -(-offset // 10)
            changed.setdefault((epoch, step), []).append(not torch.equal(batch.inputs, same.inputs))
    assert {step for (_, step), values in changed.items() if any(values)} == set(range(1, 8))
    assert {step for _, step in changed} == set(range(1, 16))


def test_bytes_that_are_cropped_before_scaling_give_the_same_pixels_as_after() -> None:
    data = pictures_data()
    batches = augmented(data, CropFlip(0.25, 0.5, data.info)).train_batches(START, BatchSpec(7, 1), 5)
    for plain, changed in islice(
        zip(data.train_batches(START, BatchSpec(7, 1), 5), batches, strict=False), 9
    ):
        epoch = plain.position.epoch - plain.ends_epoch
        draws = Draws(5, epoch, plain.indices, CPU)
        assert torch.equal(changed.inputs, CropFlip(0.25, 0.5, data.info)(plain.inputs, draws))
        assert torch.equal(changed.targets, plain.targets) and changed.position == plain.position


def test_colours_of_bytes_are_those_of_scaled_values() -> None:
    data = pictures_data()
    change = TrivialAugment(0.25, 0.5, 31, data.info)
    batches = augmented(data, change).train_batches(START, BatchSpec(48, 1), 5)
    plain, changed = next(data.train_batches(START, BatchSpec(48, 1), 5)), next(batches)
    expected = change(plain.inputs, Draws(5, 0, plain.indices, CPU))
    assert float(((changed.inputs - expected).abs() > 1e-4).float().mean()) < 1e-3  # on the edge of a step


KINDS = [CropFlip, Standard, AutoAugment, RandAugment, TrivialAugment]
OPTIONS: dict[Any, list[Any]] = {
    CropFlip: [],
    Standard: [10.0, [0.9, 1.1], 5.0, 0.2, 0.2, 0.2, 0.02],
    AutoAugment: ["cifar10"],
    RandAugment: [2, 9, 31],
    TrivialAugment: [31],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_computes_all_changes_for_all_gives_the_same(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = pictures_data()
    change, x = kind(0.25, 0.5, *OPTIONS[kind], data.info), next(data.eval_batches("train")).inputs
    expected = change(x.clone(), Draws(0, 0, range(len(x)), CPU))
    init = Groups.__init__

    def elsewhere(self: Groups, number: Tensor, count: int) -> None:
        init(self, number, count)
        self.is_host = False

    monkeypatch.setattr(Groups, "__init__", elsewhere)
    assert torch.equal(change(x.clone(), Draws(0, 0, range(len(x)), CPU)), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_waits_for_a_device(kind: Any) -> None:
    """The meta device has no values: reading one, as would make a GPU's host wait, fails."""
    meta = torch.device("meta")
    pixels = PixelRange(torch.zeros(3, 1, 1, device=meta), torch.ones(3, 1, 1, device=meta))
    change = kind(0.25, 0.5, *OPTIONS[kind], replace(PLAIN, pixels=pixels))
    x = torch.empty(6, 3, 8, 8, device=meta)
    assert change(x, Draws(0, 0, torch.empty(6, dtype=torch.int64, device=meta), meta)).shape == x.shape


def test_an_epoch_draws_anew_and_evaluation_is_left_alone() -> None:
    pixels, plain = epochs(7), pictures_data()
    unlike = sum(not torch.equal(pixels[f"0/{i}"], pixels[f"1/{i}"]) for i in plain.splits["train"].tolist())
    assert unlike > 40  # one in 50 may be drawn twice
    data = augmented(plain, CropFlip(0.25, 0.5, plain.info))
    for split in ("train", "val"):
        for a, b in zip(data.eval_batches(split), pictures_data().eval_batches(split), strict=True):
            assert torch.equal(a.inputs, b.inputs)


def test_without_an_augmentation_the_data_are_the_data() -> None:
    data = pictures_data()
    assert augmented(data, None) is data


def test_all_places_and_both_sides_come_equally_often() -> None:
    """A picture of one white pixel shows how far it was moved and whether mirrored."""
    x = torch.zeros(18_000, 1, 8, 8)
    x[:, 0, 4, 3] = 1
    info = DataInfo("toy", (1, 8, 8), "classes", 2, {})
    out = CropFlip(0.125, 0.5, info)(x, Draws(0, 0, range(len(x)), CPU))
    places = out.flatten(1).argmax(1)
    rows, columns = places // 8, places % 8
    for axis, offsets in ((rows, {3: 1, 4: 1, 5: 1}), (columns, {2: 1, 3: 2, 4: 2, 5: 1})):
        total = sum(offsets.values())
        counts = torch.bincount(axis, minlength=8)
        assert int(sum(counts[offset] for offset in offsets)) == len(x)
        for offset, weight in offsets.items():
            share = weight / total
            assert float(counts[offset]) / len(x) == pytest.approx(share, abs=5 * (share / len(x)) ** 0.5)


def test_what_comes_in_from_outside_is_black_as_the_model_sees_it() -> None:
    data = pictures_data()
    change = CropFlip(0.5, 0.0, data.info)
    x = torch.full((50, 3, 8, 8), 9.0)
    out = change(x, Draws(0, 0, range(50), CPU))
    black = ((0 - data.shift) * data.scale).expand_as(out)
    outside = out != 9
    assert outside.any() and torch.equal(out[outside], black[outside])


def test_colored_pictures_are_painted_from_black_to_white_and_scaled_back() -> None:
    painted: list[Tensor] = []

    class Spy(Colored):
        def paint(self, x: Tensor, draws: Draws) -> Tensor:
            painted.append(x)
            return 1 - x

    data = pictures_data()
    raw = data.inputs.float()
    data.restore({"shift": data.shift + 3, "scale": data.scale * 2})  # black and white follow
    batch = next(islice(data.train_batches(Position(), BatchSpec(20, 1), 0), 1))
    out = Spy(0.0, 0.0, data.info)(batch.inputs, Draws(0, 0, batch.indices, CPU))
    white = raw.max()
    torch.testing.assert_close(painted[0], raw[batch.indices] / white, rtol=0, atol=1e-5)
    expected = (white - raw[batch.indices] - data.shift) * data.scale
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-4)


class Unchanged(Colored):
    def paint(self, x: Tensor, draws: Draws) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("shape", "kind", "message"),
    [
        ((30,), CropFlip, r"augment: changes pictures .* the inputs of toy are \(30,\); use none"),
        ((3, 8, 8), Unchanged, "augment: changes colours, and toy does not say what black and white are"),
    ],
    ids=["a table", "no known range"],
)
def test_inputs_that_do_not_fit_are_a_config_error(
    shape: tuple[int, ...], kind: type[CropFlip], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(0.1, 0.5, DataInfo("toy", shape, "classes", 2, {}))


def test_a_rank_without_samples_stays_without() -> None:
    data = pictures_data()

    def short() -> Iterator[int]:
        for batch in augmented(data, CropFlip(0.25, 0.5, data.info)).train_batches(
            Position(0, 45), BatchSpec(2, 1, 4, 3), 0
        ):
            yield len(batch)

    assert next(short()) == 0
