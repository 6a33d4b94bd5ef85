"""The seams: what data, task, schedule, regulariser, step and logger look like to the loop.

Whatever has these methods fits; nothing is registered and nothing needs to inherit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from trainrun.vocabulary.events import Event
from trainrun.vocabulary.ranges import Count

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True)
class Position:
    """Where training stands: `offset` samples into `epoch`. The end of an epoch is the start of the next."""

    epoch: int = 0
    offset: int = 0
    stream: Mapping[str, Any] | None = field(default=None, compare=False)  # where one stands by its own state


@dataclass(frozen=True)
class Batch:
    """One micro-batch on the device that trains. N samples."""

    inputs: Any  # (N, ...); anything the model takes
    targets: Any  # (N,), (N, outputs) or (N, classes) as probabilities
    indices: Sequence[int] | Tensor  # (N,): which samples these are
    position: Position  # where the data stand after this batch
    is_mixed: bool = False  # of several samples each, with targets to match
    unsmoothed: Any = None  # the targets before label smoothing: what class weights average over, as in torch
    split: str = ""  # which is evaluated; empty in training
    number: int = 0  # of this batch in its evaluation
    weights: Tensor | None = None  # (N,): what each sample's loss counts; None: all alike

    def __len__(self) -> int:
        return len(self.indices)

    def weighed(self, weights: Tensor | None, device: torch.device) -> Batch:
        """The same with the samples' own of all `weights`, where there are any."""
        return self if weights is None else replace(self, weights=weights[self.indices].to(device))

    @property
    def ends_epoch(self) -> bool:
        return self.position.offset == 0  # the next one begins another


class InputParts(tuple[Any, ...]):
    """Inputs of several parts without names: a model gets them one by one, in this order."""


IGNORED = -100  # a target that is none: where a window of tokens is longer than the text

Window = Sequence[Batch]  # the micro-batches of one optimizer step


@dataclass(frozen=True)
class BatchSpec:
    """How an epoch's order is cut: windows of `window` samples, each into micro-batches."""

    batch_size: int  # samples per micro-batch and rank
    accumulate: Count  # micro-batches per optimizer step
    num_ranks: int = 1
    rank: int = 0  # whose micro-batches are wanted: every num_ranks-th of a window, from this one on

    @property
    def window(self) -> int:
        return self.batch_size * self.accumulate * self.num_ranks


@dataclass(eq=False)
class TargetScaling:
    """Mean and std of regression outputs, (K,). Data and task share one, which the data move in place."""

    mean: Tensor
    std: Tensor


@dataclass(eq=False)
class PixelRange:
    """What values are black and white, (C, 1, 1). Data and augmentation share one, moved in place."""

    black: Tensor
    white: Tensor


@dataclass(frozen=True)
class Preprocessing:
    """What weights were trained to see: the shorter side resized, the middle cut out, standardised."""

    source: str  # whose it is, for people
    size: int  # pixels of the square that is cut out
    resize: int  # pixels of the shorter side before
    mean: tuple[float, ...]  # of each channel, white being 1
    std: tuple[float, ...]
    interpolation: str  # "bilinear" or "bicubic"


@dataclass(frozen=True)
class Shard:
    """Which batches of a split are one rank's: every `num_ranks`-th, from the `rank`-th on."""

    rank: int = 0
    num_ranks: int = 1


ALL = Shard()


@dataclass(frozen=True)
class DataInfo:
    """What the rest of the run needs to know of the data."""

    name: str
    input_shape: tuple[int, ...]  # of one sample, channels first
    kind: str  # what the targets are: "classes", "labels" (several per sample), "values", "tokens" or "other"
    num_targets: int  # classes, labels or regression outputs
    sizes: Mapping[str, int | None]  # samples per split; None for a stream without length
    class_names: tuple[str, ...] = ()
    class_counts: tuple[int, ...] = ()  # of the training split
    target_scaling: TargetScaling | None = None  # what standardises regression targets
    pixels: PixelRange | None = None  # of pictures whose black and white are known
    input_scaling: str = ""  # for people: what inputs were standardised by
    vocabulary: tuple[bytes, ...] = ()  # of token inputs: what each stands for
    in_memory: bool = False  # no loader processes are needed
    fingerprint: str = ""  # of the samples' content
    files: str = ""  # fingerprint of the bytes of all files, where samples are read when needed
    notes: tuple[str, ...] = ()  # what was made of them, for the plan
    input_parts: str = ""  # what inputs are, in words, where they are not one tensor

    @property
    def identity(self) -> dict[str, Any]:
        """What tells these data from others; stored with the run and compared when it goes on."""
        identity = {"name": self.name, "fingerprint": self.fingerprint, "sizes": dict(self.sizes)}
        return identity | ({"files": self.files} if self.files else {})


@runtime_checkable
class Data(Protocol):
    info: DataInfo

    def to(self, device: torch.device) -> None:
        """Move what fits to the device that trains."""

    def train_batches(self, position: Position, batch_spec: BatchSpec, seed: int) -> Iterator[Batch]:
        """Micro-batches without end, beginning at `position`. Pure in (seed, epoch).

        Those of all ranks together are what one rank would get. All ranks get equally many, where
        samples are short with none in them, and each batch's position is that after all of its round.
        """

    def eval_batches(self, split: str, share: Shard = ALL) -> Iterator[Batch]:
        """Every sample of "train", "val" or "test" exactly once, in order; of several ranks one's share."""

    def fitted(self) -> dict[str, Any]:
        """What was estimated from the training split: stored with the weights, never refitted."""

    def restore(self, fitted: Mapping[str, Any]) -> None:
        """Use the stored estimates in place of the own ones."""


@runtime_checkable
class Stored(Protocol):
    """Data that also give training batches as they are stored, of which bytes are the cheapest to move."""

    stored_black: Tensor  # what is black in them
    stored_white: Tensor

    def stored_batches(self, position: Position, batch_spec: BatchSpec, seed: int) -> Iterator[Batch]:
        """What `train_batches` gives, but for `standardized`."""

    def standardized(self, inputs: Tensor) -> Tensor:
        """Copies of stored inputs as the model sees them; may change them in place."""


@dataclass(frozen=True)
class Samples:
    """What a file holds beside the data that were trained on."""

    batches: Iterator[Batch]  # in order, scaled as in training; targets are None where the file has none
    names: Sequence[str] = ()  # of the samples, where they have any
    notes: Sequence[str] = ()  # what training has not met, for people


@runtime_checkable
class Readable(Protocol):
    """Data that can read further samples, to be predicted."""

    def read(self, file: Path) -> Samples:
        """Raises DataError naming the file and what is wrong with it."""


class Parallel(Protocol):
    """How the ranks of a run share its work."""

    shards: bool  # whether weights are divided among the ranks, so that all must make every pass
    blocks: str  # a pattern of the modules that are divided one by one

    def require_ranks(self) -> None:
        """Raises ConfigError where training would ignore how it shares work."""

    def place(
        self, model: nn.Module, device: torch.device, dtype: torch.dtype | None, blocks: Sequence[str]
    ) -> nn.Module:
        """The model where it trains, divided where weights are; `dtype` is that of its autocast."""

    def clone(self, model: nn.Module) -> nn.Module:
        """A copy of a placed model, with its values."""

    def micro_batch(
        self, model: nn.Module, parameters: Sequence[nn.Parameter], is_last: bool, is_empty: bool = False
    ) -> AbstractContextManager[Any]:
        """Within, one forward and backward pass, of a window's micro-batches the last or another.

        `is_empty`: it is made because others make it, and uses no weight.
        """

    def sum_gradients(self, parameters: Sequence[nn.Parameter], numbers: Sequence[Tensor]) -> list[Tensor]:
        """End a window of several ranks: all gradients are sums over them. Returns those of `numbers`."""

    def norm(self, gradients: list[Tensor]) -> Tensor:
        """The L2 norm of the whole gradient."""


@dataclass(frozen=True)
class Outcome:
    """What a task makes of one micro-batch. All values are sums over it, not means."""

    terms: Mapping[str, Tensor]  # loss terms, with gradient
    sums: Mapping[str, Tensor]  # what metrics are made of, without gradient
    outputs: Tensor | None = None  # only read when the user's own metrics need them
    targets: Tensor | None = None  # what they are compared with; None: the batch's


class TaskProtocol(Protocol):
    num_outputs: int
    metric_modes: Mapping[str, str]  # metric name -> "max" or "min": which way is better
    own_metrics: Mapping[str, Callable[..., Any]]  # the user's: (outputs, targets) of the whole split

    def count(self, batch: Batch) -> Mapping[str, float | Tensor]:
        """What each loss term is averaged over, known before the forward pass."""

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome: ...

    def summarize(self, sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
        """Metrics from the sums over a split or a log window; takes what is there."""

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        """Probabilities or values, (N, outputs)."""


# An update's index -> learning-rate factor and absolute momentum (None: leave it).
Schedule = Callable[[int], tuple[float, float | None]]


@runtime_checkable
class ObservingSchedule(Protocol):
    """A schedule that a metric steers, so that it has state of its own."""

    def __call__(self, update: int) -> tuple[float, float | None]: ...
    def observe(self, metric: float) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class NonFiniteReport:
    """What first was not finite in a step."""

    where: str
    samples: Sequence[int]  # in which it is seen, or all of the step
    norm: float  # of the gradient
    replay: Mapping[str, Any]  # `batches` and `model`, on the host: what it takes to see it again


@dataclass(frozen=True)
class StepResult:
    """What one attempted optimizer step did. Tensors stay on the device until they are logged."""

    num_samples: int
    terms: Mapping[str, Tensor]  # sums over the window
    counts: Mapping[str, float | Tensor]  # what the terms are averaged over
    sums: Mapping[str, Tensor]  # of the task's metrics
    norm: float  # of the whole gradient, before clipping
    norm_after: float | Tensor  # and after
    applied: bool  # False: the gradient was not finite and no weight changed
    penalties: Mapping[str, Tensor] = field(default_factory=dict)
    health: Mapping[str, Any] = field(default_factory=dict)  # of steps that end a log window, nested numbers
    finding: NonFiniteReport | None = None  # why it was not, where that is not the number format's doing


Step = Callable[[Any, Window], StepResult]  # (TrainState, window); the state is above this file
Logger = Callable[[Event], None]
