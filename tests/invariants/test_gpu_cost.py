"""What one step and one evaluated batch ask of a GPU: kernels and waits of the host, which may not grow.

Of the backward pass, which is torch's own, nothing is counted; of foreach one kernel for each call.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from fake_gpu import GPU, MEMORY_BYTES, fake_gpu

from trainrun.assembly.build import Parts, build
from trainrun.checkpoint.snapshot import Snapshot
from trainrun.config.compose.composer import Composer
from trainrun.data.text import Text
from trainrun.loop.evaluate import collect, shared_batches
from trainrun.protocols import DataInfo

ONE_READ = Counter(read=1)  # of the gradient's norm
GPT = "data=text model=gpt model.depth=2 model.width=32 precision=bf16 batch_size=8 budget=20step"


def parts_of(words: str) -> Parts:
    settings = ["runtime.device=cuda:0", "logger=none", *words.split()]
    return build(Composer().checked(settings).settings)


@pytest.mark.parametrize(
    ("words", "launches", "waits"),
    [
        ("data=digits model=mlp", 26, ONE_READ),
        ("data=digits model=mlp loop.clip.norm=0.5", 27, ONE_READ),
        ("data=digits model=mlp loop.accumulate=3", 70, ONE_READ),
        ("data=digits model=mlp 'regularization=[mixup,ema,label_smoothing]'", 43, ONE_READ),
        ("data=diabetes model=mlp loss=gaussian_nll", 33, ONE_READ),
        ("data=digits model=cnn", 41, ONE_READ),
        (GPT, 134, ONE_READ),
        ("data=iris model=mlp optimizer=lbfgs", 39, Counter(read=4)),  # two of them torch's own
    ],
)
def test_a_step_asks_no_more_of_a_gpu(words: str, launches: int, waits: Counter[str], tmp_path: Path) -> None:
    with fake_gpu() as counts:
        parts = parts_of(words.replace("'", ""))
        loop, state = parts.loop(tmp_path, "run", None, parts.runtime.signals()), parts.state
        windows = loop.windows(state)
        for _ in range(2):  # the first makes the optimizer's state
            counts.clear()
            state.meter.add(loop.step(state, next(windows)))
        assert counts.waits <= waits, "the host waits for the GPU more often than before"
        assert counts.launches.total() <= launches, f"more kernels than before: {counts.launches}"
        counts.clear()
        state.meter.read_log()
        assert counts.waits <= ONE_READ, "a log reads more than once"


@pytest.mark.parametrize(
    ("words", "launches"),
    [
        ("data=digits model=mlp", 20),
        ("data=breast_cancer model=mlp", 21),
        ("data=diabetes model=mlp", 27),
        (GPT, 116),
    ],
)
def test_an_evaluated_batch_is_not_waited_for(words: str, launches: int) -> None:
    with fake_gpu() as counts, torch.inference_mode():
        with torch.inference_mode(False):
            parts = parts_of(words)
        batch = next(shared_batches(parts.data, "val"))
        parts.state.model.eval()
        counts.clear()
        collect(parts.state.model, parts.task, [batch], parts.state.precision)
    assert not counts.waits
    assert counts.launches.total() <= launches, f"more kernels than before: {counts.launches}"


def test_data_that_would_fill_a_gpu_stay_on_the_host() -> None:
    with fake_gpu() as counts:
        tokens = torch.zeros(MEMORY_BYTES // 2 + 1, dtype=torch.uint8)
        info = DataInfo("toy", (8,), "tokens", 256, {})
        data = Text(info, tokens, {"train": (0, 1000)}, limit=None, eval_batch_size=4)
        data.to(GPU)
        counts.clear()
        batch = next(data.eval_batches("train"))
        assert (data.tokens.device.type, data.storage.type) == ("cpu", "cpu")
        assert {part.device for part in (batch.inputs, batch.targets, batch.indices)} == {GPU}
        data = Text(info, tokens[1:], {"train": (0, 1000)}, limit=None, eval_batch_size=4)
        data.to(GPU)
        assert data.tokens.device == GPU


def test_a_snapshot_waits_for_each_gpu_that_it_copies_from(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu() as counts:
        waited: list[torch.device] = []
        monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
        second = torch.device("cuda", 1)
        tree = {"model": torch.ones(3, device=second), "step": torch.ones(2)}
        counts.clear()
        Snapshot().take(tree)
        assert waited == [second]
        assert not counts.waits  # before all are queued
