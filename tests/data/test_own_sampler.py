"""Own samplers: what they return is what an epoch draws, on any kind of data, and their draws repeat."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import trainrun
from trainrun.assembly.build import build
from trainrun.config.compose.composer import Composer
from trainrun.data.own_sampler import OwnSampler
from trainrun.protocols import BatchSpec, Position
from trainrun.vocabulary.errors import ConfigError

TRAIN = torch.arange(2, 40, 2)
CODE = """
import torch
from torch.utils.data import TensorDataset


def pairs():
    return TensorDataset(torch.arange(40.0)[:, None], torch.arange(40) % 2)


def turned(indices, epoch):
    return indices.flip(0).roll(epoch).tolist()


def stranger(indices, epoch):
    return indices * 0 - 1


def drawn(indices, epoch):
    return indices[torch.randint(len(indices), (len(indices),))]
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_disk: None) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("my_sampler.py").write_text(CODE)
    yield
    sys.modules.pop("my_sampler", None)


def test_its_draws_follow_from_seed_and_epoch() -> None:
    sampler = OwnSampler(lambda indices, epoch: indices[torch.randint(len(indices), (len(indices),))])
    first = sampler(TRAIN, 0, 3)
    torch.manual_seed(77)
    assert torch.equal(sampler(TRAIN, 0, 3), first)
    assert not torch.equal(sampler(TRAIN, 0, 4), first) and not torch.equal(sampler(TRAIN, 1, 3), first)


def test_it_cannot_change_what_it_is_given() -> None:
    given = TRAIN.clone()
    OwnSampler(lambda indices, epoch: indices.zero_() + 2)(given, 0, 0)
    assert torch.equal(given, TRAIN)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (
            lambda indices, epoch: indices[1:],
            "must return 19 indices, as many as it is given, got torch.int64",
        ),
        (lambda indices, epoch: indices.float(), "got torch.float32"),
        (lambda indices, epoch: [3] * len(indices), "got 3, which is no training sample"),
        (lambda indices, epoch: None, "failed: "),
        (lambda indices: indices, "failed: TypeError"),
    ],
)
def test_what_is_no_order_is_refused(function: Callable[..., Any], text: str) -> None:
    with pytest.raises(ConfigError, match=r"^data\.sampler: ") as raised:
        OwnSampler(function)(TRAIN, 0, 0)
    assert text in str(raised.value)


@pytest.mark.parametrize("data", ["digits", "mine"])
def test_an_epoch_is_drawn_as_it_says(data: str) -> None:
    Path("conf/data").mkdir(parents=True)
    Path("conf/data/mine.yaml").write_text("_target_: my_sampler.pairs\n")
    words = [f"data={data}", "data.sampler=my_sampler.turned", "model=linear", "logger=none"]
    parts = build(Composer().checked(words).settings)
    split: Any = parts.data.splits["train"]  # type: ignore[attr-defined]
    train: Tensor = split if isinstance(split, Tensor) else split[1]
    batches = parts.data.train_batches(Position(), replace(BatchSpec(8, 1), batch_size=8), 0)
    indices: list[int] = []
    while len(indices) < 2 * len(train):
        indices += next(batches).indices.tolist()
    assert indices == train.flip(0).tolist() + train.flip(0).roll(1).tolist()


def test_a_resume_draws_what_the_whole_run_drew() -> None:
    words = ["data.sampler=my_sampler.drawn", "model=linear", "logger=none", "data.limit=64"]
    words += ["scheduler=constant"]
    whole = trainrun.train([*words, "budget=3ep"])
    half = trainrun.train([*words, "budget=3step"])
    resumed = trainrun.resume(str(half.run_dir), ["budget=3ep"])
    weights = [trainrun.load(str(run.run_dir), "last").state_dict() for run in (whole, resumed)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    plain = trainrun.load(str(trainrun.train([*words[1:], "budget=3ep"]).run_dir), "last").state_dict()
    assert not all(torch.equal(weights[0][name], plain[name]) for name in plain)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["data.sampler=my_sampler.nothing"], "data.sampler: my_sampler has no nothing"),
        (
            ["data.sampler=my_sampler.turned", "data.balanced=true"],
            "data.sampler: draws the epoch, and so does data.balanced",
        ),
        (["data.sampler=my_sampler.stranger"], "data.sampler: stranger must return indices that it is given"),
        (["data.sampler=turned"], "data.sampler: must be the dotted name of a function"),
        (["data.sampler=3"], "data.sampler: must be text or null, got 3"),
        (["data.sampler=[a,b]"], "data.sampler: must be text or null, got"),
    ],
)
def test_what_cannot_be_drawn_by_it_is_refused_before_a_folder_exists(words: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as raised:
        trainrun.train([*words, "logger=none", "budget=2step"])
    assert str(raised.value).startswith(text)
    assert not Path("outputs").exists()
