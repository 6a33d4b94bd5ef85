"""A sweep's words against the axes and jobs that they must make, written out by hand."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from trainrun.config.compose.composer import Composer
from trainrun.config.space import Choices, SearchInterval
from trainrun.vocabulary.errors import ConfigError

Files = Callable[[Mapping[str, str]], None]


def test_words_with_one_value_are_fixed_and_lists_are_axes() -> None:
    space = Composer().space(["optimizer.lr=0.1,0.2", "batch_size=8", "seed=0,1"])
    assert space.fixed == ("batch_size=8",)
    assert space.axes == (
        Choices("optimizer.lr", (("optimizer.lr=0.1",), ("optimizer.lr=0.2",))),
        Choices("seed", (("seed=0",), ("seed=1",))),
    )
    assert space.is_grid
    expected = [(lr, seed) for lr, seed in itertools.product((0.1, 0.2), (0, 1))]
    jobs = [space.job(words).settings for words in space.samples]
    assert [(job["optimizer"]["lr"], job["seed"]) for job in jobs] == expected
    assert {job["batch_size"] for job in jobs} == {8}


def test_the_last_word_of_a_key_counts_and_a_prefix_stays() -> None:
    space = Composer().space(["seed=0,1", "seed=5", "++optimizer.lr=0.1,0.2"])
    assert space.fixed == ("seed=5",)
    assert space.axes == (Choices("optimizer.lr", (("++optimizer.lr=0.1",), ("++optimizer.lr=0.2",))),)


@pytest.mark.parametrize(
    ("word", "axis"),
    [
        ("optimizer.lr=interval(0.1,0.5)", SearchInterval("optimizer.lr", 0.1, 0.5, False, False)),
        (
            "optimizer.lr=tag(log,interval(0.001,0.1))",
            SearchInterval("optimizer.lr", 0.001, 0.1, True, False),
        ),
        ("batch_size=int(interval(8,64))", SearchInterval("batch_size", 8, 64, False, True)),
    ],
)
def test_an_interval_is_drawn_from(word: str, axis: SearchInterval) -> None:
    space = Composer().space([word])
    assert space.axes == (axis,)
    assert space.samples == [
        (axis.word(axis.low),),
        (axis.word(axis.high),),
    ]  # nothing is a grid of an interval


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("optimizer.lr=interval(0.5,0.5)", r"^optimizer\.lr: an interval must start below its end"),
        ("optimizer.lr=tag(log,interval(0,1))", r"^optimizer\.lr: an interval must start above 0 on a log"),
        ("name=a,b", "^name: cannot be swept"),
        ("resume=never,auto", "^resume: cannot be swept"),
        ("sweep.zip=[seed,batch_size]", r"^sweep\.zip: pairs lists of values; seed is not swept"),
    ],
)
def test_what_cannot_vary_is_refused(word: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Composer().space([word, "optimizer.weight_decay=0,1"])


def test_pairs_go_first_with_first() -> None:
    space = Composer().space(["seed=0,1", "batch_size=8,16", "sweep.zip=[seed,batch_size]"])
    assert space.samples == [("seed=0", "batch_size=8"), ("seed=1", "batch_size=16")]


def test_a_files_own_axes_come_first_and_the_shell_wins(folder: Path, files: Files) -> None:
    params = "hydra: {sweeper: {params: {optimizer.lr: '0.1,0.2', seed: '1,2'}}}"
    files({"conf/experiment/e.yaml": f"# @package _global_\n{params}\n"})
    space = Composer().space(["experiment=e", "seed=7"])
    assert [axis.key for axis in space.axes] == ["optimizer.lr"]
    assert "seed=7" in space.fixed


def test_jobs_are_launched_where_the_command_began(folder: Path) -> None:
    space = Composer().space(["seed=3,4"])
    calls: list[tuple[int, Path, str]] = []

    def task(job: Any, place: Path) -> None:
        calls.append((job.settings["seed"], place, os.getcwd()))

    space.launch({"k3": ("seed=3",), "k4": ("seed=4",)}, task, Path("sweep"), {})
    assert calls == [(3, Path("sweep/k3"), os.getcwd()), (4, Path("sweep/k4"), os.getcwd())]
