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

from trainrun.ranks import RankInfo
from trainrun.runtime.machine import (
    Runtime,
    is_out_of_memory,
    runtime,
    seed_everything,
    seed_forward,
    tune_allocator,
)
from trainrun.vocabulary.errors import ConfigError

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
    values = {"device": "cpu", "threads": 1, "deterministic": False, "compile": "off", "channels_last": False}
    outside = {
        "sync_batch_norm": False,
        "profile": None,
        "activation_checkpointing": None,
        "preemption_signal": None,
        "time_limit": None,
        "timeout": "10min",
        "trust": [],
    }
    return runtime(**{**values, **outside, **changes})


def test_what_is_used_is_said() -> None:
    machine = make(threads=2)
    assert (machine.device, machine.num_threads) == (CPU, 2)
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
    machine = make(threads=threads)
    torch.set_num_threads(2)
    machine.prepare(layer(), batch_size=64)
    assert machine.num_threads == used


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
        ("gpu", "must be auto, cpu, cuda, cuda:1 or mps, got gpu"),
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


def test_a_forward_pass_on_a_gpu_draws_on_the_host_by_seed_and_count_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "default_generators", (torch.Generator(), on_gpu := torch.Generator()))
    drawn = []
    for _ in range(2):
        seed_forward(3, 5, torch.device("cuda", 1))
        drawn.append((float(torch.rand(())), float(torch.rand((), generator=on_gpu))))
        torch.rand(7)
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("channels_last", [False, True])
def test_convolutions_get_the_memory_format_they_like(channels_last: bool) -> None:
    machine = Runtime(CPU, 1, False, "off", None, channels_last, False, None, None, None)
    convolution = machine.prepare(nn.Sequential(nn.Conv2d(3, 4, 3)), batch_size=8)
    assert convolution[0].weight.is_contiguous(memory_format=torch.channels_last) is channels_last
    # A kernel of one channel or pixel is contiguous in both orders: its strides decide the result's.
    for shape in ((1, 8, 3), (8, 8, 1)):
        kernel = machine.prepare(nn.Conv2d(*shape), batch_size=8)
        outputs = kernel(torch.randn(2, shape[0], 9, 9))
        assert outputs.is_contiguous(memory_format=torch.channels_last) is channels_last
    linear = machine.prepare(nn.Linear(3, 4), batch_size=8)
    assert linear.weight.is_contiguous()


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


def of_ranks(monkeypatch: pytest.MonkeyPatch, place: RankInfo, gpus: int) -> list[int]:
    """As if this were one of several ranks on a machine with GPUs; returns where what is chosen is noted."""
    chosen: list[int] = []
    monkeypatch.setattr("trainrun.ranks._place", place)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_each_rank_takes_the_gpu_of_its_number_on_its_machine(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = of_ranks(monkeypatch, RankInfo(3, 4, 1, 2), gpus=2)
    assert make(device=device).device == torch.device("cuda", 1)
    assert chosen == [torch.device("cuda", 1)]


def test_a_gpu_that_is_named_is_what_no_name_means(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = of_ranks(monkeypatch, RankInfo(), gpus=2)
    assert make(device="cuda:1").device == torch.device("cuda", 1)
    assert chosen == [torch.device("cuda", 1)]  # else contexts, pinned memory and NCCL go to the first


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError(
            "NCCL error in: ProcessGroupNCCL.cpp:94, unhandled cuda error: Cuda failure 'out of memory'"
        ),
    ],
)
def test_a_lack_of_memory_is_known_by_type_or_words(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_other_errors_are_no_lack_of_memory() -> None:
    for text in ("Expected more than 1 value per channel when training", "NCCL error: timeout", "memory"):
        assert not is_out_of_memory(RuntimeError(text))


@pytest.mark.parametrize(
    ("device", "gpus", "said"),
    [
        ("cuda:0", 2, "must be auto, cpu or cuda with several ranks"),
        ("cuda", 1, "2 ranks on this machine need a GPU each, there are 1"),
        ("cuda", 0, "no cuda"),
    ],
)
def test_ranks_never_share_a_gpu(device: str, gpus: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    of_ranks(monkeypatch, RankInfo(0, 2, 0, 2), gpus)
    with pytest.raises(ConfigError, match=rf"runtime\.device: .*{said}"):
        make(device=device)


def test_ranks_without_gpus_divide_the_cores_whatever_torchrun_says(monkeypatch: pytest.MonkeyPatch) -> None:
    of_ranks(monkeypatch, RankInfo(0, 2, 0, 2), gpus=0)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(6)))
    for said, used in (("", 3), ("1", 3), ("2", 2)):  # torchrun sets 1 where nobody has chosen
        monkeypatch.setenv("OMP_NUM_THREADS", said)
        assert make(device="auto", threads=None).num_threads == used


@pytest.mark.parametrize(("size", "where"), [(1, "one rank"), (2, "cpu")])
def test_training_refuses_to_ignore_sync_batch_norm(
    size: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_ranks(monkeypatch, RankInfo(0, size, 0, size), gpus=0)
    machine = make(sync_batch_norm=True)
    model = machine.prepare(nn.Sequential(nn.BatchNorm1d(3)), batch_size=8)  # as to judge a stored run
    assert type(model[0]) is nn.BatchNorm1d
    with pytest.raises(ConfigError, match=f"on {where} it has no effect"):
        machine.require_sync()
    make().require_sync()
