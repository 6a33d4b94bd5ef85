"""torch.compile for training: the model's forward in place, or forward and loss as one.

What was found with torch 2.13, and decided by it:

- Seeding the generator before each forward pass stays outside the graphs, and breaks none.
- Random numbers are drawn by torch's own kernels (`fallback_random`): inductor's come from another stream,
  and are slower on a CPU. So a compiled run drops the same units as an uncompiled one.
- Sizes are fixed in a graph (`dynamic=False`). With torch's default, or sizes marked as dynamic, several
  graphs serve one size and those used last are tried first: a resumed run differed from one unbroken.
  Batches of other shapes than their split's first, such as ragged last ones, run as written.
- The optimizer stays out. Compiled AdamW takes as long as torch's fused kernel, and a learning rate that is
  a float would be compiled into it anew at each step.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from trainrun.protocols import Batch, Outcome, TaskProtocol
from trainrun.vocabulary.errors import ConfigError

_HOW: dict[str, Any] = {"dynamic": False, "options": {"fallback_random": True}}


def uncompiled() -> AbstractContextManager[Any]:
    """Within, compiled models run as they are written: for hooks, and shapes that are seldom met."""
    if "torch._dynamo" not in sys.modules:
        return nullcontext()  # nothing is compiled, and importing the compiler takes seconds
    eager: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return eager


def compile_in_place(model: nn.Module) -> None:
    """Compile the model's calls; its names and its state dict stay as they are, its copies uncompiled.

    `nn.Module.compile` leaves an nn.Sequential uncompiled without a word: torch skips functions of its
    own files. This one is not of them.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        return model._call_impl(*args, **kwargs)

    model._compiled_call_impl = torch.compile(call, **_HOW)


class CompiledTask:
    """A task whose models are compiled; with `whole` its training forward, loss included, is one graph."""

    def __init__(self, task: TaskProtocol, whole: bool) -> None:
        self._task = task
        self._train = torch.compile(task.__call__, **_HOW) if whole else task
        self._shapes: dict[str, list[torch.Size]] = {}  # of each split's first inputs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        """Raises ConfigError where the compiler fails."""
        from torch._dynamo.exc import TorchDynamoException

        shapes = list(_shapes(batch.inputs))
        if batch.number == 0:
            self._shapes.setdefault(batch.split, shapes)
        is_usual = shapes == self._shapes.get(batch.split)
        try:
            with nullcontext() if is_usual else uncompiled():
                outcome: Outcome = (self._train if model.training else self._task)(model, batch)
            return outcome
        except TorchDynamoException as error:
            raise _refusal(model, error) from error


def _shapes(inputs: Any) -> Iterator[torch.Size]:
    if isinstance(inputs, Tensor):
        yield inputs.shape
    elif isinstance(inputs, (Mapping, tuple, list)):
        for item in inputs.values() if isinstance(inputs, Mapping) else inputs:
            yield from _shapes(item)


def forget_graphs() -> None:
    """Start as a new process would: of a function torch keeps eight graphs, those of earlier runs too."""
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def num_graphs() -> int:
    """How many functions were compiled since."""
    from torch._dynamo.utils import counters

    return counters["frames"]["ok"]


def _refusal(model: nn.Module, error: Exception) -> ConfigError:
    """What a compiler's error comes to, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = lines[lines[0].startswith("backend=") :] or [type(error).__name__]
    if lines[0].startswith(("InvalidCxxCompiler", "TritonMissing")):
        text = "needs a C++ compiler, and on a GPU Triton too; this machine lacks one: apt install g++"
        return ConfigError.of("runtime.compile", f"{text}, or use off", "runtime.compile=off")
    reason = next((line for line in lines if "error:" in line), lines[0])
    text = f"torch cannot compile {type(model).__name__}: {reason[:200]}; use off"
    return ConfigError.of("runtime.compile", text, "runtime.compile=off")
