"""What the settings of `data` open, and what they are refused for, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import write

MINE = """
import torch
from torch.utils.data import Dataset


class Rows(Dataset):
    targets = [0, 1] * 30

    def __len__(self):
        return 60

    def __getitem__(self, index):
        return torch.full((4,), float(index % 2)), index % 2


class Broken(Rows):
    def __init__(self):
        raise RuntimeError("no server")


def backwards(indices, epoch):
    return indices.flip(0)
"""
OWN = ("data=dataset", "data.train._target_=mine.Rows", "model=linear", "logger=none", "run_dir=run")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("data.inputs=image",),
            "data.inputs: has no effect on digits, whose samples are (input, target) already",
        ),
        (("data.collate=pad",), "data.collate: has no effect on digits"),
        (
            ("data=dataset", "data.train._target_=mine.Rows", "data.collate=mine.missing"),
            "data.collate: mine has no",
        ),
        (
            (
                "data=dataset",
                "data.train._target_=mine.Rows",
                "data.sampler=mine.backwards",
                "data.balanced=true",
            ),
            "data.sampler: draws the epoch, and so does data.balanced",
        ),
        (("data=text", "data.balanced=true"), "data.balanced: draws every class equally often"),
    ],
)
def test_settings_that_do_not_fit_the_data_are_refused(
    words: tuple[str, ...], said: str, cli: Callable, folder: Path
) -> None:
    write(folder, {"mine.py": MINE})
    answer = cli(*words, "run_dir=run", "budget=1step")
    assert answer.code == 2 and said in answer.err, answer.err
    assert not (folder / "run").exists()


def test_a_data_set_that_cannot_be_made_is_named(cli: Callable, folder: Path) -> None:
    write(folder, {"mine.py": MINE})
    answer = cli("data=dataset", "data.train._target_=mine.Broken", "run_dir=run")
    assert answer.code == 4
    assert answer.err.strip().endswith("data.train: mine.Broken failed: RuntimeError: no server (mine.py:18)")


def test_a_data_set_alone_takes_what_the_option_has(cli: Callable, folder: Path) -> None:
    write(folder, {"mine.py": MINE})
    words = ("data._target_=mine.Rows", "task=classification", "model=linear", "logger=console", "budget=1ep")
    answer = cli(*words, "+data.sampler=mine.backwards", "run_dir=run")
    assert answer.code == 0, answer.err
    assert "42 train, 9 val, 9 test" in answer.err
