"""What is set within is put back, and what was not changed is left alone."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trainrun.session.process_state import restored, torch_restored

OF_PYTHON: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "seed": (lambda: random.getstate(), lambda: random.seed(7)),
    "a new variable": (lambda: os.environ.get("TRAINRUN_X"), lambda: os.environ.update(TRAINRUN_X="1")),
    "a variable that goes": (lambda: os.environ.get("PATH"), lambda: os.environ.pop("PATH")),
    "folder": (os.getcwd, lambda: os.chdir("/")),
    "path": (lambda: list(sys.path), lambda: sys.path.append("/x")),
    "another path": (lambda: id(sys.path), lambda: setattr(sys, "path", ["/x"])),
    "arguments": (lambda: list(sys.argv), lambda: sys.argv.append("x")),
    "hook": (lambda: sys.excepthook, lambda: setattr(sys, "excepthook", print)),
    "debugger": (lambda: sys.breakpointhook, lambda: setattr(sys, "breakpointhook", print)),
    "gc": (gc.isenabled, gc.disable),
    "thresholds": (gc.get_threshold, lambda: gc.set_threshold(7, 7, 7)),
    "signal": (
        lambda: signal.getsignal(signal.SIGUSR1),
        lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN),
    ),
    "level": (lambda: logging.root.level, lambda: logging.root.setLevel(7)),
    "handlers": (lambda: list(logging.root.handlers), lambda: logging.root.addHandler(logging.NullHandler())),
    "a logger": (
        lambda: logging.getLogger("trainrun.test").propagate,
        lambda: setattr(logging.getLogger("trainrun.test"), "propagate", False),
    ),
    "warnings": (lambda: list(warnings.filters), lambda: warnings.simplefilter("ignore", RuntimeWarning)),
}
OF_TORCH: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "numpy's seed": (lambda: np.random.get_state()[1].tolist(), lambda: np.random.seed(7)),
    "numpy's errors": (np.geterr, lambda: np.seterr(all="raise")),
    "seed": (lambda: torch.get_rng_state().tolist(), lambda: torch.manual_seed(7)),
    "threads": (torch.get_num_threads, lambda: torch.set_num_threads(3)),
    "deterministic": (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
    ),
    "cudnn": (
        lambda: torch.backends.cudnn.benchmark,
        lambda: setattr(torch.backends.cudnn, "benchmark", True),
    ),
    "precision": (
        torch.get_float32_matmul_precision,
        lambda: torch.set_float32_matmul_precision("medium"),
    ),
    "dtype": (torch.get_default_dtype, lambda: torch.set_default_dtype(torch.float64)),
    "device": (torch.get_default_device, lambda: torch.set_default_device("meta")),
    "anomaly": (torch.is_anomaly_enabled, lambda: torch.autograd.set_detect_anomaly(True)),
}


@pytest.mark.parametrize("name", OF_PYTHON)
def test_python_is_as_it_was(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    logging.getLogger("trainrun.test")
    read, change = OF_PYTHON[name]
    before = read()
    with restored():
        change()
        assert read() != before
    assert read() == before


@pytest.mark.parametrize("name", OF_TORCH)
def test_torch_is_as_it_was(name: str) -> None:
    read, change = OF_TORCH[name]
    before = read()
    with torch_restored():
        change()
        assert read() != before
    assert read() == before


def test_it_is_put_back_after_an_error_as_well() -> None:
    folder, threads = os.getcwd(), torch.get_num_threads()

    def fail() -> None:
        with restored(), torch_restored():
            os.chdir("/")
            torch.set_num_threads(threads + 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (os.getcwd(), torch.get_num_threads()) == (folder, threads)


def test_within_torch_is_as_in_a_new_process() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        with torch.no_grad(), torch.device("meta"), torch.autocast("cpu"), torch_restored():
            assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
            assert torch.get_default_dtype() == torch.float32
            assert torch.get_default_device().type == "cpu"
            assert not torch.is_autocast_enabled("cpu")
    finally:
        torch.set_default_dtype(torch.float32)
