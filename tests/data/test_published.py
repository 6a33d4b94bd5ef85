"""Published constants: applied as torchvision's Normalize would, and told; files come whole or not at all."""

from __future__ import annotations

import hashlib
import io
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch

from trainrun.data.published import PUBLISHED, download_file, normalized
from trainrun.data.resident import Holdout, InMemoryData, resident
from trainrun.protocols import DataInfo, PixelRange
from trainrun.runtime.vision import import_torchvision
from trainrun.vocabulary.errors import ConfigError, DataError

KNOWN = {  # as pytorch's examples, answers to kuangliu/pytorch-cifar and many papers' code have them
    "mnist": ("0.1307", "0.3081"),
    "fashion_mnist": ("0.286", "0.353"),
    "cifar10": ("0.4914, 0.4822, 0.4465", "0.247, 0.2435, 0.2616"),
    "cifar100": ("0.5071, 0.4865, 0.4409", "0.2673, 0.2564, 0.2762"),
    "svhn": ("0.4377, 0.4438, 0.4728", "0.198, 0.201, 0.197"),
}


def pictures(name: str) -> InMemoryData:
    shape = (len(PUBLISHED[name][0]), 6, 5)
    inputs = torch.randint(0, 200, (40, *shape), generator=torch.Generator().manual_seed(0)).byte()
    info = DataInfo(name, shape, "classes", 10, {})
    holdout = Holdout(0.2, 0.2, 0, None, None, 1)
    return resident(info, inputs, torch.arange(40) % 10, holdout, 16)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_pictures_become_what_torchvisions_transforms_make_of_them(name: str) -> None:
    mean, std = ([float(number) for number in part.split(", ")] for part in KNOWN[name])
    data = normalized(pictures(name), "published")
    transforms = import_torchvision().transforms
    wanted = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    batch = next(data.eval_batches("test"))
    for index, picture in zip(batch.indices, batch.inputs, strict=True):
        torch.testing.assert_close(picture, wanted(data.inputs[index].permute(1, 2, 0).numpy()))
    said = f"the published mean {KNOWN[name][0]} and std {KNOWN[name][1]}, white being 1"
    assert data.info.input_scaling == said


def test_black_and_white_follow_and_are_stored_for_whoever_restores_them() -> None:
    data = normalized(pictures("svhn"), "published")
    black = [-mean / std for mean, std in zip(*PUBLISHED["svhn"], strict=True)]
    assert isinstance(data.info.pixels, PixelRange)
    assert data.info.pixels.black.flatten().tolist() == pytest.approx(black, rel=1e-5)
    other = pictures("svhn")
    other.restore(data.fitted())
    assert torch.equal(next(other.eval_batches("val")).inputs, next(data.eval_batches("val")).inputs)


def test_by_default_the_training_split_says_it() -> None:
    data = pictures("cifar10")
    shift, scale = data.shift.clone(), data.scale.clone()
    assert normalized(data, "train") is data
    assert torch.equal(data.shift, shift) and torch.equal(data.scale, scale)
    assert data.info.input_scaling.endswith("of the training split")


def test_what_was_published_is_written_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"body"))
    with pytest.raises(DataError, match=r"a\.bin of toy does not have the published MD5"):
        download_file("toy", "https://example.invalid/a.bin", "0" * 32, tmp_path / "in" / "a.bin")
    assert not list(tmp_path.iterdir())
    download_file(
        "toy", "https://example.invalid/a.bin", hashlib.md5(b"body").hexdigest(), tmp_path / "in" / "a.bin"
    )
    assert [file.name for file in (tmp_path / "in").iterdir()] == ["a.bin"]


def test_a_network_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str, timeout: float) -> None:
        raise OSError("unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(DataError, match="cannot fetch toy: unreachable"):
        download_file("toy", "https://example.invalid/a.bin", "", tmp_path / "a.bin")


@pytest.mark.parametrize(
    ("normalize", "mean", "std"),
    [
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.5, [0.1, 0.2, 0.4]), (0.5, 0.5, 0.5), (0.1, 0.2, 0.4)),
        (None, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    ],
)
def test_given_constants_are_torchvisions_normalize(normalize: Any, mean: Any, std: Any) -> None:
    data = normalized(pictures("cifar10"), normalize)
    transforms = import_torchvision().transforms
    wanted = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    batch = next(data.eval_batches("test"))
    for index, picture in zip(batch.indices, batch.inputs, strict=True):
        torch.testing.assert_close(picture, wanted(data.inputs[index].permute(1, 2, 0).numpy()))
    assert data.info.input_scaling == ("" if normalize is None else data.info.input_scaling)


def test_as_many_values_as_channels_or_one() -> None:
    with pytest.raises(ConfigError, match=r"data\.normalize: has 3 values, the pictures have 1 channel"):
        normalized(pictures("mnist"), "imagenet")
