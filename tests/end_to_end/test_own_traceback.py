"""Errors in own code are one line; with -v the whole traceback of that code stands above it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

CODE = """
from torch import nn
from torch.utils.data import Dataset


class Net(nn.Module):
    def __init__(self, num_outputs):
        super().__init__()
        self.layers = nn.Linear(3, num_outputs)

    def forward(self, x):
        return self.below(x)

    def below(self, x):
        return self.layers(x)


class Pairs(Dataset):
    def __len__(self):
        return 50

    def __getitem__(self, index):
        return self.below(index)

    def below(self, index):
        return {}[index]


def factor(step):
    return below(step)


def below(step):
    return 1 / 0
"""


@pytest.mark.parametrize(
    ("group", "name", "line", "code", "more"),
    [
        ("model", "Net", "model: fails on inputs of shape", 2, []),
        ("data", "Pairs", "data: sample ", 4, []),
        ("data", "Pairs", "data: sample ", 4, ["data.num_workers=1"]),
        ("scheduler", "factor", "scheduler: factor failed: ZeroDivisionError", 2, []),
    ],
)
def test_v_shows_every_line_of_own_code(
    group: str, name: str, line: str, code: int, more: list[str], server: Callable, tmp_path: Path
) -> None:
    (tmp_path / "my_traced.py").write_text(CODE)
    (tmp_path / "conf" / group).mkdir(parents=True)
    (tmp_path / f"conf/{group}/mine.yaml").write_text(f"_target_: my_traced.{name}\n")
    words = [f"{group}=mine", "budget=4step", "logger=none", *more]
    plain, traced = server(words, tmp_path), server(["-v", *words], tmp_path)
    assert plain.code == traced.code == code
    assert plain.err.startswith(line) and plain.err.count("\n") == 1
    assert traced.err.endswith(f"\n\n{plain.err}")
    assert traced.err.startswith("Traceback (most recent call last):\n")
    frames = [text for text in traced.err.splitlines() if "my_traced.py" in text and text[:6] == "  File"]
    assert len(frames) >= 2 and frames[-1].endswith("in below")  # a model is tried in two memory formats
    assert not (tmp_path / "outputs").exists()


def test_v_adds_nothing_to_a_mistake_in_the_settings(server: Callable, tmp_path: Path) -> None:
    for words in (["optimizer.lr=abc"], ["data=csv", "data.path=none.csv", "data.target=a"]):
        assert server(["-v", *words], tmp_path) == server(words, tmp_path)
