"""The optimizers of torch.optim, with fused kernels where torch has them, and learning-rate scaling."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch.optim import Optimizer

from trainrun.optimizer.prepared import Adam, AdamW
from trainrun.vocabulary.errors import ConfigError
from trainrun.vocabulary.ranges import Betas, Count, Negative, NonNegative, Positive, Rate

Params = list[dict[str, Any]]


def sgd(params: Params, lr: Positive, weight_decay: NonNegative) -> Optimizer:
    """w <- w - lr (g + weight_decay w) (Robbins and Monro, 1951)."""
    return torch.optim.SGD(params, lr, weight_decay=weight_decay, **_kernels(params))


def momentum(params: Params, lr: Positive, momentum: Rate, weight_decay: NonNegative) -> Optimizer:
    """v <- momentum v + g; w <- w - lr v (Polyak, 1964).

    The form with (1 - momentum) g is this one with the learning rate lr (1 - momentum).
    """
    return torch.optim.SGD(params, lr, momentum, weight_decay=weight_decay, **_kernels(params))


def nesterov(params: Params, lr: Positive, momentum: Rate, weight_decay: NonNegative) -> Optimizer:
    """Momentum whose step looks ahead: w <- w - lr (g + momentum v) (Sutskever et al., 2013)."""
    if momentum == 0:
        raise ConfigError.of("optimizer.momentum", "must be greater than 0 for nesterov, got 0; use sgd")
    kernels = _kernels(params)
    return torch.optim.SGD(params, lr, momentum, weight_decay=weight_decay, nesterov=True, **kernels)


def adagrad(
    params: Params, lr: Positive, lr_decay: NonNegative, eps: Positive, weight_decay: NonNegative
) -> Optimizer:
    """Steps divided by the root of the sum of all squared gradients (Duchi et al., 2011)."""
    return torch.optim.Adagrad(params, lr, lr_decay, weight_decay, eps=eps)


def adadelta(params: Params, lr: Positive, rho: Rate, eps: Positive, weight_decay: NonNegative) -> Optimizer:
    """Steps in the ratio of running root mean squares of updates and gradients (Zeiler, 2012)."""
    return torch.optim.Adadelta(params, lr, rho, eps, weight_decay)


def rmsprop(
    params: Params,
    lr: Positive,
    alpha: Rate,
    eps: Positive,
    momentum: Rate,
    centered: bool,
    weight_decay: NonNegative,
) -> Optimizer:
    """Steps divided by a running root mean square of the gradient (Tieleman and Hinton, 2012)."""
    return torch.optim.RMSprop(params, lr, alpha, eps, weight_decay, momentum, centered)


def adam(
    params: Params, lr: Positive, betas: Betas, eps: Positive, amsgrad: bool, weight_decay: NonNegative
) -> Optimizer:
    """Running means of gradient and squared gradient, bias-corrected (Kingma and Ba, 2015).

    weight_decay here is L2: it enters the gradient and is divided like it. AdamW's is not.
    """
    return Adam(params, lr, betas, eps, weight_decay, amsgrad, fused=_fused(params))


def adamw(
    params: Params, lr: Positive, betas: Betas, eps: Positive, amsgrad: bool, weight_decay: NonNegative
) -> Optimizer:
    """Adam with decoupled decay, w <- (1 - lr weight_decay) w (Loshchilov and Hutter, 2019)."""
    return AdamW(params, lr, betas, eps, weight_decay, amsgrad, fused=_fused(params))


def adamax(params: Params, lr: Positive, betas: Betas, eps: Positive, weight_decay: NonNegative) -> Optimizer:
    """Adam with the maximum in place of the root mean square (Kingma and Ba, 2015, section 7)."""
    return torch.optim.Adamax(params, lr, betas, eps, weight_decay)


def nadam(
    params: Params,
    lr: Positive,
    betas: Betas,
    eps: Positive,
    momentum_decay: NonNegative,
    decoupled: bool,
    weight_decay: NonNegative,
) -> Optimizer:
    """Adam with Nesterov's look-ahead (Dozat, 2016); `decoupled` decays as AdamW does."""
    return torch.optim.NAdam(params, lr, betas, eps, weight_decay, momentum_decay, decoupled)


def radam(
    params: Params, lr: Positive, betas: Betas, eps: Positive, decoupled: bool, weight_decay: NonNegative
) -> Optimizer:
    """Adam that waits until its second moment can be trusted (Liu et al., 2020)."""
    return torch.optim.RAdam(params, lr, betas, eps, weight_decay, decoupled)


def adafactor(
    params: Params,
    lr: Positive,
    beta2_decay: Negative,
    eps: Positive,
    clip: Positive,
    weight_decay: NonNegative,
) -> Optimizer:
    """Second moments as the product of row and column means (Shazeer and Stern, 2018).

    Steps are relative: min(lr, 1 / sqrt(t)) times the weights' root mean square, which counts as at
    least `eps`. The update's own root mean square is limited to `clip`.
    """
    return torch.optim.Adafactor(params, lr, beta2_decay, (None, eps), clip, weight_decay)


def lbfgs(
    params: Params,
    lr: Positive,
    max_iter: Count,
    history_size: Count,
    tolerance_grad: NonNegative,
    tolerance_change: NonNegative,
    line_search: Literal["strong_wolfe"] | None,
) -> Optimizer:
    """Limited-memory BFGS (Liu and Nocedal, 1989): a step evaluates its window up to 1.25 max_iter times."""
    tolerances = (tolerance_grad, tolerance_change)
    return torch.optim.LBFGS(params, lr, max_iter, None, *tolerances, history_size, line_search)


def scaled_lr(
    lr: float, window: int, lr_scaling: Literal["none", "linear", "sqrt"], base_batch_size: Count
) -> tuple[float, str]:
    """(learning rate for steps of `window` samples, its computation as text).

    linear: lr x window / base (Goyal et al., 2017); sqrt: lr x sqrt(window / base) (Krizhevsky, 2014).
    """
    ratio = window / base_batch_size
    if lr_scaling == "linear":
        return lr * ratio, f"{lr:g} x {window} / {base_batch_size} = {lr * ratio:g}"
    if lr_scaling == "sqrt":
        return lr * ratio**0.5, f"{lr:g} x sqrt({window} / {base_batch_size}) = {lr * ratio**0.5:g}"
    return lr, f"{lr:g}"


def _kernels(params: Params) -> dict[str, Any]:
    """Fused kernels where they can be used; foreach ones for weights that are divided: SGD's know none."""
    is_divided = any(hasattr(p, "device_mesh") for group in params for p in group["params"])
    return {"foreach": True} if is_divided else {"fused": _fused(params)}


def _fused(params: Iterable[dict[str, Any]]) -> bool | None:
    """True where fused kernels can be used (real floats on CPU or CUDA); None lets torch choose."""
    tensors = [p for group in params for p in group["params"]]
    fits = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in tensors)
    return True if fits else None
