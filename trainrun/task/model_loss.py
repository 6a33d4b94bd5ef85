"""A model that brings its loss: called with the whole batch, it returns the loss in any usual form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainrun.protocols import IGNORED, Batch, DataInfo, InputParts, Outcome
from trainrun.vocabulary.errors import ConfigError

# How a batch may say what its loss is a mean of; the second is Hugging Face's.
_COUNTS = ("count", "num_items_in_batch")
_FORMS = "a tensor, (logits, loss), (loss, ...), a dict of losses, or an object with .loss"


class ModelLoss:
    """The model is called with all entries of a batch and returns its loss.

    The loss is a mean over the batch; alone it may also have one value per sample. It may come as a
    tensor, in a tuple with the outputs, as `.loss` of an object or entry of a dict, or as a dict of
    losses, which are summed and become curves. A batch with an entry `count` or `num_items_in_batch`
    says what its loss is a mean of, so that windows of unequal batches stay exact; else samples count.
    """

    kinds: ClassVar[tuple[str, ...]] = ("whole",)
    metric_modes: Mapping[str, str] = {"loss": "min"}
    logs_more: ClassVar[bool] = True  # metrics of further names, which only a batch tells
    own_metrics: Mapping[str, Any] = {}

    def __init__(self, info: DataInfo, ignore_index: int) -> None:
        self.info, self.num_outputs, self.ignore_index = info, info.num_targets, ignore_index
        self.vocab_size = len(info.vocabulary) or (info.num_targets if info.kind == "tokens" else None)

    def count(self, batch: Batch) -> Mapping[str, float | Tensor]:
        entries = batch.inputs if isinstance(batch.inputs, Mapping) else {}
        count = next((entries[name] for name in _COUNTS if name in entries), len(batch))
        return {"loss": count.sum() if isinstance(count, Tensor) else float(count)}

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        batch = self._ignoring(batch)
        returned = model(whole(batch))
        losses = losses_in(returned, len(batch))
        if losses is None and not model.training:
            with _training_modes(model):  # torchvision's detectors give their losses only while they train
                losses = losses_in(model(whole(batch)), len(batch))
        if losses is None:
            raise ConfigError.of("model", f"must return its loss: {_FORMS}; got {_described(returned)}")
        means = {name: loss.float().mean() for name, loss in losses.items()}
        total = torch.stack(list(means.values())).sum()
        if model.training and torch.is_grad_enabled() and not total.requires_grad:
            raise ConfigError.of("model", "its loss does not depend on its weights; is it detached?")
        sums = {name: mean.detach() * len(batch) for name, mean in means.items() if name != "loss"}
        return Outcome({"loss": total * self.count(batch)["loss"]}, sums)

    def _ignoring(self, batch: Batch) -> Batch:
        """The batch with targets that are none as the model calls them."""
        targets = batch.targets
        if self.ignore_index == IGNORED or not isinstance(targets, Tensor) or targets.is_floating_point():
            return batch
        return replace(batch, targets=targets.masked_fill(targets == IGNORED, self.ignore_index))

    def summarize(self, sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
        """Each loss of a dict, by its mean over the samples."""
        return {name: float(total) / num_samples for name, total in sums.items()}

    def predict(self, model: nn.Module, inputs: Any) -> Tensor:
        """The logits, or the first tensor that is no loss, (N, ...)."""
        outputs = outputs_in(model(inputs))
        if outputs is None:
            raise ConfigError.of("task", "model_loss cannot predict: the model returns nothing but its loss")
        return outputs[:, None] if outputs.ndim == 1 else outputs


def losses_in(returned: Any, num_samples: int) -> dict[str, Tensor] | None:
    """The losses by name in what a model returned, "loss" where it is a single one; None where there is none.

    A loss is one number; alone it may also have a value for each of `num_samples`.
    """
    loss = returned.get("loss") if isinstance(returned, Mapping) else getattr(returned, "loss", None)
    if isinstance(loss, Tensor) and _is_loss(loss):
        return {"loss": loss}
    if isinstance(returned, Tensor):
        is_of_each = returned.is_floating_point() and returned.shape == (num_samples,)
        return {"loss": returned} if is_of_each or _is_loss(returned) else None
    if isinstance(returned, Mapping):
        losses = {str(name): value for name, value in returned.items() if _is_loss(value)}
        return losses if losses and len(losses) == len(returned) else None
    if isinstance(returned, Sequence) and not isinstance(returned, str):
        scalars = [value for value in returned if _is_loss(value)]
        return {"loss": scalars[0]} if len(scalars) == 1 else None
    return None


def _is_loss(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 0


def whole(batch: Batch) -> Any:
    """All entries of a batch, as the model is called with them."""
    return batch.inputs if batch.targets is None else InputParts((batch.inputs, batch.targets))


def outputs_in(returned: Any) -> Tensor | None:
    """The logits, or the first tensor that is no loss, in what a model returned."""
    if isinstance(returned, Tensor):
        return None if _is_loss(returned) else returned
    if (logits := getattr(returned, "logits", None)) is not None:
        return logits  # type: ignore[no-any-return]
    if not isinstance(returned, (Mapping, tuple, list)):
        return None
    values = returned.values() if isinstance(returned, Mapping) else returned
    return next((value for value in values if isinstance(value, Tensor) and value.ndim), None)


@contextmanager
def _training_modes(model: nn.Module) -> Iterator[None]:
    """Put all modules into training mode but those that would change or draw: norms and dropout."""
    modes = {module: module.training for module in model.modules()}
    still = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    for module in modes:
        module.training = not isinstance(module, still)
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _described(returned: Any) -> str:
    if isinstance(returned, Tensor):
        return f"a tensor of shape {tuple(returned.shape)}"
    if isinstance(returned, Mapping):
        return f"a dict with {', '.join(map(str, returned))}"
    return f"a {type(returned).__name__}"
