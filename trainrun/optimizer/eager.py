"""Make optimizers without importing torch's compiler, which nothing in a plain step needs.

Since torch 2.0 the first optimizer imports torch._dynamo (one to three seconds, measured with 2.10 to 2.13):
`add_param_group` and three more methods are marked "do not compile" by it when they are first called, and
`step` breaks the graph around itself. Without a compiler neither does anything.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

_NOT_COMPILED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")


def skip_compiler_import() -> None:
    """Mark torch's own optimizers as not compiled, unless the compiler is imported already.

    A torch whose wrappers look different is left as it is: then the first optimizer imports the compiler.
    """
    if "torch._dynamo" in sys.modules:
        return
    for plain in _marked_functions():
        plain.__dynamo_disable = plain
    for optimizer in vars(torch.optim).values():
        step = vars(optimizer).get("step") if isinstance(optimizer, type) else None
        if getattr(getattr(step, "__code__", None), "co_name", "") == "_use_grad":
            optimizer.step = _eager_step(step)


def unmark() -> None:
    """Let a compiler that is imported later mark the functions itself; eager steps ask for it each time."""
    for plain in _marked_functions():
        if vars(plain).get("__dynamo_disable") is plain:
            del plain.__dynamo_disable


def _marked_functions() -> list[Any]:
    """The functions below torch's mark "do not compile"."""
    functions = (getattr(getattr(Optimizer, name), "__wrapped__", None) for name in _NOT_COMPILED)
    return [function for function in functions if function is not None]


def _eager_step(step: Any) -> Callable[..., Any]:
    """Return the step below torch's decorator, which sets whether gradients are recorded.

    Once a compiler is there, `step` itself is called.
    """

    @functools.wraps(step.__wrapped__)
    def eager(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        if "torch._dynamo" in sys.modules:
            return step(self, *args, **kwargs)
        with torch.set_grad_enabled(self.defaults["differentiable"]):
            return step.__wrapped__(self, *args, **kwargs)

    return eager
