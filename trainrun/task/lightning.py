"""A LightningModule as it is: `training_step` gives the loss, and what it logs becomes metrics."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from trainrun.protocols import Batch, DataInfo, InputParts, Outcome
from trainrun.task.model_loss import losses_in
from trainrun.vocabulary.errors import ConfigError

# What a module may ask of Lightning and gets here, too.
_SUPPLIED = {"log", "log_dict", "device", "global_step", "current_epoch", "hparams", "save_hyperparameters"}
_SUPPLIED |= {"training_step", "validation_step", "test_step", "predict_step", "configure_optimizers"}
_SUPPLIED |= {"print", "freeze", "unfreeze", "example_input_array", "automatic_optimization", "global_rank"}
_IN_OTHER_WORDS = {
    "train_dataloader": "give the data by data.train",
    "val_dataloader": "give the data by data.val",
    "test_dataloader": "give the data by data.test",
    "manual_backward": "steps of your own are loop.step._target_",
    "optimizers": "steps of your own are loop.step._target_",
    "lr_schedulers": "choose one by scheduler=...",
    "logger": "use self.log, or loop.probes for pictures",
    "configure_callbacks": "leave callbacks out",
    "trainer": "give it as an argument what it asks the trainer for: +model.total_steps=1000",
}


class Lightning:
    """The model is a LightningModule; nothing of Lightning's Trainer is needed.

    `training_step`, `validation_step` and `test_step` are called with (batch, batch_idx). Supplied are
    `log`, `log_dict`, `device`, `global_step`, `current_epoch` and `hparams`. Whatever else of Lightning
    a module uses, or overrides, is refused by name before training. A metric is the mean over samples.
    """

    kinds: ClassVar[tuple[str, ...]] = ("whole",)
    metric_modes: Mapping[str, str] = {"loss": "min"}
    counts_samples = True
    logs_more: ClassVar[bool] = True  # metrics of further names, which only a batch tells
    own_metrics: Mapping[str, Any] = {}

    def __init__(self, info: DataInfo) -> None:
        self.info, self.num_outputs = info, info.num_targets
        self.progress: Callable[[], tuple[int, int]] = lambda: (0, 0)  # (step, epoch) of the run

    def check(self, model: nn.Module) -> None:
        """Raise ConfigError for a model without `training_step`, or that needs more than is supplied."""
        name = type(model).__name__
        if not hasattr(model, "training_step"):
            text = f"{name} has no training_step; for such a model use task=model_loss"
            raise ConfigError.of("model", text)
        if unsupplied := sorted(_of_lightning(type(model)) - _SUPPLIED):
            fixes = dict.fromkeys(_IN_OTHER_WORDS[word] for word in unsupplied if word in _IN_OTHER_WORDS)
            text = f"lightning does not supply what {name} uses: {', '.join(unsupplied)}"
            raise ConfigError.of("task", "; ".join([text, *fixes]))

    def count(self, batch: Batch) -> Mapping[str, float | Tensor]:
        return {"loss": float(len(batch))}

    def __call__(self, model: nn.Module, batch: Batch) -> Outcome:
        kind = "training" if model.training else "test" if batch.split == "test" else "validation"
        index = self.progress()[0] if model.training else batch.number
        logged: dict[str, Tensor] = {}
        with self._attached(model, logged):
            returned = _call(model, f"{kind}_step", _whole(batch), index)
        losses = losses_in(returned, len(batch))
        if losses is None and not model.training:  # such steps often log their loss and return nothing
            # No other metric will do: it may be better if larger.
            losses = next(({"loss": logged[name]} for name in logged if "loss" in name.lower()), None)
        if losses is None:
            text = f"{kind}_step must return its loss, got {type(returned).__name__}"
            more = "" if model.training else ", or log one whose name has 'loss' in it"
            raise ConfigError.of("model", f"{text}{more}")
        loss = torch.stack([value.float().mean() for value in losses.values()]).sum()
        means = {plain_name(name): value.detach().float().mean() for name, value in logged.items()}
        sums = {name: mean * len(batch) for name, mean in means.items()}
        return Outcome({"loss": loss * len(batch)}, sums)

    def summarize(self, sums: Mapping[str, Tensor], num_samples: int) -> dict[str, float]:
        """What was logged, by its mean over the samples."""
        return {name: float(total) / num_samples for name, total in sums.items() if name != "loss"}

    def predict(self, model: nn.Module, inputs: Any) -> Tensor:
        """What `forward` returns."""
        outputs: Tensor = model(inputs)
        return outputs

    @contextmanager
    def _attached(self, model: nn.Module, logged: dict[str, Tensor]) -> Iterator[None]:
        """Let the module log and read how far the run is, for as long as one call takes."""

        def log(name: str, value: Any, *args: Any, **kwargs: Any) -> None:
            if callable(getattr(value, "compute", None)):
                text = f"log of a torchmetrics object ({name}) is not supplied; log its value"
                raise ConfigError.of("task", text)
            logged[name] = torch.as_tensor(value, dtype=torch.float32)

        def log_dict(values: Mapping[str, Any], *args: Any, **kwargs: Any) -> None:
            for name, value in values.items():
                log(name, value)

        step, epoch = self.progress()
        supplied: dict[str, Any] = {"log": log, "log_dict": log_dict}
        if hasattr(type(model), "global_step"):  # Lightning's own properties ask its trainer
            supplied["_trainer"] = SimpleNamespace(global_step=step, current_epoch=epoch, global_rank=0)
        else:
            supplied |= {"global_step": step, "current_epoch": epoch}
        before = {name: model.__dict__[name] for name in supplied if name in model.__dict__}
        model.__dict__.update(supplied)
        try:
            yield
        finally:
            for name in supplied:
                del model.__dict__[name]
            model.__dict__.update(before)


def _call(model: nn.Module, name: str, batch: Any, index: int) -> Any:
    """Call the step of this name, else the validation step, else the training step."""
    methods = (name, "validation_step", "training_step")
    own = next(method for method in methods if _is_own(type(model), method))
    step: Callable[..., Any] = getattr(model, own)
    takes_index = len(inspect.signature(getattr(type(model), own)).parameters) > 2  # FSDP wraps the method
    return step(batch, index) if takes_index else step(batch)


def plain_name(name: str) -> str:
    """`val_acc` and `val/acc` become `acc`: the split is in front of it already."""
    for split in ("train", "val", "valid", "validation", "test"):
        if name.lower().startswith((f"{split}_", f"{split}/", f"{split}-")):
            return name[len(split) + 1 :]
    return name


def _whole(batch: Batch) -> Any:
    if batch.targets is None:
        return tuple(batch.inputs) if isinstance(batch.inputs, InputParts) else batch.inputs
    return batch.inputs, batch.targets


def _is_of_lightning(owner: type) -> bool:
    return owner.__module__.partition(".")[0] in ("lightning", "pytorch_lightning", "lightning_fabric")


def _is_own(model: type, method: str) -> bool:
    """Whether the user's own classes define a method, rather than Lightning's base."""
    owner = next((owner for owner in model.__mro__ if method in vars(owner)), None)
    return owner is not None and not _is_of_lightning(owner)


def _of_lightning(model: type) -> set[str]:
    """What of Lightning the user's own classes use as attributes of `self`, or override.

    Lightning's is what its base classes define and torch's Module does not, with what all of them have.
    """
    names = {name for owner in model.__mro__ if _is_of_lightning(owner) for name in vars(owner)}
    names |= {*_IN_OTHER_WORDS, "trainer", "toggle_optimizer", "untoggle_optimizer", "all_gather", "fabric"}
    names = {name for name in names if name[:1] != "_" and not hasattr(nn.Module, name)}
    others = [owner for owner in model.__mro__ if not _is_of_lightning(owner)]
    own = [owner for owner in others if not owner.__module__.startswith("torch")]
    defined = {name for owner in own for name in vars(owner)}
    used = {name for name in defined if name in names or name.startswith("on_")}
    for owner in own:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(owner)))
        except (OSError, TypeError, SyntaxError):
            continue  # a class made in a shell, or object itself
        attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        of_self = {node.attr for node in attributes if getattr(node.value, "id", "") == "self"}
        used |= of_self & names - defined
    return used
