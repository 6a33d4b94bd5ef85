"""Out of memory: suggest smaller micro-batches with accumulation, which train the same."""

from __future__ import annotations

import math
import shlex
from pathlib import Path

from torch import nn

from trainrun import ranks
from trainrun.assembly.build import Parts
from trainrun.vocabulary.errors import OutOfMemoryError


def out_of_memory(parts: Parts, run_dir: Path, evaluating: bool) -> OutOfMemoryError:
    """The error of a run that ran out of memory, with the command that resumes it where there is one."""
    key = "data.eval_batch_size" if evaluating else "batch_size"
    words = _evaluates_in_halves(parts) if evaluating else _trains_in_halves(parts)
    size = parts.settings["data"].get("eval_batch_size") if evaluating else parts.batch_spec.batch_size
    text = f"out of memory with {key}={size} while {'evaluating' if evaluating else 'training'}"
    if not words:
        return OutOfMemoryError(f"{text}; take a smaller model, or precision=bf16")
    line = shlex.join([*ranks.command(), "resume", str(run_dir), *words])
    text += "; trainrun find-batch looks for the largest that fits"
    text += f"; the same in smaller pieces{_batch_norm_caution(parts, evaluating)}:"
    return OutOfMemoryError(text, "", f"  {line}")


def _trains_in_halves(parts: Parts) -> list[str]:
    """The same window in smaller micro-batches; none where one holds a single sample."""
    batch_spec, size = parts.batch_spec, parts.info.sizes["train"]
    if batch_spec.batch_size == 1:
        return []
    pieces = 2
    if size is None or batch_spec.window < size:  # else the window is the whole data set, however it is cut
        pieces = next(n for n in range(2, batch_spec.batch_size + 1) if batch_spec.batch_size % n == 0)
    return [
        f"batch_size={math.ceil(batch_spec.batch_size / pieces)}",
        f"loop.accumulate={batch_spec.accumulate * pieces}",
    ]


def _evaluates_in_halves(parts: Parts) -> list[str]:
    size = parts.settings["data"].get("eval_batch_size")
    return [f"data.eval_batch_size={size // 2}"] if isinstance(size, int) and size > 1 else []


def _batch_norm_caution(parts: Parts, evaluating: bool) -> str:
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    has_norm = any(isinstance(module, norms) for module in parts.state.model.modules())
    return ", except for batch norm, which sees each piece alone" if has_norm and not evaluating else ""
