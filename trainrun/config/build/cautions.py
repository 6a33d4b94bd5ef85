"""What works and is seldom meant: a line each, before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trainrun.duration import parse
from trainrun.model.attention import Attention
from trainrun.protocols import Cut, DataInfo
from trainrun.state import TrainState

Settings = Mapping[str, Any]
_FEW = 8  # samples, from which mean and variance are poor estimates
_RISING = ("one_cycle", "cyclic")  # begin low by themselves


def cautions(settings: Settings, info: DataInfo, state: TrainState, cut: Cut) -> tuple[tuple[str, str], ...]:
    """(label, text) lines for people; mostly none."""
    modules = list(state.model.modules())
    found = [*_decayed_twice(settings), *_tiny_batches(modules, cut), *_no_warm_up(settings, modules)]
    found += _mirrored_digits(settings, info)
    return tuple(("caution", text) for text in found)


def _decayed_twice(settings: Settings) -> Iterator[str]:
    chosen, decay = settings["regularization"] or {}, settings["optimizer"].get("weight_decay")
    names = [name for name in ("l2", "elastic") if name in chosen]
    if names and decay:
        text = f"decays weights that optimizer.weight_decay={decay:g} decays already: choose one of the two"
        yield f"{' and '.join(names)} {text}"


def _tiny_batches(modules: list[nn.Module], cut: Cut) -> Iterator[str]:
    norms = [m for m in modules if isinstance(m, _BatchNorm)]
    seen = cut.batch_size * (cut.num_ranks if norms and isinstance(norms[0], nn.SyncBatchNorm) else 1)
    if norms and seen < _FEW:
        text = f"batch norm estimates mean and variance from {seen} sample{'s' if seen > 1 else ''} at a time"
        yield f"{text}: take a larger batch_size, or another norm"


def _no_warm_up(settings: Settings, modules: list[nn.Module]) -> Iterator[str]:
    scheduler = settings["scheduler"]
    warmup, name = scheduler.get("warmup"), str(scheduler["_target_"]).rpartition(".")[2]
    attends = any(isinstance(m, (Attention, nn.MultiheadAttention)) for m in modules)
    if attends and warmup is not None and parse(warmup).value == 0 and name not in _RISING:
        yield "transformers often diverge without a warm-up: scheduler.warmup=5%"


def _mirrored_digits(settings: Settings, info: DataInfo) -> Iterator[str]:
    """A 2 that is mirrored is no 2, and looks much like a 5."""
    if settings["augment"].get("flip") and info.class_names and all(map(str.isdigit, info.class_names)):
        yield f"augment.flip mirrors {info.name}, whose classes are digits: augment.flip=0"
