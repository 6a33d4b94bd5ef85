"""A GPU without a GPU: tensors on `cuda:0` that have no values, and counts of what a real one would do.

Tensors on the host are real. Those on the device are torch's fake ones, so that an operation which mixes
both fails as it would there. The autograd engine asks for a driver: `backward` leaves empty gradients.
"""

from __future__ import annotations

import ctypes
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

GPU = torch.device("cuda", 0)
MEMORY_BYTES = 1 << 30
aten = torch.ops.aten
_ANSWERS = {
    "is_available": True,
    "device_count": 1,
    "current_device": 0,
    "get_device_capability": (9, 0),
    "get_device_properties": SimpleNamespace(total_memory=MEMORY_BYTES),
    "is_bf16_supported": True,
    "is_initialized": False,
    "_lazy_init": None,
    "set_device": None,
    "synchronize": None,
}
_FREE = (aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided, aten.detach)
_COPIES = (aten.copy_, aten._foreach_copy_)
_SMALL_BYTES = 1 << 16  # that CUDA copies from any memory without a wait
_CUDA, _META = 1, 14  # numbers of device types in torch's C++


@dataclass
class Counts:
    """What was asked of the device since `clear`.

    `launches` are kernels by name, one for each call of foreach. `waits` are those of the host: values
    that it reads, copies of memory that is not pinned, and results whose size depends on values.
    """

    launches: Counter[str] = field(default_factory=Counter)
    waits: Counter[str] = field(default_factory=Counter)

    def clear(self) -> None:
        self.launches.clear()
        self.waits.clear()


class _Device(TorchDispatchMode):
    """Runs on fake tensors what touches the device, and counts it."""

    def __init__(self) -> None:
        super().__init__()
        self.counts, self.fake = Counts(), FakeTensorMode(allow_non_fake_inputs=True)
        self.parameters: list[Tensor] = []  # that `backward` leaves gradients in

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        on_device = [isinstance(tensor, FakeTensor) for tensor in tensors]
        target = next((leaf for leaf in leaves if isinstance(leaf, torch.device)), None)
        is_for_host = not any(on_device) and (target is None or target.type == "cpu")
        if is_for_host or func.namespace != "aten":
            return func(*args, **kwargs)
        if func._can_decompose():  # inference mode hands over what is made of other operations
            with self:
                return func.decompose(*args, **kwargs)
        kernel = func.overloadpacket
        if kernel is aten._local_scalar_dense:
            return self.read(args[0]).item()
        if kernel in _COPIES and any(on_device) != all(on_device):
            if not (kwargs.get("non_blocking") or args[2:] == (True,)):
                self.counts.waits["copy"] += 1
            return args[0] if func._schema.returns else None
        if target is not None and on_device and all(on_device) == (target.type == "cpu"):
            return self._copied(kernel, args[0], kwargs, target)
        with self.fake:
            result = self._run(func, args, kwargs)
        returns = [entry.alias_info for entry in func._schema.returns]
        is_view = any(alias is not None and not alias.is_write for alias in returns)
        if not is_view and kernel not in _FREE:
            self.counts.launches[kernel.__name__] += 1
        return result

    def read(self, tensor: Tensor) -> Tensor:
        """What the host reads of a tensor, in place of values that there are not."""
        self.counts.waits["read"] += 1
        return torch.ones(tensor.shape, dtype=tensor.dtype)

    def move(self, module: nn.Module, device: torch.device) -> nn.Module:
        """nn.Module.to exchanges tensors in place, which fake ones do not allow."""
        moved: dict[Tensor, Any] = {}  # tied ones stay tied
        for part in module.modules():
            for name, old in part._parameters.items():
                if old is not None and old not in moved:
                    moved[old] = nn.Parameter(old.detach().to(device), old.requires_grad)
                part._parameters[name] = None if old is None else moved[old]
            for name, buffer in part._buffers.items():
                part._buffers[name] = None if buffer is None else moved.setdefault(buffer, buffer.to(device))
        self.parameters += [p for p in moved.values() if p.requires_grad]
        return module

    def backward(self) -> None:
        for parameter in self.parameters:
            parameter.grad = torch.empty_like(parameter)

    def _copied(self, kernel: Any, source: Tensor, kwargs: Any, target: torch.device) -> Tensor:
        """Memory on the other side; of copies the host waits for all but small ones that it queues."""
        is_queued = kwargs.get("non_blocking") and target.type == "cuda" and source.nbytes <= _SMALL_BYTES
        if kernel is aten._to_copy and not is_queued:
            self.counts.waits["copy"] += 1
        dtype = kwargs.get("dtype") or source.dtype
        if target.type == "cpu":
            return torch.ones(source.shape, dtype=dtype)
        with self.fake:
            return torch.empty_strided(source.shape, source.stride(), dtype=dtype, device=target)

    def _run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """A result whose size depends on values is as large as it can be."""
        kernel, first = func.overloadpacket, args[0]
        mask = args[1][0] if kernel is aten.index else None
        if mask is not None and mask.dtype == torch.bool:
            self.counts.waits["mask"] += 1
            return torch.empty(mask.numel(), *first.shape[mask.ndim :], dtype=first.dtype, device=GPU)
        if kernel is aten.bincount:
            self.counts.waits["bincount"] += 1
            return torch.empty(args[2], dtype=torch.int64, device=GPU)
        if kernel is aten.nonzero:
            self.counts.waits["nonzero"] += 1
            return torch.empty(first.numel(), first.ndim, dtype=torch.int64, device=GPU)
        return func(*args, **kwargs)


@contextmanager
def fake_gpu() -> Iterator[Counts]:
    """Within, this machine has a GPU. Returns what it is asked from now on."""
    device = _Device()
    answers: dict[str, Any] = {name: lambda *_, value=value, **__: value for name, value in _ANSWERS.items()}
    with ExitStack() as opened:
        opened.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")  # in a deep copy
        for name, answer in answers.items():
            opened.enter_context(patch.object(torch.cuda, name, answer))
        opened.enter_context(patch.object(torch.cuda, "default_generators", (torch.Generator(),)))
        opened.enter_context(patch.object(nn.Module, "to", lambda module, to: device.move(module, to)))
        opened.enter_context(patch.object(Tensor, "backward", lambda loss: device.backward()))
        opened.enter_context(patch.object(FakeTensor, "tolist", lambda tensor: device.read(tensor).tolist()))
        opened.enter_context(_device_guard())
        opened.enter_context(device)
        yield device.counts


@contextmanager
def _device_guard() -> Iterator[None]:
    """Sets the current device in C++. A build for CPUs has none for GPUs; that of `meta` does nothing."""
    if torch.version.cuda is not None:
        torch._C._ensureCUDADeviceGuardSet()
        yield
        return
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    guards = (ctypes.c_void_p * (_META + 1)).in_dll(library, "_ZN3c104impl26device_guard_impl_registryE")
    guards[_CUDA] = guards[_META]
    try:
        yield
    finally:
        guards[_CUDA] = None
