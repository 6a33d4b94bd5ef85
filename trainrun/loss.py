"""Losses, one value per sample: the step sums them and divides by the count of its whole window."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainrun.config.call import PlainFunction, parameters_of
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import NonNegative, Positive, PositiveFraction


class Loss(nn.Module, metaclass=ABCMeta):
    """A function of (outputs, targets) that returns one value per sample, (N,).

    `weight` is each sample's weight in the mean. `outputs_per_target` is the number of model outputs
    per target.
    """

    outputs_per_target = 1

    def weight(self, targets: Tensor) -> Tensor | None:
        """(N,) weights, or None where every sample counts as one."""
        return None

    @abstractmethod
    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor: ...

    def of_training(self, outputs: Tensor, targets: Tensor, inputs: Any) -> Tensor:
        """What training minimises, (N,); it may also depend on the inputs."""
        losses: Tensor = self(outputs, targets)
        return losses


class CrossEntropy(Loss):
    """Softmax cross-entropy on logits (N, C); targets (N,) classes or (N, C) probabilities.

    With class weights the mean is the weighted one, sum(w_i l_i) / sum(w_i), as torch's.
    `balanced` gives class c the weight N / (C N_c), so that every class counts alike.
    """

    def __init__(
        self, class_weights: Literal["balanced"] | list[NonNegative] | None, class_counts: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.register_buffer("class_weights", _class_weights(class_weights, class_counts), persistent=False)
        self.class_weights: Tensor | None

    @property
    def gives_nats(self) -> bool:
        """Whether its values are the plain cross-entropy, which a metric need not compute again."""
        return type(self) is CrossEntropy and self.class_weights is None

    def weight(self, targets: Tensor) -> Tensor | None:
        if self.class_weights is None:
            return None
        return self.class_weights[targets] if targets.ndim == 1 else targets @ self.class_weights

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets, self.class_weights, reduction="none")


class Distillation(CrossEntropy):
    """(1 - alpha) cross-entropy + alpha T^2 KL(teacher || model), both logits / T (Hinton et al., 2015).

    T^2 keeps the size of the gradient. `teacher` names a run; `network` is its model, which sees the same
    augmented and mixed inputs in evaluation mode. A split is evaluated by the cross-entropy alone, which
    other runs can be compared by and no teacher is needed for.
    """

    def __init__(self, teacher: str, alpha: PositiveFraction, temperature: Positive) -> None:
        super().__init__(None, ())
        self.teacher, self.alpha, self.temperature = teacher, alpha, temperature
        self.network: nn.Module | None = None

    def of_training(self, outputs: Tensor, targets: Tensor, inputs: Any) -> Tensor:
        if self.network is None:
            raise ConfigError.of("loss.teacher", "is asked only where a run is trained")
        with torch.no_grad():
            taught = self.network(inputs)
        if taught.shape != outputs.shape:
            text = f"gives outputs of shape {tuple(taught.shape)}, the model {tuple(outputs.shape)}"
            raise ConfigError.of("loss.teacher", text)
        ours, theirs = (F.log_softmax(logits / self.temperature, 1) for logits in (outputs, taught))
        soft = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1) * self.temperature**2
        losses: Tensor = (1 - self.alpha) * self(outputs, targets) + self.alpha * soft
        return losses


class Focal(Loss):
    """Focal loss, -(1 - p)^gamma log p of the true class (Lin et al., 2017), on logits.

    Logits (N, C) with classes (N,), or (N, K) with binary targets (N, K): then the mean over K.
    """

    def __init__(self, gamma: NonNegative) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if targets.dtype == torch.int64:
            log_p = F.log_softmax(outputs.float(), 1).gather(1, targets[:, None])[:, 0]
            return self._focused(-log_p)
        _require_alike(outputs, targets)
        return self._focused(F.binary_cross_entropy_with_logits(outputs, targets, reduction="none")).mean(1)

    def _focused(self, cross_entropy: Tensor) -> Tensor:
        # Where p rounds to 1, a gamma below 1 would have an infinite slope.
        missing = (-torch.expm1(-cross_entropy)).clamp(min=torch.finfo(cross_entropy.dtype).tiny)
        return missing**self.gamma * cross_entropy


class BCEWithLogits(Loss):
    """Binary cross-entropy on logits (N, K); targets (N, K) in [0, 1]; the mean over K.

    `pos_weight` multiplies the positive part; `balanced` takes negatives / positives.
    """

    def __init__(
        self, pos_weight: Literal["balanced"] | Positive | None, class_counts: tuple[int, ...]
    ) -> None:
        super().__init__()
        if pos_weight == "balanced":
            if len(class_counts) != 2 or 0 in class_counts:
                raise ConfigError.of("loss.pos_weight", "balanced needs two classes with samples in both")
            pos_weight = class_counts[0] / class_counts[1]
        weight = None if pos_weight is None else torch.tensor(float(pos_weight))
        self.register_buffer("pos_weight", weight, persistent=False)
        self.pos_weight: Tensor | None

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        _require_alike(outputs, targets)
        weight = self.pos_weight
        losses = F.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weight, reduction="none")
        return losses.mean(1)


class Elementwise(Loss):
    """A regression loss of (N, K) outputs and targets, the mean over K."""

    def __init__(self, function: Callable[..., Tensor], **options: float) -> None:
        super().__init__()
        self.function, self.options = function, options

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        _require_alike(outputs, targets)
        return self.function(outputs, targets, reduction="none", **self.options).mean(1)


class MSE(Elementwise):
    """Squared error: its minimum is the mean."""

    def __init__(self) -> None:
        super().__init__(F.mse_loss)


class L1(Elementwise):
    """Absolute error (MAE): its minimum is the median."""

    def __init__(self) -> None:
        super().__init__(F.l1_loss)


class Huber(Elementwise):
    """Squared below `delta`, then delta times as steep as the absolute error (Huber, 1964)."""

    def __init__(self, delta: Positive) -> None:
        super().__init__(F.huber_loss, delta=delta)


class SmoothL1(Elementwise):
    """Huber's loss divided by `beta`: its slope beyond beta is 1 whatever beta is."""

    def __init__(self, beta: Positive) -> None:
        super().__init__(F.smooth_l1_loss, beta=beta)


class GaussianNLL(Loss):
    """Negative log-likelihood of a normal with predicted mean and variance (Nix and Weigend, 1994).

    Outputs (N, 2K): K means, then K raw scales whose softplus plus `eps` is the variance.
    """

    outputs_per_target = 2

    def __init__(self, eps: Positive) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        outputs = outputs.to(targets.dtype)  # softplus is too coarse in half precision
        mean, raw = outputs[:, : targets.shape[1]], outputs[:, targets.shape[1] :]
        _require_alike(mean, targets)
        _require_alike(raw, targets)
        variance = F.softplus(raw) + self.eps
        # As torch's function, which reads the variance on the host to refuse a negative one.
        return (0.5 * (variance.log() + (mean - targets) ** 2 / variance)).mean(1)


class Custom(Loss):
    """The user's own loss: a callable of (outputs, targets) that returns (N, ...), or one mean.

    Losses of torch.nn are set to return every sample's value, so that a short last batch stays exact;
    their class weights and `ignore_index` give the same weighted mean. With reduction `sum` or
    `batchmean` values are summed over all axes but the samples.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.sums = function, getattr(function, "reduction", "mean") in ("sum", "batchmean")
        self.is_mean = False  # whether it gives no value for each sample
        if hasattr(function, "reduction"):
            function.reduction = "none"

    def weight(self, targets: Tensor) -> Tensor | None:
        function = self.function
        if not isinstance(function, (nn.CrossEntropyLoss, nn.NLLLoss)) or targets.is_floating_point():
            return None
        counted, weights = targets != function.ignore_index, function.weight
        each = counted.float() if weights is None else weights[targets.where(counted, 0)] * counted
        return each.flatten(1).mean(1) if each.ndim > 1 else each

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = self.function(outputs, targets)
        self.is_mean = isinstance(loss, Tensor) and loss.ndim == 0
        if not isinstance(loss, Tensor):
            text = f"must return a tensor, one value or one for each sample, got {type(loss).__name__}"
            raise ConfigError.of("loss", f"{getattr(self.function, '__name__', 'it')} {text}")
        if loss.ndim < 2:
            return loss if loss.ndim else loss.expand(len(targets))
        return loss.flatten(1).sum(1) if self.sums else loss.flatten(1).mean(1)


def as_loss(function: Callable[..., Tensor]) -> Loss:
    """Wrap a function as a loss, with `reduction` "none" where it takes one; a Loss stays as it is."""
    if isinstance(function, PlainFunction) and "reduction" in parameters_of(function.function)[0]:
        function = replace(function, arguments={"reduction": "none"} | dict(function.arguments))
    return function if isinstance(function, Loss) else Custom(function)


def _class_weights(weights: str | list[float] | None, counts: tuple[int, ...]) -> Tensor | None:
    """(C,); `balanced` gives class c the weight N / (C N_c), and 0 without samples."""
    key = "loss.class_weights"
    if weights is None:
        return None
    if isinstance(weights, str):
        if not counts:
            raise ConfigError.of(key, "balanced needs data that know how many samples each class has")
        samples = torch.tensor(counts, dtype=torch.float32)
        return torch.where(samples > 0, samples.sum() / (len(counts) * samples), torch.zeros(()))
    if counts and len(weights) != len(counts):
        raise ConfigError.of(key, f"must list {len(counts)} weights, one per class, got {len(weights)}")
    return torch.tensor(weights, dtype=torch.float32)


def _require_alike(outputs: Tensor, targets: Tensor) -> None:
    """Raise ConfigError for different shapes: broadcasting them would train a wrong model silently."""
    if outputs.shape != targets.shape:
        text = f"gives outputs of shape {tuple(outputs.shape)} for targets of shape {tuple(targets.shape)}"
        raise ConfigError.of("model", text)
