"""torch.compile for training: the model's forward in place, or forward and loss as one.

Found with torch 2.13:
- Seeding before each forward pass stays outside the graphs and breaks none. With `fallback_random` torch's
  own kernels draw: as in an uncompiled run, and faster on a CPU than inductor's.
- Graphs of dynamic sizes have guards such as 16 <= N <= 64: two may fit one batch, and which one serves it
  would depend on what ran before. So sizes are fixed, and batches unlike their split's first run as written.
- The optimizer stays out: compiled AdamW was no faster than the fused kernel, and a learning rate that is a
  float is compiled anew as it changes, by torch's manual.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree

from trainrun.protocols import Batch, Outcome, TaskProtocol
from trainrun.vocabulary.errors import ConfigError

_HOW: dict[str, Any] = {"dynamic": False, "options": {"fallback_random": True}}


def uncompiled() -> AbstractContextManager[Any]:
    """Within, compiled models run as written: for hooks, and shapes that are seldom met."""
    is_imported = "torch._dynamo" in sys.modules  # else nothing is compiled, and importing takes seconds
    return torch.compiler.set_stance("force_eager") if is_imported else nullcontext()


def compile_in_place(model: nn.Module) -> None:
    """Compile the model's calls; the names in its state dict stay, and its copies are uncompiled.

    nn.Module.compile would leave an nn.Sequential as it is: torch skips functions of its own files.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        return model._call_impl(*args, **kwargs)

    model._compiled_call_impl = torch.compile(call, **_HOW)


def is_compiled(model: nn.Module) -> bool:
    """Whether a module in it is compiled, which then calls no hooks."""
    return any(module._compiled_call_impl is not None for module in model.modules())


class CompiledTask:
    """A task whose models are compiled; with `whole` its training forward, loss included, is one graph."""

    def __init__(self, task: TaskProtocol, whole: bool) -> None:
        self._task, self._train = task, torch.compile(task.__call__, **_HOW) if whole else task
        self._shapes: dict[str, list[Any]] = {}  # of each split's first inputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        """Raises ConfigError where the compiler fails."""
        shapes = [getattr(part, "shape", None) for part in _pytree.tree_leaves(batch.inputs)]
        is_usual = shapes == self._shapes.setdefault(batch.split, shapes)
        with failing_in_words(model), nullcontext() if is_usual else uncompiled():
            return (self._train if model.training else self._task)(model, batch)


@contextmanager
def failing_in_words(model: nn.Module) -> Iterator[None]:
    """Raise ConfigError where the compiler fails within."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        raise ConfigError.of("runtime.compile", _reason(model, error), "runtime.compile=off") from error


def fresh_counters() -> Any:
    """Forget what earlier runs compiled, of which torch keeps eight graphs a function; returns its counts."""
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    return torch._dynamo.utils.counters["frames"]


def _reason(model: nn.Module, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()[:8] not in ("", "backend=")]
    if lines[0].startswith(("InvalidCxxCompiler", "TritonMissing")):
        return "needs a C++ compiler, and on a GPU Triton; one is missing here: apt install g++, or use off"
    reason = next((line for line in lines if "error:" in line), lines[0])
    return f"torch cannot compile {type(model).__name__}: {reason[:200]}; use off"
