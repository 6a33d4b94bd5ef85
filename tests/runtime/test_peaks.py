"""The peaks of GPUs, by the names that torch gives them."""

from __future__ import annotations

import pytest

from trainrun.runtime.peaks import peak_flops


@pytest.mark.parametrize(
    ("device", "precision", "teraflops"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989),
        ("NVIDIA H100 PCIe", "bf16", 756),
        ("NVIDIA H100 NVL", "fp16", 835),
        ("NVIDIA H200", "tf32", 494),
        ("NVIDIA A100-SXM4-80GB", "fp32", 19.5),
        ("NVIDIA A100-PCIE-40GB", "bfloat16", 312),
        ("Tesla T4", "fp16", 65),
        ("Tesla V100-SXM2-16GB", "fp32", 15.7),
        ("AMD Instinct MI300X", "bf16", 1307),
    ],
)
def test_a_gpu_is_known_by_its_name(device: str, precision: str, teraflops: float) -> None:
    assert peak_flops(device, precision) == pytest.approx(teraflops * 1e12)


@pytest.mark.parametrize(
    ("device", "precision"),
    [
        ("NVIDIA RTX A1000", "bf16"),  # no A100
        ("NVIDIA T400 4GB", "fp16"),  # no T4
        ("NVIDIA GH200 480GB", "bf16"),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", "bf16"),  # a part of one
        ("NVIDIA A100-SXM4-80GB", "float64"),
        ("Tesla T4", "tf32"),  # has no units for it
        ("CPU", "fp32"),
    ],
)
def test_of_others_nothing_is_said(device: str, precision: str) -> None:
    assert peak_flops(device, precision) is None
