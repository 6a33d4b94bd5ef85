"""Number formats: what autocast really computes in, and when the loss scale moves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from trainrun import precision
from trainrun.precision import Precision, ScaledPrecision
from trainrun.vocabulary.errors import ConfigError

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _global_flags() -> Iterator[None]:
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize(
    ("policy", "dtype"),
    [
        (precision.fp32(CPU), torch.float32),
        (precision.bf16(CPU), torch.bfloat16),
        (precision.fp16(1024.0, 10, CPU), torch.float16),
    ],
    ids=["fp32", "bf16", "fp16"],
)
def test_products_are_computed_in_the_format_and_weights_stay_float32(
    policy: Precision, dtype: torch.dtype
) -> None:
    layer, picture = nn.Linear(4, 3), torch.randn(2, 4)
    convolution = nn.Conv2d(1, 2, 3)
    with policy.autocast():
        assert layer(picture).dtype == dtype
        assert convolution(torch.randn(1, 1, 5, 5)).dtype == dtype
        loss = nn.functional.cross_entropy(layer(picture), torch.tensor([0, 2]))
    assert layer(picture).dtype == torch.float32  # outside
    policy.backward(loss)
    assert layer.weight.dtype == torch.float32
    assert layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32


def test_the_format_is_as_exact_as_it_claims() -> None:
    """fp32 keeps 1 + 2^-12 in a product; fp16 (10 bits) and bf16 (7 bits) do not, and bf16 not 1 + 2^-9."""
    unit = torch.ones(1, 1)
    results = {}
    for name, policy in {
        "fp32": precision.fp32(CPU),
        "fp16": precision.fp16(1.0, 10, CPU),
        "bf16": precision.bf16(CPU),
    }.items():
        with policy.autocast():
            results[name] = [bits for bits in (7, 9, 12) if float((unit + 2**-bits) @ unit) == 1 + 2**-bits]
    assert results == {"fp32": [7, 9, 12], "fp16": [7, 9], "bf16": [7]}


def test_tf32_is_refused_where_it_has_no_effect() -> None:
    with pytest.raises(ConfigError, match="tf32 has no effect on cpu"):
        precision.tf32(CPU)


@pytest.mark.parametrize("option", ["fp32", "bf16", "fp16", "auto"])
def test_only_tf32_rounds_what_stays_in_32_bits(option: str) -> None:
    """Whatever was run before: torch's own default lets cuDNN round, and a tf32 run lets everything."""
    precision.tf32(torch.device("cuda"))  # sets flags only
    assert torch.get_float32_matmul_precision() == "high" and torch.backends.cudnn.allow_tf32
    arguments = (1024.0, 10) if option == "fp16" else ()
    getattr(precision, option)(*arguments, CPU)
    assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32


def test_fp32_is_that_whatever_the_users_code_set_for_all_kinds() -> None:
    torch.backends.fp32_precision = "tf32"
    try:
        precision.fp32(CPU)
        cudnn, mkldnn, matmul = torch.backends.cudnn, torch.backends.mkldnn, torch.backends.cuda.matmul
        kinds: list[Any] = [matmul, cudnn.conv, cudnn.rnn, mkldnn.matmul, mkldnn.conv, mkldnn.rnn]
        assert [kind.fp32_precision for kind in kinds] == ["ieee"] * 6
        assert not cudnn.allow_tf32
    finally:
        torch.backends.fp32_precision = "none"


@pytest.mark.parametrize(
    ("capabilities", "name"),
    [
        ({"avx2": True}, "fp32"),
        ({"avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"amx_bf16": True}, "bf16"),
        ({"bf16": True}, "bf16"),
    ],
)
def test_auto_is_bf16_where_the_processor_has_units_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], name: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert precision.auto(CPU).name == name


@pytest.mark.parametrize(("capability", "name"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_auto_is_bf16_on_gpus_since_ampere(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], name: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert precision.auto(torch.device("cuda")).name == name


@pytest.mark.parametrize(
    ("device", "capabilities", "reason"),
    [
        ("cpu", {"avx512_bf16": True, "amx_bf16": True}, "this device has avx512_bf16, amx_bf16"),
        ("cpu", {"avx2": True}, "this device lacks avx512_bf16, amx_bf16, bf16"),
        ("cuda", 9, "this device has compute capability 8"),
        ("cuda", 7, "this device lacks compute capability 8"),
        ("mps", {}, "this device has an Apple GPU"),
    ],
)
def test_auto_says_which_flag_decided_or_is_missing(
    monkeypatch: pytest.MonkeyPatch, device: str, capabilities: Any, reason: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (capabilities, 0))
    assert precision.why_auto(torch.device(device)) == reason


# ---- loss scaling


def gradient(policy: Precision, factor: float = 1.0) -> torch.Tensor:
    """The gradient of factor x w at the policy's scale, before unscaling."""
    w = torch.nn.Parameter(torch.ones(3))
    policy.backward((factor * w).sum())
    assert w.grad is not None
    return w.grad


def test_the_loss_is_scaled_and_the_gradient_unscaled_exactly() -> None:
    policy = precision.fp16(1024.0, 10, CPU)
    grad = gradient(policy, 0.3)
    assert torch.equal(grad, torch.full((3,), 0.3) * 1024)
    policy.unscale([grad])
    assert torch.equal(grad, torch.full((3,), 0.3))


@pytest.mark.parametrize("policy", [precision.fp32(CPU), precision.bf16(CPU)], ids=["fp32", "bf16"])
def test_the_other_formats_scale_nothing(policy: Precision) -> None:
    grad = gradient(policy, 0.3)
    assert torch.equal(grad, torch.full((3,), 0.3))
    policy.unscale([grad])
    policy.record(False)
    assert torch.equal(grad, torch.full((3,), 0.3))
    assert policy.scale == 1.0 and not policy.skips and policy.state_dict() == {}


def test_scaling_saves_small_gradients_from_vanishing_in_fp16() -> None:
    def flow(scale: float) -> float:
        policy = precision.fp16(scale, 10, CPU)
        layer = nn.Linear(1, 1, bias=False)
        with policy.autocast():
            out = layer(torch.ones(1, 1))
        policy.backward(out.float().sum() * 1e-9)  # fp16's least positive number is 6e-8
        assert layer.weight.grad is not None
        policy.unscale([layer.weight.grad])
        return float(layer.weight.grad)

    assert flow(1.0) == 0.0
    assert flow(65536.0) == pytest.approx(1e-9, rel=0.02)


def test_an_overflow_is_seen_as_not_finite_after_unscaling() -> None:
    policy = precision.fp16(2.0**120, 10, CPU)
    grad = gradient(policy, 1e10)
    policy.unscale([grad])
    assert not torch.isfinite(grad).any()


def test_the_scale_doubles_after_so_many_finite_steps_and_halves_at_an_overflow() -> None:
    policy = precision.fp16(64.0, 3, CPU)
    assert policy.skips
    scales = []
    for applied in (True, True, True, True, True, False, True, True, True, False, False):
        policy.record(applied)
        scales.append(policy.scale)
    assert scales == [64, 64, 128, 128, 128, 64, 64, 64, 128, 64, 32]


def test_the_scaler_is_torchs() -> None:
    """Scale by scale as torch.amp.GradScaler's own update, on random overflows."""
    generator = torch.Generator().manual_seed(0)
    ours = precision.fp16(1024.0, 4, CPU)
    theirs = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=4)
    w = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([w], 0.0)
    for applied in (torch.rand(100, generator=generator) > 0.15).tolist():
        w.grad = None
        theirs.scale(w.sum() * (1.0 if applied else float("inf"))).backward()
        theirs.step(optimizer)
        theirs.update()
        ours.record(applied)
        assert ours.scale == theirs.get_scale()


def test_overflow_at_a_scale_of_1_is_not_the_formats_doing() -> None:
    policy = precision.fp16(4.0, 10, CPU)
    mended = []
    for _ in range(4):
        mended.append(policy.skips)
        policy.record(False)
    assert mended == [True, True, False, False]
    assert policy.scale == 1.0


def test_the_scaler_resumes_where_it_stood() -> None:
    def run(policy: ScaledPrecision, steps: int) -> list[float]:
        scales = []
        for _ in range(steps):
            policy.record(True)
            scales.append(policy.scale)
        return scales

    whole, first, second = (ScaledPrecision(CPU, scale, 4) for scale in (8.0, 8.0, 99.0))
    wanted = run(whole, 20)
    run(first, 6)
    second.load_state_dict(first.state_dict())
    assert run(second, 14) == wanted[6:]
