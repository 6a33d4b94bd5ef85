"""The calling process around a run: its seeds, environment and settings restored, changed code reloaded."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from trainrun.config.reload import reload_changed, remember_loaded
from trainrun.terminal.lines import say

Undo = Callable[[], object]


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Restore at the end whatever a run may set in this process."""
    undos = [*_of_python(), *_of_logging()]
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for undo in undos:
            undo()


@contextlib.contextmanager
def torch_restored() -> Iterator[None]:
    """The same for NumPy and torch, imported here; within, torch's settings are those of a new process."""
    import torch

    undos = [*_of_torch()]
    try:
        with torch.inference_mode(False), torch.enable_grad(), contextlib.ExitStack() as defaults:
            torch.set_default_dtype(torch.float32)
            if torch.get_default_device().type != "cpu":
                defaults.enter_context(torch.device("cpu"))
            for device in ("cpu", "cuda"):
                if torch.is_autocast_enabled(device):
                    defaults.enter_context(torch.autocast(device, enabled=False))
            yield
    finally:
        for undo in undos:
            undo()


@contextlib.contextmanager
def current_code(settings: Mapping[str, Any]) -> Iterator[None]:
    """Reload the user's modules that `settings` call and whose files changed, and say which."""
    for note in reload_changed(settings):
        say(note)
    yield
    remember_loaded(settings)


def _undo_change(read: Callable[[], Any], write: Callable[[Any], object]) -> Undo:
    """Write the value that is read now, where it has changed until then."""
    before = read()
    return lambda: None if read() == before else write(before)


def _attribute(owner: Any, name: str) -> Undo:
    return _undo_change(partial(getattr, owner, name), partial(setattr, owner, name))


def _contents(items: list[Any]) -> Undo:
    return _undo_change(partial(list, items), partial(items.__setitem__, slice(None)))


def _of_python() -> Iterator[Undo]:
    yield _undo_change(random.getstate, random.setstate)
    yield _undo_change(partial(dict, os.environ), _set_environment)
    with contextlib.suppress(OSError):  # the folder is gone
        yield _undo_change(os.getcwd, os.chdir)
    yield _contents(sys.path)
    yield _contents(sys.argv)
    for name in ("path", "argv", "excepthook", "breakpointhook", "stdout", "stderr"):
        yield _attribute(sys, name)
    if module := sys.modules.get("hydra.core.global_hydra"):  # of a script under Hydra's own `main`
        yield _attribute(module.GlobalHydra.instance(), "hydra")
    yield _undo_change(gc.isenabled, lambda was_on: gc.enable() if was_on else gc.disable())
    yield _undo_change(gc.get_threshold, lambda sizes: gc.set_threshold(*sizes))
    if threading.current_thread() is threading.main_thread():
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if signal.getsignal(number) is not None:  # None: it was not set from Python
                yield _undo_change(partial(signal.getsignal, number), partial(signal.signal, number))


def _set_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _of_logging() -> Iterator[Undo]:
    yield _attribute(logging, "raiseExceptions")
    yield _attribute(logging.root.manager, "disable")
    for logger in (logging.root, *logging.root.manager.loggerDict.values()):
        if not isinstance(logger, logging.Logger):
            continue  # the placeholder of a parent
        yield _contents(logger.handlers)
        yield _undo_change(partial(getattr, logger, "level"), logger.setLevel)
        for name in ("propagate", "disabled"):
            yield _attribute(logger, name)


def _of_torch() -> Iterator[Undo]:
    import numpy as np
    import torch

    # The states of generators have no plain comparison: they are written in any case.
    yield partial(np.random.set_state, np.random.get_state())
    yield _undo_change(np.geterr, lambda answers: np.seterr(**answers))
    from trainrun.optimizer.eager import unmark

    yield unmark
    yield partial(torch.set_rng_state, torch.get_rng_state())
    if torch.cuda.is_available():
        if torch.cuda.is_initialized():
            yield partial(torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all())
            yield _undo_change(torch.cuda.current_device, torch.cuda.set_device)
        else:  # its generators are seeded at their first use, with the last seed that was set
            yield partial(torch.cuda.manual_seed_all, torch.initial_seed())
    if torch.backends.mps.is_available():
        yield partial(torch.mps.set_rng_state, torch.mps.get_rng_state())
    yield _undo_change(torch.get_num_threads, torch.set_num_threads)
    only_warns = torch.is_deterministic_algorithms_warn_only_enabled
    yield _undo_change(
        lambda: (torch.are_deterministic_algorithms_enabled(), only_warns()),
        lambda flags: torch.use_deterministic_algorithms(flags[0], warn_only=flags[1]),
    )
    cudnn = torch.backends.cudnn
    for name in ("deterministic", "benchmark", "enabled"):
        yield _attribute(cudnn, name)
    yield _undo_change(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)
    for library in (cudnn, torch.backends.mkldnn, torch.backends.cuda):
        for kind in ("conv", "rnn", "matmul"):
            if hasattr(part := getattr(library, kind, None), "fp32_precision"):
                yield _attribute(part, "fp32_precision")
    yield _undo_change(torch.get_default_dtype, torch.set_default_dtype)
    yield _undo_change(
        torch.get_default_device,
        lambda device: torch.set_default_device(None if device.type == "cpu" else device),
    )
    yield _undo_change(torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly)
    yield _undo_change(torch.multiprocessing.get_sharing_strategy, torch.multiprocessing.set_sharing_strategy)
