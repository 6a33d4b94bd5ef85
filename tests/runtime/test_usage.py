"""Memory and use, against what the system and the driver say in other words."""

from __future__ import annotations

import mmap
import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from trainrun.runtime import usage


def test_the_memory_of_the_process_is_what_the_system_says() -> None:
    status = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert status is not None
    use = usage.machine_use(torch.device("cpu"))
    assert set(use) == {"rss_bytes", "rss_peak_bytes"}
    assert use["rss_bytes"] == pytest.approx(1024 * int(status[1]), rel=0.05)
    ballast = mmap.mmap(-1, 64 << 20)  # pages of its own: an allocator may have kept as much for later
    ballast.write(os.urandom(1 << 20) * 64)
    more = usage.machine_use(torch.device("cpu"))
    assert more["rss_bytes"] >= use["rss_bytes"] + len(ballast) // 2
    ballast.close()
    after = usage.machine_use(torch.device("cpu"))
    assert after["rss_bytes"] < more["rss_bytes"] < 1.01 * after["rss_peak_bytes"]
    assert usage.largest_peaks(after) == {}, "of one rank they say nothing more"


class Driver:
    """Stands in for the driver's library."""

    failed = 0

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:
        assert uuid == b"GPU-abc"
        return self.failed

    def nvmlDeviceGetUtilizationRates(self, handle: Any, use: Any) -> int:
        use._obj[0] = 37
        return self.failed


@pytest.mark.parametrize(("failed", "expected"), [(0, {"gpu_use": 0.37}), (3, {})])
def test_a_gpu_is_asked_by_its_own_name(
    failed: int, expected: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver()
    driver.failed = failed
    usage._handle.cache_clear()
    monkeypatch.setattr(usage, "_driver", lambda: driver)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="abc"))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 12345)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 23456)
    use = usage.machine_use(torch.device("cuda", 0))
    del use["rss_bytes"], use["rss_peak_bytes"]
    assert use == {"gpu_bytes": 12345, "gpu_peak_bytes": 23456} | expected


def test_without_the_driver_there_is_no_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_driver", lambda: None)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 1)
    assert "gpu_use" not in usage.machine_use(torch.device("cuda"))
