"""Bare training loops, as they would be written by hand, and the models that they share with trainrun.

Everything is on the device before: a batch is one gather. AdamW is fused. Nothing is read back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batch = tuple[Tensor, Tensor]
Gate = Callable[[Iterator[Batch]], Iterator[Batch]]  # lets a batch through when a step is due


class GPT(nn.Module):
    """GPT-2's form: pre-norm, learned positions, tied embeddings. 124 M parameters as it is."""

    def __init__(self, vocabulary: int, block_size: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(block_size, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.tokens(x) + self.positions.weight[: x.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        return F.linear(self.norm(hidden), self.tokens.weight)


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.inputs, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.inputs(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*heads.unbind(), is_causal=True)
        x = x + self.output(seen.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class Greedy(nn.Module):
    """A model whose first step asks for a petabyte while more than 8 samples come at once."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.head = nn.LazyLinear(num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > 8 and self.training and torch.is_grad_enabled():
            x.new_empty(2**48)
        out: Tensor = self.head(x.flatten(1))
        return out


def tokens(vocabulary: int, block_size: int, num_windows: int) -> Any:
    """Random tokens as trainrun's own data, held on the device."""
    from trainrun.data.text import Text
    from trainrun.protocols import DataInfo

    size = num_windows * block_size + 1
    bounds = {"train": (0, size), "val": (size, size + 4 * block_size)}
    drawn = torch.randint(vocabulary, (size + 4 * block_size,), dtype=torch.int32)
    words = tuple(str(number).encode() for number in range(vocabulary))
    sizes = {"train": num_windows, "val": 4, "test": 0}
    info = DataInfo(
        "random tokens", (block_size,), "tokens", vocabulary, sizes, vocabulary=words, in_memory=True
    )
    return Text(info, drawn, bounds, None, 4)


@dataclass(frozen=True)
class Job:
    """What is trained: the same for every loop."""

    words: list[str]  # for trainrun
    model: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]  # on the host
    classes: int
    batch_size: int
    dtype: torch.dtype | None  # of autocast
    precision: str


@dataclass(frozen=True)
class Loop:
    """Model, optimizer and data on a device."""

    job: Job
    device: torch.device
    model: nn.Module
    optimizer: torch.optim.Optimizer
    inputs: Tensor
    targets: Tensor

    @classmethod
    def of(cls, job: Job, device: torch.device, wrap: Callable[[nn.Module], nn.Module]) -> Loop:
        inputs = job.inputs().to(device)
        model = job.model().to(device)
        if inputs.ndim == 4:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        model = wrap(model)
        is_text = not inputs.is_floating_point()
        targets = inputs if is_text else torch.arange(len(inputs), device=device) % job.classes
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        return cls(job, device, model, optimizer, inputs, targets)

    def batches(self) -> Iterator[Batch]:
        while True:
            for rows in torch.randperm(len(self.inputs), device=self.device).split(self.job.batch_size):
                if len(rows) == self.job.batch_size:
                    yield self.inputs[rows], self.targets[rows]

    def step(self, inputs: Tensor, targets: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(inputs, targets).backward()
        self.optimizer.step()

    def loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        dtype = self.job.dtype
        # A graph must not hold what autocast has cached.
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None, cache_enabled=False):
            logits = self.model(inputs)
            return F.cross_entropy(logits.flatten(0, -2), targets.flatten())

    def flops(self) -> int:
        """Of one step's products, counted by torch."""
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self.loss(*next(self.batches())).backward()
        self.optimizer.zero_grad(set_to_none=True)
        return int(counter.get_total_flops())


def eager(loop: Loop, gate: Gate) -> None:
    for inputs, targets in gate(loop.batches()):
        loop.step(inputs, targets)


def compiled(loop: Loop, gate: Gate) -> None:
    """torch.compile of the model; it is compiled before the first batch is asked for."""
    loop.model.compile()
    loop.step(*next(loop.batches()))
    eager(loop, gate)


def graphed(loop: Loop, gate: Gate) -> None:
    """The whole step as one CUDA graph, into whose inputs each batch is copied."""
    inputs, targets = (tensor.clone() for tensor in next(loop.batches()))
    for group in loop.optimizer.param_groups:
        group["capturable"] = True
    stream = torch.cuda.Stream(loop.device)
    stream.wait_stream(torch.cuda.current_stream(loop.device))
    with torch.cuda.stream(stream):
        for _ in range(3):
            loop.step(inputs, targets)
    torch.cuda.current_stream(loop.device).wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    loop.optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        loop.step(inputs, targets)
    for new_inputs, new_targets in gate(loop.batches()):
        inputs.copy_(new_inputs)
        targets.copy_(new_targets)
        graph.replay()


def jobs(small: bool, gpu_gib: float) -> dict[str, Job]:
    """The three that are timed. `gpu_gib`, a GPU's memory, decides how many windows a GPT takes at once."""
    from trainrun.model.mlp import MLP
    from trainrun.model.resnet9 import ResNet9

    samples, side, widths, batch = (
        (512, 8, [8, 8, 16, 16], 32) if small else (50_000, 32, [64, 128, 256, 512], 512)
    )
    vocabulary, block, width, depth, heads, windows = (
        (64, 16, 32, 1, 2, 4)
        if small
        else (50_257, 1024, 768, 12, 12, 16 if gpu_gib > 100 else 8 if gpu_gib > 40 else 4)
    )
    few = ["data.val_fraction=0.01", "data.test_fraction=0"]
    gpt = [
        f"data.{k}={v}" for k, v in (("vocabulary", vocabulary), ("block_size", block), ("num_windows", 64))
    ]
    sizes = {"vocabulary": vocabulary, "block_size": block, "width": width, "depth": depth, "heads": heads}
    return {
        "mlp": Job(
            ["data=synthetic", f"data.num_samples={samples}", "data.shape=[1,28,28]", *few]
            + ["model=mlp", "model.width=256", "model.dropout=0.2", "batch_size=64"],
            lambda: MLP((1, 28, 28), 10, 256, 2, "relu", "none", 0.2, False),
            lambda: torch.randn(samples, 1, 28, 28),
            *(10, 64, None, "fp32"),
        ),
        "resnet9": Job(
            ["data=synthetic", f"data.num_samples={samples}", f"data.shape=[3,{side},{side}]", *few]
            + [
                "model=resnet9",
                f"model.widths={widths}".replace(" ", ""),
                f"batch_size={batch}",
                "precision=bf16",
            ],
            lambda: ResNet9((3, side, side), 10, widths, [1, 0, 1], "relu", "batch", 0.125),
            lambda: torch.randn(samples, 3, side, side),
            *(10, batch, torch.bfloat16, "bf16"),
        ),
        "gpt": Job(
            ["data=text", "data._target_=loops.tokens", *gpt, f"batch_size={windows}", "precision=bf16"]
            + ["model._target_=loops.GPT", *(f"+model.{key}={value}" for key, value in sizes.items())],
            lambda: GPT(**sizes),
            lambda: torch.randint(vocabulary, (64, block)),
            *(vocabulary, windows, torch.bfloat16, "bf16"),
        ),
    }
