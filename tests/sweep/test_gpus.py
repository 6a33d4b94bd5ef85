"""Jobs at once take different GPUs, by the names that CUDA takes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from trainrun.session.child import in_child
from trainrun.sweep.gpus import own_gpu, visible_gpus


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of torch for CUDA, which finds three GPUs, or as many as are named of them."""

    def count() -> int:
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        return (
            3 if named is None else sum(1 for name in named.split(",") if name in ("0", "1", "2", "GPU-ab"))
        )

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "device_count", count)


@pytest.mark.parametrize(
    ("named", "names"),
    [
        (None, ["0", "1", "2"]),
        ("", []),
        ("-1", []),
        ("2,0", ["2", "0"]),
        ("1,7", ["1"]),
        ("GPU-ab", ["GPU-ab"]),
        ("MIG-cd,MIG-ef", ["MIG-cd", "MIG-ef"]),
    ],
    ids=str,
)
def test_gpus_have_the_names_that_cuda_takes(
    named: str | None, names: list[str], gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus() == names


def test_a_broken_driver_is_no_gpu(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1 // 0)
    assert visible_gpus() == []


def test_this_process_never_asks_cuda(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    mine, asked = os.getpid(), []
    monkeypatch.setattr(
        torch.cuda, "device_count", lambda: asked.append(os.getpid()) or (os.getpid() != mine) * 2
    )
    assert visible_gpus() == ["0", "1"]
    assert not asked


def test_what_all_jobs_share_is_imported_without_asking_cuda() -> None:
    code = """
import torch
def ask(*words): raise AssertionError("asked CUDA, after which no fork can use it")
for name in ("is_available", "device_count", "_lazy_init", "current_device"): setattr(torch.cuda, name, ask)
from trainrun.sweep.job import _warm
from trainrun.config.compose.composer import Composer
_warm(Composer().checked([]).settings)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_jobs_at_once_take_different_gpus_and_free_them(tmp_path: Path) -> None:
    def job() -> int:
        with own_gpu(tmp_path, ["0", "1"]):
            (tmp_path / f"has-{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
            while not (tmp_path / "go").exists():
                time.sleep(0.01)
        return 0

    def two() -> int:
        other = os.fork()
        if other == 0:
            os._exit(job())
        third = os.fork()
        if third == 0:
            os._exit(job())
        while len(list(tmp_path.glob("has-*"))) < 2:
            time.sleep(0.01)
        (tmp_path / "go").touch()
        os.waitpid(other, 0)
        os.waitpid(third, 0)
        return job()

    assert in_child(two, []) == 0
    assert sorted(file.read_text() for file in tmp_path.glob("has-*")) == ["0", "0", "1"]


def test_without_gpus_nothing_is_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with own_gpu(tmp_path, []):
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert not list(tmp_path.iterdir())
