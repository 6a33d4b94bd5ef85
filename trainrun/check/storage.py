"""A checkpoint written, read back and compared, and whether the disk has room for those of the run."""

from __future__ import annotations

import os
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from trainrun.check.context import CheckContext, fresh_state, is_same, leaves_in
from trainrun.check.finding import CheckSection
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
    size, section = expected_bytes(context.parts.state), CheckSection("storage")
    needed, free = _disk_space(section, context, size)
    if size > min(_MOST_BYTES, free_bytes(Path(tempfile.gettempdir())) // 2):
        section.lines.append(("checkpoint", "too large to be tried"))
        return section
    try:
        differing = _round_trip(context)
    except NonFiniteError as error:
        measured = f"after two steps {error}"
        section.lines.append(("checkpoint", measured))
        if not is_explained:
            advice = "look at what the model writes there in its first steps"
            section.add("not finite", measured, "finite numbers", advice=advice)
        return section
    section.values = {"bytes": size, "needed": needed, "free": free}
    result = differing[0] if differing else "the same"
    section.lines.append(("checkpoint", f"saved, read back, compared: {result}"))
    if differing:
        measured = f"{len(differing)} values differ after saving and loading, the first: {differing[0]}"
        section.add("checkpoint", measured, "the same bits", advice="trainrun check --exact says where")
    return section


def _disk_space(section: CheckSection, context: CheckContext, size: int) -> tuple[int, int]:
    """(bytes that all checkpoints of the run need, bytes that are free)."""
    count, free = checkpoint_count(context), 0
    wanted = Path(context.setting("run_dir") or ROOT).expanduser().absolute()
    place = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
    needed = size * count
    if place.is_dir() and os.access(place, os.W_OK):
        free = free_bytes(place)
        needs = f"{_size_text(needed)} for {count} checkpoints"
        section.lines.append(("disk", f"{needs} of {_size_text(size)}; {_size_text(free)} free"))
        if needed > free:
            measured = f"{needs} are needed, {_size_text(free)} are free"
            fix, advice = "checkpoint.keep_last=1", "or run_dir=FOLDER on another disk"
            section.add("disk space", measured, "room for all checkpoints", fix, advice=advice)
    else:
        measured = f"{place} is no folder that can be written to"
        section.add("run folder", measured, "one that can", advice="name another one: run_dir=FOLDER")
    return needed, free


def checkpoint_count(context: CheckContext) -> int:
    """Checkpoints that lie on the disk at once, one being written included."""
    node, more = context.parts.settings["checkpoint"], 0
    if node.get("keep_every") is not None and context.parts.budget is None:
        store = context.parts.make.at("checkpoint", node, {"folder": Path(), "run_id": "", "record": None})
        more = context.parts.state.total_steps // store.keep_every
        store.close()
    return int(node.get("keep_last", 1)) + int(node.get("keep_best", 0)) + more + 1


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
    losses = []  # of one batch: a model may hold more than its state dict
    for state in (trained, loaded):
        model = state.eval_model.eval()
        context.seed(0)
        with torch.no_grad():
            losses.append(parts.task(model, context.batch).terms)
    return [
        *differences(trained.state_dict(), loaded.state_dict()),
        *(f"the loss of one batch ({name})" for name in differences(*losses)),
    ]


def differences(ours: Any, theirs: Any) -> list[str]:
    """Paths of the leaves that are not the same, or not in both."""
    mine, other = dict(leaves_in(ours)), dict(leaves_in(theirs))
    return [
        path
        for path in dict.fromkeys([*mine, *other])
        if path not in mine or path not in other or not is_same(mine[path], other[path])
    ]


def _size_text(size: float) -> str:
    units = ["bytes", "KB", "MB", "GB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.3g} {units[0]}"
