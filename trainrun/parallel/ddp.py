"""DDP: every rank has the whole model; gradients are summed in buckets while the backward pass runs.

Torch's DistributedDataParallel and `replicate` cannot keep three promises, so this stands on the same
collectives with hooks of its own. Those wait for ranks whose share of a window is empty. They see only
what goes through the model's `forward`, which a LightningModule's step does not. And they order their
buckets anew after the first backward pass, so that a resumed run would add in another order.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from trainrun import ranks
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Positive


class DDP:
    """Sums gradients over the ranks, in pieces of `bucket_mb` MiB, rounded to `reduce_dtype` where set.

    Buckets are sent in one fixed order, from the last parameter to the first, each as soon as it and
    those before it are complete. So a sum has the same bits in every step and after a resume.
    """

    shards = False  # whether weights are divided among the ranks, so that all must make every pass
    blocks = ""

    def __init__(self, bucket_mb: Positive, reduce_dtype: Literal["bf16"] | None) -> None:
        self.bucket_bytes = math.ceil(bucket_mb * 2**20)
        self.dtype = torch.bfloat16 if reduce_dtype == "bf16" else None
        self._buckets = _Buckets([], 1, None)

    def require_ranks(self) -> None:
        """One is enough."""

    def place(
        self, model: nn.Module, device: torch.device, dtype: torch.dtype | None, blocks: Sequence[str]
    ) -> nn.Module:
        """The model where it trains."""
        return model.to(device)

    def clone(self, model: nn.Module) -> nn.Module:
        """A copy of a placed model, as weight averages need it."""
        return copy.deepcopy(model)

    def micro_batch(
        self, model: nn.Module, parameters: Sequence[nn.Parameter], is_last: bool, is_empty: bool = False
    ) -> AbstractContextManager[None]:
        """Within, one forward and backward pass. A window's last sends gradients as they are complete."""
        if not is_last or ranks.size() == 1:
            return nullcontext()
        return self._of(parameters).sending()

    def sum_gradients(self, parameters: Sequence[nn.Parameter], numbers: Sequence[Tensor]) -> list[Tensor]:
        """End a window: sum what is left, and every number; a parameter that no rank used keeps no gradient.

        `numbers` are scalars; returns their sums, in float32.
        """
        return self._of(parameters).finish(numbers)

    def norm(self, gradients: list[Tensor]) -> Tensor:
        """The L2 norm of the whole gradient, as torch's get_total_norm, which first sorts tensors."""
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        return norm

    def _of(self, parameters: Sequence[nn.Parameter]) -> _Buckets:
        """The buckets of what is trained now: with freezing it changes on the way."""
        trained = [p for p in parameters if p.requires_grad]
        if [*map(id, trained)] != [*map(id, self._buckets.parameters)]:
            for hook in self._buckets.hooks:
                hook.remove()
            self._buckets = _Buckets(trained, self.bucket_bytes, self.dtype)
        return self._buckets


class _Bucket:
    """Parameters whose gradients are sent together."""

    def __init__(self, dtype: torch.dtype | None) -> None:
        self.parameters: list[nn.Parameter] = []
        self.dtype = dtype  # to send in; None: their own
        self.waits_for = 0  # gradients that are not there yet
        self.wait: Callable[[], None] | None = None  # for the sums, once they are sent
        self._sums: tuple[Tensor, ...] = ()

    def send(self, *tail: Tensor) -> None:
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        flat = torch.cat([*(gradient.reshape(-1) for gradient in gradients), *tail])
        flat = flat if self.dtype is None else flat.to(self.dtype)
        self._sums = flat.split([*(p.numel() for p in self.parameters), *map(len, tail)])
        self.wait = ranks.start_sum([flat])

    def receive(self) -> tuple[Tensor, ...]:
        """The flat sum of each parameter's gradient, and the tail, once all have come."""
        assert self.wait is not None
        self.wait()
        sums, self._sums, self.wait = self._sums, (), None
        return sums


class _Buckets:
    """The gradients of one set of parameters, on their way."""

    def __init__(self, parameters: list[nn.Parameter], size_bytes: int, dtype: torch.dtype | None) -> None:
        self.parameters = parameters
        self._bucket_of: dict[nn.Parameter, _Bucket] = {}
        self._buckets = [_Bucket(dtype)]
        room = size_bytes
        for parameter in reversed(parameters):  # about the order in which a backward pass comes by
            held = self._buckets[-1].parameters
            if held and (room < parameter.nbytes or _kind(held[0]) != _kind(parameter)):
                self._buckets.append(_Bucket(dtype))
                room = size_bytes
            self._buckets[-1].parameters.append(parameter)
            self._bucket_of[parameter] = self._buckets[-1]
            room -= parameter.nbytes
        self._next = 0  # bucket to be sent
        self._is_sending = False
        self.hooks = [p.register_post_accumulate_grad_hook(self._take) for p in parameters]

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Within, buckets are sent as soon as the backward pass has filled them."""
        for bucket in self._buckets:
            bucket.waits_for = len(bucket.parameters)
        self._is_sending = True
        try:
            yield
        finally:
            self._is_sending = False

    def _take(self, parameter: nn.Parameter) -> None:
        if not self._is_sending:
            return
        bucket = self._bucket_of[parameter]
        if bucket.wait is not None:  # its sum would lack what came just now
            text = "a gradient came twice in one backward pass, as under a reentrant checkpoint"
            fix = "parallel.bucket_mb=1000000"
            raise ConfigError.of("parallel.bucket_mb", f"{text}; send all of them after it", fix)
        bucket.waits_for -= 1
        # The last one is left for `finish`, which adds the window's numbers to it.
        while self._next < len(self._buckets) - 1 and not self._buckets[self._next].waits_for:
            self._buckets[self._next].send()
            self._next += 1

    def finish(self, numbers: Sequence[Tensor]) -> list[Tensor]:
        """Send the rest, put the sums into the gradients; returns those of `numbers`."""
        used, last = [p.grad is not None for p in self.parameters], self._buckets[-1]
        flat = packed(numbers, used)
        goes_along = _kind(flat) == _kind(last.parameters[0]) and last.dtype is None
        for bucket in self._buckets[self._next : -1]:
            bucket.send()
        last.send(*([flat] if goes_along else []))
        wait = ranks.start_sum([] if goes_along else [flat])
        self._next, sums = 0, [bucket.receive() for bucket in self._buckets]
        wait()
        flat = sums[-1][-1] if goes_along else flat
        unused = set(unused_by_all(self.parameters, used, flat))
        for bucket, pieces in zip(self._buckets, sums, strict=True):
            for parameter, piece in zip(bucket.parameters, pieces, strict=False):
                if parameter in unused:
                    continue  # as with one rank
                if parameter.is_contiguous() and piece.dtype == parameter.dtype:
                    parameter.grad = piece.view(parameter.shape)
                else:  # laid out as the weight lies, which fused kernels rely on
                    parameter.grad = torch.empty_like(parameter).copy_(piece.view(parameter.shape))
        return list(flat[: len(numbers)].unbind())


def packed(numbers: Sequence[Tensor], used: Sequence[bool]) -> Tensor:
    """One tensor of the numbers, in float32, and 1 of each parameter that this rank used."""
    flat = torch.stack([number.detach().float().reshape(()) for number in numbers])
    ones = flat.new_ones(len(used))  # nothing that the device would wait for
    return torch.cat([flat, ones if all(used) else flat.new_tensor(used, dtype=flat.dtype)])


def unused_by_all(
    parameters: Sequence[nn.Parameter], used: Sequence[bool], summed: Tensor
) -> Iterator[nn.Parameter]:
    """The parameters that no rank used, by the sum of what was `packed`."""
    if not all(used):  # else nothing need be read from the device
        counts = summed[-len(used) :].tolist()
        yield from (p for p, count in zip(parameters, counts, strict=True) if not count)


def _kind(tensor: Tensor) -> tuple[torch.dtype, torch.device]:
    return tensor.dtype, tensor.device
