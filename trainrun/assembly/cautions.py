"""What works and is seldom meant: a line each, before training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from trainrun.assembly.costs import listed
from trainrun.assembly.factory import Settings, option_of
from trainrun.config.paths import CONF
from trainrun.config.plain import read_option
from trainrun.model.attention import Attention
from trainrun.model.layers import DropPath
from trainrun.scheduler import Plateau
from trainrun.scheduler.configured import Configured
from trainrun.vocabulary.duration import Pace, parse, to_steps

if TYPE_CHECKING:
    from trainrun.assembly.build import Parts

_FEW = 8  # samples, from which mean and variance are poor estimates
_LONG = 1 / 3  # of a run, for a warm-up: 1 to 10 % are usual
_FEW_STEPS = 50  # of a trial, which make no whole cycles
_HIGH = 0.25  # of the way up to the top rate, at the end of a run: weights have not settled
_POINTS = 400  # of a schedule that are looked at: narrow peaks show, and it takes milliseconds
_RISING = ("one_cycle", "cyclic")  # begin low by themselves


def cautions(parts: Parts) -> tuple[tuple[str, str], ...]:
    """(label, text) lines for people; mostly none."""
    checks = [_decayed_twice, _tiny_batches, _no_warm_up, _noisy_curvature, _mirrored_digits, _frozen_noise]
    checks += [_idle_parallel]
    if not parse(parts.settings["budget"]).is_clock:
        checks += [_long_warm_up, _late_drops, _ends_high]
    return tuple(("caution", text) for check in checks for text in check(parts))


def _decayed_twice(parts: Parts) -> Iterator[str]:
    chosen = parts.settings["regularization"] or {}
    decay = parts.settings["optimizer"].get("weight_decay")
    names = [name for name in ("l2", "elastic") if name in chosen]
    if names and decay:
        text = f"decays weights that optimizer.weight_decay={decay:g} decays already: choose one of the two"
        yield f"{' and '.join(names)} {text}"


def _idle_parallel(parts: Parts) -> Iterator[str]:
    """Settings of how ranks share their work, where there is one."""
    chosen, default = parts.settings["parallel"], read_option(CONF / "parallel" / "ddp.yaml", "parallel")
    changed = [name for name, value in chosen.items() if default.get(name, value) != value]
    if parts.batch_spec.num_ranks == 1 and changed:
        names = listed(["parallel" if name == "_target_" else f"parallel.{name}" for name in changed])
        yield f"{names} {'have' if changed[1:] else 'has'} no effect in one process"


def _tiny_batches(parts: Parts) -> Iterator[str]:
    batch_spec = parts.batch_spec
    norms = [m for m in parts.state.model.modules() if isinstance(m, _BatchNorm)]
    is_synced = bool(norms) and isinstance(norms[0], nn.SyncBatchNorm)
    num_samples = batch_spec.batch_size * (batch_spec.num_ranks if is_synced else 1)
    if norms and num_samples < _FEW:
        samples = "1 sample" if num_samples == 1 else f"{num_samples} samples"
        text = f"batch norm estimates mean and variance from {samples} at a time"
        yield f"{text}: take a larger batch_size, or another norm"


def _no_warm_up(parts: Parts) -> Iterator[str]:
    warmup, name = parts.settings["scheduler"].get("warmup"), option_of(parts.settings["scheduler"])
    attends = any(isinstance(m, (Attention, nn.MultiheadAttention)) for m in parts.state.model.modules())
    if isinstance(parts.state.schedule, Configured):
        return
    if attends and warmup is not None and parse(warmup).value == 0 and name not in _RISING:
        yield "transformers often diverge without a warm-up: scheduler.warmup=5%"


def _mirrored_digits(parts: Parts) -> Iterator[str]:
    """A 2 that is mirrored is no 2, and looks much like a 5."""
    names = parts.info.class_names
    if parts.settings["augment"].get("flip") and names and all(map(str.isdigit, names)):
        yield f"augment.flip mirrors {parts.info.name}, whose classes are digits: augment.flip=0"


def _frozen_noise(parts: Parts) -> Iterator[str]:
    """A network that is frozen before it has learned anything; one of the user's may bring its weights."""
    is_built_in = str(parts.settings["model"]["_target_"]).startswith("trainrun.")
    is_new = parts.weights is None and parts.make.stored is None and is_built_in
    if is_new and any(config.frozen for config in parts.param_configs):
        yield "what is frozen has random weights: init_from=FILE, a run, or pretrained"


def _long_warm_up(parts: Parts) -> Iterator[str]:
    schedule, total = parts.state.schedule, parts.state.total_steps
    warmup = getattr(schedule.after if isinstance(schedule, Plateau) else schedule, "warmup", 0)
    asked = parse(parts.settings["scheduler"].get("warmup") or "0step")
    is_short = asked.unit == "%" and asked.value <= _LONG * 100  # a share of few steps, rounded up
    if not is_short and warmup > max(1, _LONG * total):
        yield f"the warm-up takes {warmup} of {total} steps; 1 to 10 % are usual: scheduler.warmup=5%"


def _late_drops(parts: Parts) -> Iterator[str]:
    """Of a schedule of stairs, what comes after the run or inside its warm-up."""
    schedule, total = parts.state.schedule, parts.state.total_steps
    drops = getattr(schedule, "drops", ())
    if late := [drop for drop in drops if drop > total or drop == total >= _FEW_STEPS]:
        steps = ", ".join(map(str, late))
        yield f"the learning rate never drops after step {steps}: the run ends at step {total}"
    if early := [drop for drop in drops if drop < getattr(schedule, "warmup", 0)]:
        yield f"the learning rate drops after step {early[0]}, inside the warm-up"


def _ends_high(parts: Parts) -> Iterator[str]:
    """A schedule that goes up and down, and ends on the way."""
    name, total = option_of(parts.settings["scheduler"]), parts.state.total_steps
    if name not in ("one_cycle", "cyclic", "wsd"):
        return
    factors = [parts.state.schedule(total * point // _POINTS)[0] for point in range(_POINTS + 1)]
    top, low = max(factors), min(factors)
    if total < _FEW_STEPS or top == 0 or factors[-1] - low < _HIGH * (top - low):
        return
    fixes = {"one_cycle": "scheduler.rise=0.3", "wsd": "scheduler.decay=20%"}
    fix = fixes.get(name) or _whole_cycles(parts.settings["scheduler"], total, parts.pace)
    yield f"the run ends at {factors[-1] / top:.2g} of its highest learning rate: {fix}"


def _whole_cycles(scheduler: Settings, total: int, pace: Pace) -> str:
    """Lengths of rise and fall near those asked for, whose cycles fill the run."""
    up = to_steps(parse(scheduler["up"]), pace)
    down = up if scheduler["down"] is None else to_steps(parse(scheduler["down"]), pace)
    near = max(1, round(total / (up + down)))
    pairs = []
    for count in range(max(1, near // 2), 2 * near + 1):
        rise = max(1, total * up // (count * (up + down)))
        fall = rise if scheduler["down"] is None else max(1, total // count - rise)
        ends_high = total % (rise + fall) > _HIGH / 2 * rise
        pairs.append((ends_high, abs(count - near), rise, fall))
    *_, rise, fall = min(pairs)
    return f"scheduler.up={rise}step" + ("" if scheduler["down"] is None else f" scheduler.down={fall}step")


def _noisy_curvature(parts: Parts) -> Iterator[str]:
    """L-BFGS takes differences of gradients for curvature, so every step must have the same loss."""
    if not isinstance(parts.state.optimizer, torch.optim.LBFGS):
        return
    settings, window, modules = parts.settings, parts.batch_spec.window, list(parts.state.model.modules())
    size, regularizers = parts.info.sizes["train"], settings["regularization"] or {}
    is_part = size is None or window < size
    noise = {
        "dropout": any(isinstance(m, _DropoutNd) and m.p > 0 for m in modules),
        "stochastic_depth": any(isinstance(m, DropPath) and m.p > 0 for m in modules),
        "mixup": "mixup" in regularizers,
        "cutmix": "cutmix" in regularizers,
        "augmentation": not str(settings["augment"]["_target_"]).endswith(".none"),
        f"a batch of {window} samples": is_part,
    }
    if names := [name for name, is_on in noise.items() if is_on]:
        text = f"L-BFGS needs the same loss at every step, which {listed(names)} would change"
        fixes = ["model.dropout=0"] if noise["dropout"] and "dropout" in settings["model"] else []
        fixes += ["batch_size=full"] if size is not None and is_part else []
        yield f"{text}{': ' + ' '.join(fixes) if fixes else ''}"
