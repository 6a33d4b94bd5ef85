"""Save and load checkpoints: directories that exist only whole, written beside the loop, one rename.

    checkpoints/step-000000500/state.pt        TrainState by parts, loadable weights-only
                               manifest.json   size and SHA-256 of it, and of the manifest itself

Where the ranks hold shards of the weights, shard-RANK-NUMBER.safetensors have those (gather.py).
The loop waits for a copy of the state in memory; a thread then packs, hashes and writes it. A
commit writes into a temporary directory, fsyncs the files, the manifest last, then the directory,
renames it and fsyncs the parent. What a crash leaves behind begins with a dot and is removed at
the next start. Nothing here reads the time: the newest is the highest step.
"""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainrun import ranks
from trainrun.checkpoint import fetch, gather
from trainrun.checkpoint.commit import commit, digest_of
from trainrun.checkpoint.fetch import lifted, problem_among_ranks
from trainrun.checkpoint.reader import (
    FORMATS,
    load_parts,
    manifest_hash,
    manifest_of,
    not_finite_in,
    path_of,
    problem_in,
    problem_of,
    steps_in,
)
from trainrun.checkpoint.shards import Shards, is_sharded
from trainrun.checkpoint.snapshot import Snapshot
from trainrun.checkpoint.state import TrainState
from trainrun.run.files import storage_failed
from trainrun.run.record import Record
from trainrun.vocabulary.errors import NonFiniteError, ResumeError
from trainrun.vocabulary.events import CheckpointSaved
from trainrun.vocabulary.ranges import Count, Natural, Period
from trainrun.vocabulary.version import __version__


class Checkpoints:
    """The checkpoints of one run's folder.

    Committed every `every`, at a better metric, at an interruption and at the end; kept are the
    last `keep_last`, the best `keep_best`, and every one at a multiple of `keep_every`.
    A save is begun by `begin`, and whatever went wrong with it is raised by `finished` or `wait`:
    StorageError with the system's reason, NonFiniteError rather than weights that are not finite.
    Without `record`, on all ranks but the first, nothing is written but the rank's shards.
    """

    def __init__(
        self,
        every: Period,
        keep_last: Count,
        keep_best: Natural | bool,
        keep_every: Period | None,
        folder: Path,
        run_id: str,
        record: Record | None,
    ) -> None:
        self.every, self.keep_last, self.keep_best, self.keep_every = every, keep_last, keep_best, keep_every
        self.folder, self.run_id, self.record = folder, run_id, record
        self._snapshot = Snapshot()
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[CheckpointSaved | None] | None = None
        self._reserved: Future[Any] | None = None
        self._prepared = False

    def most_kept(self, total_steps: int) -> int:
        """How many checkpoints lie on the disk at once, at most, of a run of so many steps."""
        more = total_steps // self.keep_every if self.keep_every else 0
        return min(self.keep_last + int(self.keep_best) + more, max(1, total_steps))

    def is_due(self, step: int) -> bool:
        return step > 0 and step % self.every == 0

    def prepare(self, state: TrainState) -> None:
        """Page in the memory of the first save beside the loop; call it when the optimizer has its state."""
        if not self._prepared and self._writes(state):
            # For its memory. What to copy is listed here: a forward pass has FSDP's weights gathered.
            self._reserved = self._thread.submit(self._snapshot.take, self._stored(state))
        self._prepared = True

    def begin(self, state: TrainState) -> tuple[CheckpointSaved, ...]:
        """Copy the state, and write the copy beside the loop. Returns the save before, now finished.

        A step that is stored whole already is left as it is.
        """
        before, record = self.wait(), self.record
        if not self._writes(state):
            return before
        began = time.perf_counter()
        if self._reserved is not None:
            self._reserved.result()
            self._reserved = None  # it would hold memory that later saves do without
        parts, shards = self._snapshot.take(self._stored(state))
        if record is None:
            assert shards is not None
            self._writing = self._thread.submit(gather.write_part, self.folder, shards)
            return before
        about = {"step": state.step, "weights": state.eval_weights, "best": state.best}
        about |= {"best_step": state.best_step, "metrics_bytes": record.metrics_bytes()}
        timing = began, time.perf_counter() - began
        kept = state.best_steps(self.keep_best)
        self._writing = self._thread.submit(self._write, record, parts, shards, about, kept, timing)
        return before

    def _writes(self, state: TrainState) -> bool:
        """Whether this rank stores anything of a state."""
        return self.record is not None or any(map(is_sharded, state.model.parameters()))

    def _stored(self, state: TrainState) -> tuple[dict[str, Any], Shards | None]:
        """A state without its divided tensors, on the first rank, and this rank's shards; None: has none."""
        divided: dict[str, Any] = {}
        parts = lifted(state.state_dict(), is_sharded, divided)
        shards = gather.shards_of(divided) if divided else None
        return parts if self.record is not None else {}, shards

    def finished(self) -> tuple[CheckpointSaved, ...]:
        """The save that came to its end since the last call, if one did; never waits."""
        return self._ended() if self._writing is not None and self._writing.done() else ()

    def wait(self) -> tuple[CheckpointSaved, ...]:
        """The same, once what is being written is on the disk; of several ranks all wait for it."""
        with ranks.working("writing a checkpoint"):
            saved = self._ended()
        ranks.meet()
        return saved

    def _ended(self) -> tuple[CheckpointSaved, ...]:
        if self._writing is None:
            return ()
        writing, self._writing = self._writing, None
        return (saved,) if (saved := writing.result()) is not None else ()

    def close(self) -> None:
        """Let a save come to its end; what went wrong with it is not asked."""
        self._thread.shutdown()

    def load_newest(self, warn: Callable[[str], None]) -> dict[str, Any] | None:
        """The parts of the newest valid checkpoint of the run, as the function of that name has them."""
        return load_newest(self.folder, self.run_id, warn)

    @ranks.working("reading a checkpoint")
    def load_weights(self, model: nn.Module, step: int) -> str:
        """Load the evaluated weights of a stored step into `model`; returns which weights they are."""
        path, content = path_of(self.folder, step), dict[str, Any]()
        if ranks.is_main_process():
            try:
                content = _weights_in(path, step, self.run_id)
            except ResumeError as error:
                content = {"problem": str(error)}
        return fetch.load_weights(model, path, content)

    def forget_for_older(self, step: int) -> None:
        """Remove the newest checkpoint, if it is that of `step` and there is an older one."""
        steps = steps_in(self.folder)
        if len(steps) > 1 and steps[-1] == step:
            shutil.rmtree(path_of(self.folder, step), ignore_errors=True)

    def clean(self) -> None:
        """Remove what interrupted commits left behind."""
        for path in self.folder.glob(".tmp-step-*"):
            shutil.rmtree(path, ignore_errors=True)

    def _write(
        self,
        record: Record,
        parts: dict[str, Any],
        shards: Shards | None,
        about: dict[str, Any],
        best_steps: list[int],
        timing: tuple[float, float],
    ) -> CheckpointSaved | None:
        """In the thread: pack, hash and commit a copy of the state, then forget the old ones."""
        began, blocked_s = timing
        final = path_of(self.folder, about["step"])
        body = io.BytesIO()  # memory first: clean error numbers, and bytes that do not depend on a name
        try:
            if final.exists():
                if problem_of(final, self.run_id) is None:
                    if shards is not None:
                        gather.send_name("")
                    return None
                final.rename(self.folder / f".damaged-{final.name}-{time.time_ns()}")
            if name := not_finite_in(parts):
                raise NonFiniteError(f"{name} {gather.NOT_FINITE}")
            torch.save(parts, body)
            packed = body.getbuffer()
            record.sync()  # the lines before the checkpoint that counts their bytes
            with ThreadPoolExecutor(1) as hasher:
                digest = hasher.submit(digest_of, [packed])

                def manifest(folder: Path) -> bytes:
                    written = {"state.pt": {"bytes": len(packed), "sha256": digest.result()}}
                    written |= gather.collect(folder, shards) if shards is not None else {}
                    return self._manifest(about, written, shards is not None)

                num_bytes = commit(final, {"state.pt": packed, "manifest.json": manifest})
            self._forget_old(about["step"], best_steps)
        except OSError as error:
            num_bytes = body.tell() + sum(tensor.nbytes for tensor, _ in (shards or {}).values())
            raise storage_failed(final, error, num_bytes) from None
        step, path, seconds = about["step"], str(final), time.perf_counter() - began
        return CheckpointSaved(
            step=step, path=path, num_bytes=num_bytes, seconds=seconds, blocked_s=blocked_s
        )

    def _manifest(self, about: dict[str, Any], files: dict[str, Any], is_divided: bool) -> bytes:
        content: dict[str, Any] = {"format": FORMATS[is_divided], "run_id": self.run_id, **about}
        versions = {"trainrun": __version__, "torch": torch.__version__}
        content |= {"files": files, "versions": versions}
        content["sha256"] = manifest_hash(content)
        return json.dumps(content, indent=1).encode()

    def _forget_old(self, step: int, best_steps: list[int]) -> None:
        steps = [stored for stored in steps_in(self.folder) if stored <= step]  # a later one is damaged
        keep = {*steps[-self.keep_last :], *best_steps}
        if self.keep_every:
            keep |= {stored for stored in steps if stored % self.keep_every == 0}
        for old in set(steps) - keep:
            path = path_of(self.folder, old)
            path.rename(self.folder / f".tmp-{path.name}-old")  # a name that cleaning knows
        for trash in self.folder.glob(".tmp-step-*-old"):  # also what could not be removed before
            shutil.rmtree(trash, ignore_errors=True)


@ranks.working("reading a checkpoint")
def load_newest(folder: Path, run_id: str, warn: Callable[[str], None]) -> dict[str, Any] | None:
    """The parts of the newest valid checkpoint in a folder, with `metrics_bytes` beside them.

    None where there is no checkpoint at all. Damaged ones are named and skipped; raises
    ResumeError where there are checkpoints and none is valid. For the first rank, where others `assist`.
    """
    steps = steps_in(folder)
    for step in reversed(steps):
        path = path_of(folder, step)
        parts, problem = _parts_in(path, step, run_id)
        if problem is None:
            return {**parts, "metrics_bytes": manifest_of(path)["metrics_bytes"]}
        warn(f"checkpoint {path.name} is damaged and skipped: {problem}")
    if steps:
        raise ResumeError(f"checkpoint: none of the {len(steps)} checkpoints in {folder} is valid")
    return None


def _parts_in(path: Path, step: int, run_id: str) -> tuple[dict[str, Any], str | None]:
    """What a checkpoint holds, or else what is wrong with it."""
    if problem := problem_among_ranks(path, run_id):
        return {}, problem
    parts = load_parts(path)
    return parts, problem_in(parts, step)


def _weights_in(path: Path, step: int, run_id: str) -> dict[str, Any]:
    """The evaluated weights of a checkpoint, as `fetch.load_weights` takes them. Raises ResumeError."""
    parts, problem = _parts_in(path, step, run_id)
    if problem:
        raise ResumeError(f"checkpoint: {path}: {problem}")
    weights = manifest_of(path)["weights"]
    names = "model" if weights == "raw" else "averager", "shards"
    return {"weights": weights, **{name: parts[name] for name in names if name in parts}}


def expected_bytes(state: TrainState) -> int:
    """About the size of a checkpoint: weights, averages, and two numbers per trained weight."""
    average = state.weight_average.model if state.weight_average else None
    tensors = [*state.model.state_dict().values(), *(average.state_dict().values() if average else ())]
    tensors += 2 * [p for p in state.model.parameters() if p.requires_grad]
    return sum(int(tensor.nbytes) for tensor in tensors)
