"""Checkpoints: directories that exist only whole, committed by one rename.

    checkpoints/step-000000500/manifest.json   sizes and SHA-256 of the files, and its own
                               state.pt        TrainState by parts, loadable weights-only

A commit writes into a temporary directory, fsyncs the files, the manifest last, then the
directory, renames it and fsyncs the parent. What a crash leaves behind begins with a dot and is
removed at the next start. Nothing here reads the time: the newest is the highest step.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainrun import __version__
from trainrun.errors import CannotResume, NonFinite, StorageFailed
from trainrun.events import CheckpointSaved
from trainrun.ranges import Count, Period, Switch
from trainrun.state import TrainState

_NAME = re.compile(r"step-(\d{9})")
_FORMAT = 1


class Checkpoints:
    """The checkpoints of one run's folder.

    Committed every `every`, at a better metric, at an interruption and at the end; kept are the
    last `keep_last`, the best if `keep_best`, and every one at a multiple of `keep_every`.
    `metrics_bytes` flushes metrics.jsonl to disk and returns its length.
    """

    def __init__(
        self,
        every: Period,
        keep_last: Count,
        keep_best: Switch,
        keep_every: Period | None,
        folder: Path,
        run_id: str,
        metrics_bytes: Callable[[], int],
    ) -> None:
        self.every, self.keep_last, self.keep_best, self.keep_every = every, keep_last, keep_best, keep_every
        self.folder, self.run_id, self.metrics_bytes = folder, run_id, metrics_bytes

    def is_due(self, step: int) -> bool:
        return step > 0 and step % self.every == 0

    def commit(self, state: TrainState) -> CheckpointSaved | None:
        """Store `state`; None where this step is already stored whole.

        Raises StorageFailed with the system's reason, and NonFinite rather than store weights
        that are not finite. Nothing older is touched before the new one is in place.
        """
        began = time.perf_counter()
        final = self.folder / f"step-{state.step:09d}"
        try:
            if final.exists():
                if problem_of(final, self.run_id) is None:
                    return None
                final.rename(self.folder / f".damaged-{final.name}-{time.time_ns()}")
            _check_finite(state.model)
            body = io.BytesIO()  # memory first: clean error numbers, and bytes that do not depend on a name
            torch.save(state.state_dict(), body)
            manifest = self._manifest(state, body.getbuffer())
            num_bytes = _commit(final, {"state.pt": body.getbuffer(), "manifest.json": manifest})
            self._forget_old(state)
        except OSError as error:
            raise StorageFailed(f"checkpoint: cannot write {final}: {error.strerror or error}") from None
        seconds = time.perf_counter() - began
        return CheckpointSaved(step=state.step, path=str(final), num_bytes=num_bytes, seconds=seconds)

    def load_newest(self, warn: Callable[[str], None]) -> dict[str, Any] | None:
        """The parts of the newest valid checkpoint, with `metrics_bytes` beside them.

        None where there is no checkpoint at all. Damaged ones are named and skipped; raises
        CannotResume where there are checkpoints and none is valid.
        """
        found = self.steps()
        for step in reversed(found):
            path = self.folder / f"step-{step:09d}"
            if (problem := problem_of(path, self.run_id)) is None:
                parts = load_parts(path)
                return {**parts, "metrics_bytes": manifest_of(path)["metrics_bytes"]}
            warn(f"checkpoint {path.name} is damaged and skipped: {problem}")
        if found:
            raise CannotResume(f"checkpoint: none of the {len(found)} checkpoints in {self.folder} is valid")
        return None

    def load_weights(self, model: nn.Module, step: int) -> str:
        """Load the judged weights of a stored step into `model`; returns which weights they are."""
        path = self.folder / f"step-{step:09d}"
        if problem := problem_of(path, self.run_id):
            raise CannotResume(f"checkpoint: {path}: {problem}")
        return load_judged(model, path, load_parts(path))

    def steps(self) -> list[int]:
        """The steps that have a checkpoint, in order, valid or not."""
        return steps_in(self.folder)

    def clean(self) -> None:
        """Remove what interrupted commits left behind."""
        for path in self.folder.glob(".tmp-step-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _manifest(self, state: TrainState, body: memoryview) -> memoryview:
        content: dict[str, Any] = {
            "format": _FORMAT,
            "run_id": self.run_id,
            "step": state.step,
            "weights": state.judged_name,
            "best": state.best,
            "best_step": state.best_step,
            "metrics_bytes": self.metrics_bytes(),
            "files": {"state.pt": {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}},
            "versions": {"trainrun": __version__, "torch": torch.__version__},
        }
        content["sha256"] = _own_hash(content)
        return memoryview(json.dumps(content, indent=1).encode())

    def _forget_old(self, state: TrainState) -> None:
        steps = [step for step in self.steps() if step <= state.step]  # a later one is damaged: not counted
        keep = set(steps[-self.keep_last :])
        if self.keep_best and state.best_step is not None:
            keep.add(state.best_step)
        if self.keep_every:
            keep |= {step for step in steps if step % self.keep_every == 0}
        for step in set(steps) - keep:
            path = self.folder / f"step-{step:09d}"
            trash = self.folder / f".tmp-{path.name}-old"  # a name that cleaning knows
            path.rename(trash)
            shutil.rmtree(trash, ignore_errors=True)


def steps_in(folder: Path) -> list[int]:
    """The steps that have a checkpoint in a folder, in order, valid or not; other names are ignored."""
    if not folder.is_dir():
        return []
    names = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(name[1]) for name in names if name)


def problem_of(path: Path, run_id: str | None) -> str | None:
    """What is wrong with a checkpoint directory, in words; None where it is whole and this run's."""
    try:
        manifest = manifest_of(path)
        if manifest.get("format") != _FORMAT:
            return f"has format {manifest.get('format')}, this version reads {_FORMAT}"
        if manifest.get("sha256") != _own_hash(manifest):
            return "has a manifest that was changed"
        if run_id is not None and manifest["run_id"] != run_id:
            return "belongs to another run"
        if path.name != f"step-{manifest['step']:09d}":
            return f"holds step {manifest['step']}"
        if "state.pt" not in manifest["files"]:
            return "has a manifest without state.pt"
        for name, expected in manifest["files"].items():
            file = path / Path(name).name  # a stored path cannot lead elsewhere
            if not file.is_file() or file.is_symlink():
                return f"lacks {name}"
            if file.stat().st_size != expected["bytes"]:
                return f"has {file.stat().st_size} bytes in {name}, {expected['bytes']} were written"
            with file.open("rb") as opened:
                if hashlib.file_digest(opened, "sha256").hexdigest() != expected["sha256"]:
                    return f"has another content in {name} than was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"cannot be read: {type(error).__name__}: {error}"
    return None


def load_parts(path: Path) -> dict[str, Any]:
    """state.pt of a checkpoint that `problem_of` found whole, on the CPU. No code is unpickled."""
    try:
        parts = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # damage shows as a dozen types; all mean the same here
        raise CannotResume(f"checkpoint: {path / 'state.pt'} cannot be loaded: {error}") from None
    if not isinstance(parts, dict):
        raise CannotResume(f"checkpoint: {path / 'state.pt'} holds no state")
    return parts


def load_judged(model: nn.Module, path: Path, parts: dict[str, Any]) -> str:
    """Load the weights that were judged when `parts` were stored, raw or averaged; returns which."""
    weights = str(manifest_of(path)["weights"])
    try:
        model.load_state_dict(parts["model"] if weights == "raw" else parts["averager"]["model"])
    except (RuntimeError, KeyError) as error:
        raise CannotResume(f"checkpoint: {path} does not fit the model: {error}") from None
    return weights


def manifest_of(path: Path) -> dict[str, Any]:
    """manifest.json of a checkpoint; raises ValueError where there is none to be read."""
    file = path / "manifest.json"
    if not file.is_file() or file.stat().st_size > 1 << 20:
        raise ValueError("no manifest")
    manifest = json.loads(file.read_text())
    if not isinstance(manifest, dict):
        raise ValueError("the manifest is not an object")
    return manifest


def _own_hash(manifest: dict[str, Any]) -> str:
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _commit(final: Path, files: dict[str, memoryview]) -> int:
    """Write `files`, in order, into a directory that appears whole or not at all; returns its bytes."""
    temporary = final.with_name(f".tmp-{final.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    if not final.parent.is_dir():
        final.parent.mkdir(parents=True)
        _fsync(final.parent.parent)
    temporary.mkdir()
    try:
        for name, body in files.items():
            with (temporary / name).open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
        _fsync(temporary)
        temporary.rename(final)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _fsync(final.parent)
    return sum(len(body) for body in files.values())


def _fsync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_finite(model: nn.Module) -> None:
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NonFinite(
                f"{name} holds numbers that are not finite; nothing was saved over the last good checkpoint"
            )
