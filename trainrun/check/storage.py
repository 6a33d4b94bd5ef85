"""A checkpoint written, read back and compared, and whether the disk has room for those of the run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainrun.check.clone_state import fresh_state
from trainrun.check.context import CheckContext, is_same
from trainrun.check.finding import CheckResult, CheckSection, setting
from trainrun.checkpoint.state import TrainState
from trainrun.checkpoint.store import expected_bytes
from trainrun.run.directory import ROOT
from trainrun.run.files import free_bytes
from trainrun.run.record import Record
from trainrun.vocabulary.errors import NonFiniteError

_MOST_BYTES = 2 * 1024**3  # of a checkpoint that is written for trial


def storage(context: CheckContext, is_explained: bool = False) -> CheckSection:
    """What a run would store after two steps goes through a file and into another copy.

    Numbers that are not finite are never stored, which is a finding where they are not explained already.
    """
    parts = context.parts
    size = expected_bytes(parts.state)
    lines, findings = [], []
    count = checkpoint_count(context)
    place, needed, free = _place(context), size * count, 0
    if place.is_dir() and os.access(place, os.W_OK):
        free = free_bytes(place)
        needs = f"{_size_text(needed)} for {count} checkpoints"
        lines.append(("disk", f"{needs} of {_size_text(size)}; {_size_text(free)} free"))
        if needed > free:
            measured = f"{needs} are needed, {_size_text(free)} are free"
            fix, advice = ("checkpoint.keep_last=1",), "or run_dir=FOLDER on another disk"
            findings.append(CheckResult("disk space", measured, "room for all checkpoints", fix, advice))
    else:
        measured = f"{place} is no folder that can be written to"
        findings.append(
            CheckResult("run folder", measured, "one that can", (), "name another one: run_dir=FOLDER")
        )
    if size > min(_MOST_BYTES, free_bytes(Path(tempfile.gettempdir())) // 2):
        return CheckSection("storage", (*lines, ("checkpoint", "too large to be tried")), tuple(findings))
    try:
        differing = _round_trip(context)
    except NonFiniteError as error:
        lines.append(("checkpoint", f"after two steps {error}"))
        advice = "look at what the model writes there in its first steps"
        refused = CheckResult("not finite", f"after two steps {error}", "finite numbers", (), advice)
        return CheckSection("storage", tuple(lines), (*findings, *([] if is_explained else [refused])))
    lines.append(
        ("checkpoint", f"saved, read back, compared: {'the same' if not differing else differing[0]}")
    )
    if differing:
        measured = f"{len(differing)} values differ after saving and loading, the first: {differing[0]}"
        advice = "trainrun check --exact says where"
        findings.append(CheckResult("checkpoint", measured, "the same bits", (), advice))
    return CheckSection(
        "storage", tuple(lines), tuple(findings), {"bytes": size, "needed": needed, "free": free}
    )


def checkpoint_count(context: CheckContext) -> int:
    """Checkpoints that lie on the disk at once, one being written included."""
    node = context.parts.settings["checkpoint"]
    every, total = node.get("keep_every"), context.parts.state.total_steps
    more = 0
    if every is not None and context.parts.budget is None:
        length = context.parts.make.at("checkpoint", node, {"folder": Path(), "run_id": "", "record": None})
        more = total // length.keep_every
        length.close()
    return int(node.get("keep_last", 1)) + int(node.get("keep_best", 0)) + more + 1


def _place(context: CheckContext) -> Path:
    """The nearest folder that exists above the run's."""
    wanted = Path(setting(context.parts.settings, "run_dir") or ROOT).expanduser().absolute()
    return next(folder for folder in (wanted, *wanted.parents) if folder.exists())


def _round_trip(context: CheckContext) -> list[str]:
    """Names of what is not the same in a copy that was loaded."""
    parts = context.parts
    node, lr = parts.settings["optimizer"], parts.rates.lr
    trained, loaded = (fresh_state(context, context.model, node, lr) for _ in range(2))
    with tempfile.TemporaryDirectory(prefix="trainrun-check-") as name:
        folder = Path(name)
        with closing(Record(folder)) as record:
            loop = parts.loop(folder, "check", record, parts.runtime.signals())
            with closing(loop.checkpoints):
                for _ in range(2):
                    loop.step(trained, [context.batch])
                loop.checkpoints.begin(trained)
                loop.checkpoints.wait()
                stored = loop.checkpoints.load_newest(lambda text: None) or {}
                stored.pop("metrics_bytes", None)
                loaded.load_state_dict(stored)
    return [
        *differences(trained.state_dict(), loaded.state_dict()),
        *_loss_differences(context, trained, loaded),
    ]


def _loss_differences(context: CheckContext, trained: TrainState, loaded: TrainState) -> list[str]:
    """Whether the two give the same loss for one batch: a model may hold more than its state dict."""
    losses = []
    for state in (trained, loaded):
        model = state.eval_model.eval()
        context.seed(0)
        with torch.no_grad():
            losses.append(context.parts.task(model, context.batch).terms)
    return [
        f"the loss of one batch ({name})"
        for name in losses[0]
        if not is_same(losses[0][name], losses[1][name])
    ]


def differences(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Paths of the leaves that are not the same; a NaN is the same as another."""
    if isinstance(ours, Mapping):
        missing = [f"{path}/{key}" for key in set(ours) ^ set(theirs)]
        return missing + [
            d for key in ours if key in theirs for d in differences(ours[key], theirs[key], f"{path}/{key}")
        ]
    if isinstance(ours, (list, tuple)):
        if len(ours) != len(theirs):
            return [path]
        return [
            d
            for n, pair in enumerate(zip(ours, theirs, strict=True))
            for d in differences(*pair, f"{path}/{n}")
        ]
    if isinstance(ours, Tensor):
        return [] if isinstance(theirs, Tensor) and is_same(ours, theirs) else [path.removeprefix("/")]
    return [] if ours == theirs or (ours != ours and theirs != theirs) else [path.removeprefix("/")]


def _size_text(size: int) -> str:
    for unit in ("bytes", "KB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000  # type: ignore[assignment]
    return f"{size:.3g} {unit}"
