"""What GPUs compute at most, by name and precision: their makers' figures."""

from __future__ import annotations

import re

# 10^12 operations a second on dense matrices: 16 bits, tf32, fp32. None: no units for it, or no source.
# NVIDIA's data sheets name twice as much where a footnote says "with sparsity".
_TERAFLOPS: dict[str, tuple[float, float | None, float | None]] = {
    "B200": (2250, None, None),  # nvdam.widen.net/s/wwnsxrhm2w/blackwell-datasheet-3384703
    "H200 NVL": (835, 417, 60),  # nvidia.com/en-us/data-center/h200
    "H200": (989, 494, 67),
    "H100 NVL": (835, 417, 60),  # nvidia.com/en-us/data-center/h100
    "H100 PCIe": (756, 378, 51),
    "H100": (989, 494, 67),  # SXM: "NVIDIA H100 80GB HBM3"
    "A100": (312, 156, 19.5),  # nvidia.com/en-us/data-center/a100
    "L40S": (362, 183, 91.6),  # resources.nvidia.com/en-us-l40s/l40s-datasheet-28413
    "V100-SXM2": (125, None, 15.7),  # images.nvidia.com: volta-v100-datasheet
    "T4": (65, None, 8.1),  # nvidia.com: t4-tensor-core-datasheet-951643
    "MI300X": (1307, None, 163),  # amd.com/en/products/accelerators/instinct/mi300/mi300x
}
_COLUMNS = {"bf16": 0, "bfloat16": 0, "fp16": 0, "tf32": 1, "fp32": 2, "float32": 2}


def peak_flops(device: str, precision: str) -> float | None:
    """Operations a second that a GPU of this name makes at most; None where not known, as of a part (MIG)."""
    name = next((name for name in _TERAFLOPS if re.search(rf"\b{name}\b", device)), None)
    if name is None or precision not in _COLUMNS or "MIG" in device:
        return None
    peak = _TERAFLOPS[name][_COLUMNS[precision]]
    return None if peak is None else peak * 1e12
