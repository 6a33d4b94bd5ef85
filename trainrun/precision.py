"""Mixed precision: autocast to bf16 or fp16, TF32, and the loss scaling that fp16 needs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Count, Positive

# The flags of hardware with units for bf16, which decide `auto`, never a timing; without one bf16 is rounded
# float32, slower than fp32. Measured against fp32, per CPU-second on one thread, where a flag is set:
# avx512_bf16: products of 1024 x 1024 2.3 times, CNN 1.7, ResNet-18 1.9, MLP 1.07. Not measured: amx_bf16,
# with more products a cycle; bf16, Arm's; GPUs (Ampere's maker says 16 times) and Apple's.
BF16_FLAGS: dict[str, tuple[str, ...]] = {
    "cpu": ("avx512_bf16", "amx_bf16", "bf16"),
    "cuda": ("compute capability 8",),
    "mps": ("an Apple GPU",),
}


class Precision:
    """Autocast to `dtype` (None: none) and a loss scale of 1; weights, gradients and state stay float32."""

    def __init__(self, name: str, dtype: torch.dtype | None, device: torch.device) -> None:
        self.name, self.dtype, self.device = name, dtype, device
        self.scale = 1.0

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)

    def backward(self, loss: Tensor) -> None:
        (loss * self.scale if self.scale != 1.0 else loss).backward()

    def unscale(self, gradients: list[Tensor]) -> None:
        if self.scale != 1.0:
            torch._foreach_mul_(gradients, 1 / self.scale)

    def record(self, applied: bool) -> None:
        """Learn from whether the step's gradient was finite."""

    @property
    def skips(self) -> bool:
        """Whether a gradient that is not finite comes from the format, and its step is to be skipped."""
        return False

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


class ScaledPrecision(Precision):
    """fp16: the loss is multiplied by a power of two so that small gradients do not vanish.

    The scale halves when a gradient overflows and doubles after `growth_interval` finite steps
    (Micikevicius et al., 2018). At a scale of 1 an overflow no longer comes from the scaling.
    """

    def __init__(self, device: torch.device, init_scale: float, growth_interval: int) -> None:
        super().__init__("fp16", torch.float16, device)
        self.scale, self.growth_interval = float(init_scale), growth_interval
        self.finite_steps = 0

    @property
    def skips(self) -> bool:
        return self.scale >= 2

    def record(self, applied: bool) -> None:
        if not applied:
            self.scale, self.finite_steps = max(1.0, self.scale / 2), 0
            return
        self.finite_steps += 1
        if self.finite_steps == self.growth_interval:
            self.scale, self.finite_steps = self.scale * 2, 0

    def state_dict(self) -> dict[str, Any]:
        return {"scale": self.scale, "finite_steps": self.finite_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scale, self.finite_steps = float(state["scale"]), int(state["finite_steps"])


def fp32(device: torch.device) -> Precision:
    """32 bits everywhere, also in cuDNN's convolutions, which torch lets use TF32 by default."""
    _round_products(False)
    return Precision("fp32", None, device)


def tf32(device: torch.device) -> Precision:
    """float32 whose matrix products round their inputs to 10 bits of mantissa: NVIDIA GPUs since Ampere."""
    if device.type != "cuda":
        text = f"tf32 has no effect on {device.type}; use fp32 or bf16"
        raise ConfigError.of("precision", text, "precision=fp32")
    _round_products(True)
    return Precision("tf32", None, device)


def bf16(device: torch.device) -> Precision:
    """bfloat16 in matrix products and convolutions: float32's range in 16 bits, no scaling needed."""
    _round_products(False)
    return Precision("bf16", torch.bfloat16, device)


def fp16(init_scale: Positive, growth_interval: Count, device: torch.device) -> Precision:
    """float16 in matrix products and convolutions, with dynamic loss scaling."""
    _round_products(False)
    return ScaledPrecision(device, init_scale, growth_interval)


def auto(device: torch.device) -> Precision:
    """bf16 where the hardware has units for it, else fp32."""
    return bf16(device) if bf16_units(device) else fp32(device)


def as_precision(precision: Any, device: torch.device) -> Any:
    """Wrap a dtype, such as the user's function returns, as autocast to it; a precision stays as it is."""
    if not isinstance(precision, torch.dtype):
        return precision
    if precision == torch.float16:
        raise ConfigError.of("precision", "float16 needs loss scaling; use precision=fp16", "precision=fp16")
    _round_products(False)
    dtype = None if precision == torch.float32 else precision
    return Precision(str(precision).removeprefix("torch."), dtype, device)


def _round_products(yes: bool) -> None:
    """Set whether float32 products may use TF32; under autocast, those that it leaves in float32.

    Then for each kind: what the user's code set for all kinds would hold where the flags say nothing.
    """
    torch.set_float32_matmul_precision("high" if yes else "highest")
    torch.backends.cudnn.allow_tf32 = yes
    cudnn, mkldnn = torch.backends.cudnn, torch.backends.mkldnn
    kinds: tuple[Any, ...] = (cudnn.conv, cudnn.rnn, mkldnn.conv, mkldnn.rnn)  # type: ignore[attr-defined]
    for kind in kinds:
        kind.fp32_precision = "tf32" if yes else "ieee"


def bf16_units(device: torch.device) -> list[str]:
    """Those flags of BF16_FLAGS that this hardware has; none where fp32 is faster."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # since torch 2.11
    if device.type == "cuda":
        capabilities = {"compute capability 8": torch.cuda.get_device_capability(device)[0] >= 8}
    flags = BF16_FLAGS.get(device.type, ())
    return [flag for flag in flags if capabilities.get(flag) or device.type == "mps"]


def why_auto(device: torch.device) -> str:
    """Which flags decided, or are missing: `this device has avx512_bf16`."""
    units = bf16_units(device)
    return f"this device {'has' if units else 'lacks'} {', '.join(units or BF16_FLAGS[device.type])}"
