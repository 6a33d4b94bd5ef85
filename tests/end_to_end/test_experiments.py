"""Every experiment file trains, shrunk to two steps on small files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.mark.parametrize("name", sorted(file.stem for file in (CONF / "experiment").glob("*.yaml")))
def test_an_experiment_trains(
    name: str, command: Callable, small_mnist: Callable, small_cifar: Callable, tmp_path: Path
) -> None:
    small_mnist(tmp_path / "data" / "MNIST")
    small_mnist(tmp_path / "data" / "FashionMNIST")
    small_cifar(tmp_path / "data")
    words = [f"experiment={name}", "budget=2step", "logger=[console]"]
    if "/data: text" in (CONF / "experiment" / f"{name}.yaml").read_text():
        words.append(f"data.path={Path(__file__).parent / 'rows.md'}")  # a short one
    done = command(*words)
    assert "finished: budget" in done.err
