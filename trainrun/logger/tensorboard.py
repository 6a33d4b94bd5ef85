"""TensorBoard: scalars per step, and the config as text. A view; metrics.jsonl is the truth."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event as TensorBoardEvent
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.record_writer import RecordWriter

from trainrun.events import (
    Evaluated,
    Event,
    Failed,
    Finished,
    Interrupted,
    RolledBack,
    Sampled,
    Started,
    StepsLogged,
)


class TensorBoard:
    """Writes `run_dir`/tensorboard; open it with `tensorboard --logdir outputs`.

    Without TensorBoard's own writer thread, which prints a traceback when the disk is full.
    """

    def __init__(self, run_dir: Path) -> None:
        self.folder = run_dir / "tensorboard"
        self.writer: Any = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._open()
            # What a process before this one wrote after the checkpoint, or before there was one, is no more.
            self._forget_after(event.step)
            self._write(TensorBoardEvent(summary=_text("config", f"```yaml\n{event.config}```")), event.step)
        elif isinstance(event, RolledBack):
            self._forget_after(event.to)
        elif isinstance(event, StepsLogged):
            scalars = {"train/loss": event.loss, "train/grad_norm": event.grad_norm}
            scalars |= {f"train/{name}": value for name, value in event.metrics.items()}
            scalars |= {f"lr/{group}": value for group, value in event.lr.items()}
            if event.clipped is not None and event.grad_norm_after is not None:
                scalars |= {"train/clipped": event.clipped, "train/grad_norm_after": event.grad_norm_after}
            scalars |= {f"update_ratio/{group}": value for group, value in event.update_ratio.items()}
            scalars |= {} if event.dead_units is None else {"train/dead_units": event.dead_units}
            scalars |= {"train/skipped": float(event.skipped)} if event.skipped else {}
            scalars |= {"train/spikes": float(event.spikes)} if event.spikes else {}
            scalars |= {"speed/samples_per_s": event.samples_per_s, "speed/data_wait": event.data_wait}
            self._scalars(scalars, event.step)
        elif isinstance(event, Evaluated):
            self._scalars(
                {f"{event.split}/{name}": value for name, value in event.metrics.items()}, event.step
            )
        elif isinstance(event, Sampled):
            indented = "\n".join(f"    {line}" for line in event.text.split("\n"))  # Markdown's code block
            self._write(TensorBoardEvent(summary=_text("sample", indented)), event.step)
        elif isinstance(event, (Finished, Interrupted, Failed)) and self.writer:
            self.writer.close()

    def _open(self) -> None:
        self.folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 10**9}.{socket.gethostname()}.{os.getpid()}.0"
        self.writer = RecordWriter((self.folder / name).open("ab"))
        self._write(TensorBoardEvent(file_version="brain.Event:2"), 0)

    def _forget_after(self, step: int) -> None:
        """The points after the checkpoint that training goes on from are written again."""
        self._write(TensorBoardEvent(session_log=SessionLog(status=SessionLog.START)), step + 1)

    def _scalars(self, scalars: dict[str, float], step: int) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(TensorBoardEvent(summary=Summary(value=values)), step)

    def _write(self, event: TensorBoardEvent, step: int) -> None:
        event.step, event.wall_time = step, time.time()
        self.writer.write(event.SerializeToString())
        self.writer.flush()  # a checkpoint must not outlive the points before it


def _text(tag: str, text: str) -> Summary:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
    return Summary(value=[Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=tensor)])
