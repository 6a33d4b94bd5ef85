"""Tensors that ranks hold in shards (DTensors): this rank's part, and the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # torch's DTensor is imported where there are any
    from torch import Tensor, nn


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor that is divided, in place; any other as it is."""
    shard: Tensor = getattr(tensor, "_local_tensor", tensor)
    return shard


def whole(tensor: Tensor) -> Tensor:
    """A tensor that is divided, gathered; all ranks call it at once. Any other as it is."""
    gathered: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered


def part(tensor: Tensor, like: Any) -> Tensor:
    """This rank's part of a whole tensor that is to be divided as `like` is; all of it where that is not."""
    if not hasattr(like, "placements"):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    everywhere = [Replicate()] * like.device_mesh.ndim
    same = DTensor.from_local(tensor, like.device_mesh, everywhere, run_check=False)
    return local(same.redistribute(placements=like.placements))


def num_shards(model: nn.Module) -> int:
    """By how many ranks a model's weights are divided."""
    weights: list[Any] = [p for p in model.parameters() if hasattr(p, "device_mesh")]
    return int(weights[0].device_mesh.size(-1)) if weights else 1
