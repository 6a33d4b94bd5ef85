"""Every experiment file trains, by the commands that its header gives, shrunk to two steps on small files."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.end_to_end.conftest import write_photos
from trainrun.runtime.vision import import_torchvision

HERE = Path(__file__).resolve().parent
CONF = HERE.parents[1] / "conf"
FILES = sorted((CONF / "experiment").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_experiment_trains(
    file: Path, command: Callable, small_mnist: Callable, small_cifar: Callable, tmp_path: Path
) -> None:
    small_mnist(tmp_path / "data" / "MNIST")
    small_mnist(tmp_path / "data" / "FashionMNIST")
    small_cifar(tmp_path / "data")
    shutil.copy(HERE / "houses.csv", tmp_path)
    lines = re.findall(r"^#   (trainrun experiment=.*)$", file.read_text(), re.M)
    assert any(f"{line} ".startswith(f"trainrun experiment={file.stem} ") for line in lines)
    is_text = "/data: text" in file.read_text()
    short = [f"data.path={HERE / 'rows.md'}"] if is_text else []
    if file.stem == "finetune":  # a file in place of the download
        write_photos(tmp_path / "photos")
        weights = import_torchvision("torchvision.models").resnet18(num_classes=7).state_dict()
        torch.save(weights, tmp_path / "resnet18.pth")
        short = ["init_from=resnet18.pth", "data.image_size=32", "batch_size=8"]
    for line in lines:
        done = command(*shlex.split(line)[1:], "budget=2step", "logger=[console]", *short)
        assert "finished: budget" in done.err
