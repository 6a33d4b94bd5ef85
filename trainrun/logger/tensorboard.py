"""TensorBoard: scalars per step, and the config as text. A view; metrics.jsonl is the truth."""

from __future__ import annotations

import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event as TensorBoardEvent
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from trainrun.events import Evaluated, Event, Failed, Finished, Interrupted, Started, StepsLogged


class TensorBoard:
    """Writes `run_dir`/tensorboard; open it with `tensorboard --logdir outputs`."""

    def __init__(self, run_dir: Path) -> None:
        self.writer = EventFileWriter(str(run_dir / "tensorboard"), flush_secs=10)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            # What a process before this one wrote after the checkpoint, or before there was one, is no more.
            self._write(TensorBoardEvent(session_log=SessionLog(status=SessionLog.START)), event.step + 1)
            self._write(TensorBoardEvent(summary=_text("config", f"```yaml\n{event.config}```")), event.step)
        elif isinstance(event, StepsLogged):
            scalars = {"train/loss": event.loss, "train/grad_norm": event.grad_norm}
            scalars |= {f"train/{name}": value for name, value in event.metrics.items()}
            scalars |= {f"lr/{group}": value for group, value in event.lr.items()}
            if event.clipped is not None and event.grad_norm_after is not None:
                scalars |= {"train/clipped": event.clipped, "train/grad_norm_after": event.grad_norm_after}
            scalars |= {"train/skipped": float(event.skipped)} if event.skipped else {}
            scalars |= {"speed/samples_per_s": event.samples_per_s, "speed/data_wait": event.data_wait}
            self._scalars(scalars, event.step)
        elif isinstance(event, Evaluated):
            self._scalars(
                {f"{event.split}/{name}": value for name, value in event.metrics.items()}, event.step
            )
        elif isinstance(event, (Finished, Interrupted, Failed)):
            self.writer.close()

    def _scalars(self, scalars: dict[str, float], step: int) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(TensorBoardEvent(summary=Summary(value=values)), step)

    def _write(self, event: TensorBoardEvent, step: int) -> None:
        event.step, event.wall_time = step, time.time()
        self.writer.add_event(event)
        self.writer.flush()  # a checkpoint must not outlive the points before it


def _text(tag: str, text: str) -> Summary:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
    return Summary(value=[Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=tensor)])
