"""The sweeper and the launcher of a line: what is refused, and how jobs share a machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from trainrun.config.compose.composer import Composer, Space
from trainrun.sweep import plugins
from trainrun.sweep.halving import Halving
from trainrun.sweep.plugins import Search, _shares, check_search, search_of, visible_gpus
from trainrun.sweep.random import Random
from trainrun.sweep.strategy import Strategy
from trainrun.vocabulary.errors import ConfigError

LR = "optimizer.lr=0.1,0.2"
INTERVAL = "optimizer.lr=interval(0.1,0.2)"


def space(*words: str) -> Space:
    return Composer().space(list(words))


def search(folder: Path, *words: str) -> tuple[Search, Strategy]:
    varied = space(*words)
    return search_of(varied, varied.job(varied.samples[0]).settings, folder)


@pytest.mark.parametrize(
    ("words", "trials", "text"),
    [
        ((INTERVAL,), None, "optimizer.lr: is an interval, whose points have no end"),
        ((LR,), 3, "sweep.trials: is the number of points of a search"),
        (("hydra/sweeper=random", LR), None, "hydra/sweeper=random needs the number of points to try"),
        (
            ("hydra/sweeper=halving", INTERVAL),
            None,
            "hydra/sweeper=halving needs the number of points to try",
        ),
        (("hydra/sweeper=random", "seed=0,1"), 3, "random has nothing to search"),
        (("hydra/sweeper=halving", "hydra.sweeper.reduction=1", LR), None, "hydra.sweeper.reduction"),
    ],
)
def test_a_search_that_cannot_be_is_refused(words: tuple[str, ...], trials: int | None, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_search(space(*words), trials)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("words", "trials"),
    [
        ((LR,), None),
        (("hydra/sweeper=random", INTERVAL), 1),
        (("hydra/sweeper=halving", LR), None),  # every combination of the lists
        (("hydra/sweeper=halving", INTERVAL), 4),
    ],
)
def test_a_search_that_can_be_is_taken(words: tuple[str, ...], trials: int | None) -> None:
    check_search(space(*words), trials)


def test_slurm_needs_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit", reason="the extra [slurm] is not installed")
    varied = space("hydra/launcher=submitit_slurm", LR)
    monkeypatch.setattr(plugins.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match="needs a machine of a Slurm cluster") as caught:
        check_search(varied, None)
    assert caught.value.problems[0].fix == "hydra/launcher=submitit_local"
    monkeypatch.setattr(plugins.shutil, "which", lambda name: "/usr/bin/srun")
    check_search(varied, None)


def test_one_job_after_another_has_the_whole_machine(tmp_path: Path) -> None:
    settings, strategy = search(tmp_path, LR)
    assert type(strategy) is Strategy
    assert (settings.name, settings.monitor, settings.maximize) == ("basic", "val/accuracy", True)
    assert (settings.in_turn, settings.is_local, settings.threads, settings.chunk) == (True, True, None, 1)
    assert settings.pruner is None and not settings.launcher and not settings.gpus


@pytest.mark.parametrize(
    ("words", "maximize"),
    [(("monitor=val/loss",), False), (("monitor=loss",), False), (("monitor_mode=min",), False), ((), True)],
)
def test_which_way_is_better_follows_from_the_metric_or_is_said(
    words: tuple[str, ...], maximize: bool, tmp_path: Path
) -> None:
    assert search(tmp_path, LR, *words)[0].maximize is maximize


@pytest.mark.parametrize(("sweeper", "kind"), [("random", Random), ("halving", Halving)])
def test_a_strategy_is_called_with_what_varies(sweeper: str, kind: type, tmp_path: Path) -> None:
    strategy: Any = search(tmp_path, f"hydra/sweeper={sweeper}", INTERVAL, "sweep.trials=5")[1]
    assert isinstance(strategy, kind) and len(strategy.points) == 5  # type: ignore[attr-defined]


def test_jobs_at_once_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("joblib", reason="hydra-joblib-launcher is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "12")
    words = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=3", LR, "runtime.device=cpu")
    settings, _ = search(tmp_path, *words)
    assert (settings.in_turn, settings.threads, dict(settings.launcher)) == (False, 4, {"n_jobs": 3})


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """A build of torch for CUDA, which finds three GPUs, or as many as are named of them."""

    def count() -> int:
        named = os.environ.get("CUDA_VISIBLE_DEVICES")
        return (
            3 if named is None else sum(1 for name in named.split(",") if name in ("0", "1", "2", "GPU-ab"))
        )

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "12")
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


@pytest.mark.parametrize(
    ("n_jobs", "device", "ranks", "shares"),
    [
        (-1, "auto", 1, (3, 4, ["0", "1", "2"])),
        (-1, "cuda", 1, (3, 4, ["0", "1", "2"])),
        (-1, "cpu", 1, (12, 1, [])),
        (5, "auto", 1, (5, 2, ["0", "1", "2", "0", "1"])),
        (1, "auto", 1, (1, None, ["0"])),
        (-1, "auto", 2, (1, None, ["0,1"])),
        (2, "auto", 2, (2, 3, ["0,1", "0,1"])),
        (-1, "cpu", 2, (6, 1, [])),
        (3, "cpu", 2, (3, 2, [])),
        (-1, "cpu", 16, (1, None, [])),
    ],
    ids=str,
)
def test_a_rank_for_each_gpu_else_for_each_core(
    n_jobs: int, device: str, ranks: int, shares: object, gpus: None
) -> None:
    assert _shares(n_jobs, device, ranks) == shares


def test_the_first_job_of_two_ranks_gets_the_first_two_gpus(
    gpus: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "visible_gpus", lambda: [*"abcdefg"])
    assert _shares(-1, "auto", 2)[2] == ["a,b", "c,d", "e,f"]


def test_a_job_of_more_ranks_than_gpus_is_refused(gpus: None) -> None:
    with pytest.raises(ConfigError, match=r"sweep\.ranks: 4 ranks of a job need a GPU each, there are 3"):
        _shares(-1, "auto", 4)


@pytest.mark.parametrize("key", ["tasks_per_node", "nodes"])
def test_a_launcher_starts_no_ranks(key: str, tmp_path: Path) -> None:
    words = ("hydra/launcher=submitit_local", f"hydra.launcher.{key}=2", LR)
    with pytest.raises(ConfigError, match=rf"hydra\.launcher\.{key}: a job starts its ranks itself"):
        search(tmp_path, *words)


def test_ray_prints_what_jobs_print_and_starts_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_DEDUP_LOGS", raising=False)
    assert plugins._quiet({"num_cpus": 2})["include_dashboard"] is False
    assert os.environ["RAY_DEDUP_LOGS"] == "0"
    assert plugins._quiet({"include_dashboard": True})["include_dashboard"] is True
    assert plugins._quiet({"address": "auto"})["object_store_memory"] is None
