"""FSDP: weights, gradients and optimizer state are divided among the ranks, by torch's `fully_shard`.

A block's weights are gathered when it computes, and its gradients summed and divided again. Nothing is
averaged: a window is a sum over all ranks, whose parts the step has weighted.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainrun import ranks
from trainrun.parallel.ddp import packed, unused_by_all
from trainrun.runtime import divided
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Count


class FSDP:
    """Divides `blocks` and the rest of a model over groups of `shard` ranks, of which each has all of it.

    With one process, such as evaluates a stored run, the model is whole.
    """

    def __init__(
        self,
        blocks: str,
        shard: Count | None,
        reduce: Literal["every", "last"],
        reduce_dtype: Literal["bf16"] | None,
        offload: Literal["cpu"] | None,
    ) -> None:
        self.blocks, self.shard, self.reduce, self.offload = blocks, shard, reduce, offload
        self.reduce_dtype = torch.bfloat16 if reduce_dtype == "bf16" else None
        self.shards = ranks.size() > 1
        self._divide: Callable[[nn.Module], nn.Module] = lambda model: model
        self._template: nn.Module | None = None  # what was divided, without values
        self._group: Any = None  # of the ranks that have all shards together
        self._used: _Used | None = None

    def require_ranks(self) -> None:
        """Raises ConfigError where training would divide nothing."""
        if not self.shards:
            text = "fsdp needs several processes: torchrun --nproc-per-node 2 -m trainrun ... parallel=fsdp"
            raise ConfigError.of("parallel", text, "parallel=ddp")

    def place(
        self, model: nn.Module, device: torch.device, dtype: torch.dtype | None, blocks: Sequence[str]
    ) -> nn.Module:
        """The model divided, each block moved to `device` when it is; it computes in `dtype`.

        Raises ConfigError where that cannot be.
        """
        if not self.shards:
            return model.to(device)
        from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy, OffloadPolicy

        if self.offload and device.type == "cpu":
            text = "has no effect: the weights of ranks on CPUs lie in host memory already"
            raise ConfigError.of("parallel.offload", text, "parallel.offload=null")
        _refuse_shared(model, blocks)
        # Running statistics stay float32, which batch norm can only take with weights of that type.
        is_mixed = dtype == torch.bfloat16 and not any(isinstance(m, _BatchNorm) for m in model.modules())
        reduce_dtype = self.reduce_dtype or (torch.float32 if is_mixed else None)
        mesh, offloads = self._mesh(device.type), CPUOffloadPolicy() if self.offload else OffloadPolicy()
        precision = MixedPrecisionPolicy(dtype if is_mixed else None, reduce_dtype)
        policy = {"mesh": mesh, "mp_policy": precision, "offload_policy": offloads}
        self._group = mesh.get_group(mesh.ndim - 1)
        self._divide = partial(_divided, blocks=blocks, policy=policy)
        self._template = _without_values(model)
        try:
            model = self._divide(model)
        except (ValueError, NotImplementedError) as error:
            text = f"fsdp cannot divide this model: {error}"
            raise ConfigError.of("parallel", text, "parallel=ddp") from error
        self._used = _Used(model)
        return model

    def clone(self, model: nn.Module) -> nn.Module:
        """A copy of a placed model, divided as it is."""
        if self._template is None:
            return copy.deepcopy(model)
        twin = self._divide(copy.deepcopy(self._template))
        weights, others = next(model.parameters()).device, next(_tensors(model)).device  # differ by `offload`
        twin._apply(lambda t: torch.empty_like(t, device=weights if isinstance(t, nn.Parameter) else others))
        with torch.no_grad():
            for ours, theirs in zip(_tensors(twin), _tensors(model), strict=True):
                divided.local(ours).copy_(divided.local(theirs))
        return twin.train(model.training)

    @contextmanager
    def micro_batch(
        self, model: Any, parameters: Sequence[nn.Parameter], is_last: bool, is_empty: bool = False
    ) -> Iterator[None]:
        """Within, one forward and backward pass, whose gradients are summed where `reduce` says so."""
        if self._used is not None:
            self._used.is_counting = not is_empty
        if self.shards and self.reduce == "last":
            model.set_requires_gradient_sync(is_last)
        try:
            yield
        except RuntimeError as error:
            if "gloo" in str(error) or "NCCL" in str(error):
                with ranks.meeting():  # raises an error that says which rank failed
                    raise
            raise

    def sum_gradients(self, parameters: Sequence[nn.Parameter], numbers: Sequence[Tensor]) -> list[Tensor]:
        """End a window, whose gradients are summed already: sum every number, in float32.

        A parameter that no rank used keeps no gradient.
        """
        assert self._used is not None
        used = self._used.take(parameters)
        flat = packed(numbers, used)
        ranks.start_sum([flat])()
        for parameter in unused_by_all(parameters, used, flat):
            parameter.grad = None
        return list(flat[: len(numbers)].unbind())

    def norm(self, gradients: list[Tensor]) -> Tensor:
        """The L2 norm of the whole gradient: each rank's shards, joined."""
        parts = [divided.local(gradient) for gradient in gradients]
        square: Tensor = torch.stack(torch._foreach_norm(parts)).float().square().sum()
        if self.shards:
            ranks.start_sum([square], self._group)()
        return square.sqrt()

    def _mesh(self, kind: str) -> Any:
        from torch.distributed.device_mesh import init_device_mesh

        size, shard = ranks.size(), self.shard or ranks.size()
        if size % shard or shard == 1:
            text = f"must be a divisor above 1 of the number of ranks, got {shard} for {size} ranks"
            raise ConfigError.of("parallel.shard", text, "parallel.shard=null")
        shape = (size,) if size == shard else (size // shard, shard)
        mesh = init_device_mesh(kind, shape, mesh_dim_names=("replica", "shard")[-len(shape) :])
        ranks.set_timeout()  # of its groups
        return mesh


class _Used:
    """Which parameters got a gradient on this rank: FSDP gives the others zeros, which move weights, too."""

    def __init__(self, model: Any) -> None:
        self.is_counting = True
        self._got: set[Tensor] = set()
        model._get_fsdp_state()._lazy_init()
        for module in _divided_modules(model):
            shards = dict(module.named_parameters())
            module.unshard()  # makes the whole weights, which are the same objects from here on
            for name, weight in module.named_parameters():
                if weight is not (shard := shards[name]):  # else a block's within
                    weight.requires_grad_().register_post_accumulate_grad_hook(self._note(shard))
                    weight.requires_grad_(shard.requires_grad)
            module.reshard()

    def _note(self, parameter: Tensor) -> Callable[[Tensor], None]:
        return lambda _: self._got.add(parameter) if self.is_counting else None

    def take(self, parameters: Sequence[nn.Parameter]) -> list[bool]:
        """Of each whether it got one since the last call."""
        used = [parameter in self._got for parameter in parameters]
        self._got.clear()
        return used


def _divided(model: nn.Module, blocks: Sequence[str], policy: dict[str, Any]) -> nn.Module:
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for module in (*map(model.get_submodule, blocks), model):
        fully_shard(module, **policy)
    for name in ("training_step", "validation_step", "test_step"):  # of Lightning, which may call its parts
        if hasattr(model, name):
            register_fsdp_forward_method(model, name)
    for module in _divided_modules(model):
        module.set_gradient_divide_factor(1.0)  # a sum; the next line says it in a way that gloo knows, too
        module.set_force_sum_reduction_for_comms(True)
        module.set_reduce_scatter_unused_params(True, recurse=False)  # what is unused may differ by rank
    return model


def _divided_modules(model: nn.Module) -> list[Any]:
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    return chain(model.buffers(), model.parameters())


def _without_values(model: nn.Module) -> nn.Module:
    """A copy whose tensors have shapes alone."""
    memo: dict[int, Any] = {}
    for tensor in _tensors(model):
        shape = torch.empty_like(tensor, device="meta")
        is_weight = isinstance(tensor, nn.Parameter)
        memo[id(tensor)] = nn.Parameter(shape, tensor.requires_grad) if is_weight else shape
    return copy.deepcopy(model, memo)


def _refuse_shared(model: nn.Module, blocks: Sequence[str]) -> None:
    """A weight that a block shares with what lies outside would come apart."""
    owner: dict[nn.Parameter, tuple[str, str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        block = next((block for block in blocks if name.startswith(f"{block}.")), "")
        first, other = owner.setdefault(parameter, (block, name))
        if first != block:
            text = f"{other} and {name} are one weight, which blocks cannot divide apart"
            raise ConfigError.of("parallel.blocks", f"{text}; name a module of both")
