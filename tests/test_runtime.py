"""The machine: what is chosen, what is seeded, what is deterministic; and no trace from run to run."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainrun.errors import ConfigError
from trainrun.runtime import Runtime, runtime, seed_everything, seed_forward, tune_allocator

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    threads, cudnn = torch.get_num_threads(), torch.backends.cudnn
    flags = cudnn.deterministic, cudnn.benchmark
    yield
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    cudnn.deterministic, cudnn.benchmark = flags


def make(**changes: Any) -> Runtime:
    values = {"device": "cpu", "threads": 1, "deterministic": False, "compile": False, "channels_last": False}
    outside = {"preemption_signal": None, "time_limit": None, "trust": []}
    return runtime(**{**values, **outside, **changes})


def test_what_is_used_is_said() -> None:
    made = make(threads=2)
    assert (made.device, made.num_threads) == (CPU, 2)
    assert torch.get_num_threads() == 2


def test_without_a_number_a_process_uses_the_cores_it_may_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert make(threads=None).num_threads == len(os.sched_getaffinity(0))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert make(threads=None).num_threads == 1


@pytest.mark.parametrize(
    ("layer", "threads", "used"),
    [
        (lambda: nn.Linear(64, 64), None, 1),  # a second thread would cost more than it saves
        (lambda: nn.Linear(1024, 1024), None, 2),
        (lambda: nn.Conv2d(3, 4, 3), None, 2),
        (lambda: nn.Linear(64, 64), 2, 2),  # what was asked for stays
    ],
)
def test_a_small_model_trains_on_one_thread_unless_told(layer: Any, threads: int | None, used: int) -> None:
    made = make(threads=threads)
    torch.set_num_threads(2)
    made.prepare(layer(), batch_size=64)
    assert made.num_threads == used


def test_deterministic_sets_what_the_guides_list_and_the_next_run_starts_clean() -> None:
    make(deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    make(deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic


def test_a_workspace_that_the_user_chose_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    make(deterministic=True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("gpu", "wants auto, cpu, cuda, cuda:1 or mps, got gpu"),
        ("cpu:x", "got cpu:x"),
        ("", "got "),
        ("meta", "got meta"),
        ("xla", "got xla"),
    ],
)
def test_a_device_that_is_none_is_refused(device: str, said: str) -> None:
    with pytest.raises(ConfigError, match=f"runtime.device: .*{said}"):
        make(device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one here")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_a_device_that_is_not_there_is_refused_with_what_to_use(device: str) -> None:
    with pytest.raises(ConfigError, match=f"no {device}; use cpu or auto"):
        make(device=device)


def test_auto_is_a_device_that_is_there() -> None:
    device = make(device="auto").device
    torch.zeros(2, device=device) + 1
    assert device.type == ("cuda" if torch.cuda.is_available() else device.type)


def test_seeding_covers_python_numpy_and_torch() -> None:
    def draw(seed: int) -> list[float]:
        seed_everything(seed)
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    assert draw(1) == draw(1)
    assert all(a != b for a, b in zip(draw(1), draw(2), strict=True))
    seed_everything(2**63)  # wider than NumPy takes


def test_a_forward_pass_is_seeded_by_seed_and_count_alone() -> None:
    def draw(seed: int, count: int) -> float:
        seed_forward(seed, count, CPU)
        return float(torch.rand(()))

    first = draw(1, 0)
    torch.rand(100)
    assert draw(1, 0) == first
    assert len({draw(seed, count) for seed in (1, 2) for count in range(50)}) == 100


@pytest.mark.parametrize("channels_last", [False, True])
def test_convolutions_get_the_memory_format_they_like(channels_last: bool) -> None:
    made = Runtime(CPU, 1, False, False, channels_last, None, None)
    convolution = made.prepare(nn.Sequential(nn.Conv2d(3, 4, 3)), batch_size=8)
    assert convolution[0].weight.is_contiguous(memory_format=torch.channels_last) is channels_last
    linear = made.prepare(nn.Linear(3, 4), batch_size=8)
    assert linear.weight.is_contiguous()


def test_compiling_keeps_the_names_of_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr(nn.Module, "compile", lambda module: compiled.append(module))
    model = nn.Linear(2, 2)
    Runtime(CPU, 1, False, False, False, None, None).optimize(model)
    assert compiled == []
    Runtime(CPU, 1, False, True, False, None, None).optimize(model)
    assert compiled == [model]
    assert list(model.state_dict()) == ["weight", "bias"]


def test_tuning_the_allocator_may_be_repeated() -> None:
    tune_allocator()
    tune_allocator()


def test_the_preemption_signal_is_usr2_in_a_slurm_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert make(preemption_signal="auto").preemption_signal is None
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert make(preemption_signal="auto").preemption_signal == "USR2"
    assert make(preemption_signal=None).preemption_signal is None
    assert make(preemption_signal="USR1").signals().preemption == "SIGUSR1"


def test_a_time_limit_is_by_the_clock() -> None:
    assert make(time_limit="90min").time_limit_s == 5400
    for wrong in ("10ep", "soon"):
        with pytest.raises(ConfigError, match=rf"runtime\.time_limit: wants .*got {wrong}"):
            make(time_limit=wrong)
