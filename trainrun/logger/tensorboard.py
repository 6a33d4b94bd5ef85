"""TensorBoard: curves, settings, pictures and text. A view; metrics.jsonl is the truth."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

from tensorboard.compat.proto.event_pb2 import Event as TensorBoardEvent
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.hparams import metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from trainrun.logger import drawing
from trainrun.logger.curves import evaluated, logged
from trainrun.logger.event_files import rewrite
from trainrun.logger.hparams import session_end, session_start
from trainrun.vocabulary import events
from trainrun.vocabulary.ranges import Natural

_WRITTEN_AT_START = ("config/text_summary", metadata.SESSION_START_INFO_TAG)
_WRITTEN_AT_END = ("test/", "best/", "confusion/test", metadata.SESSION_END_INFO_TAG)


class TensorBoard:
    """Writes `run_dir`/tensorboard; open it with `tensorboard --logdir outputs`.

    Every curve has the same name in every run, so that runs lie over one another: train/, val/ and test/
    metrics, lr, speed/. The settings and the end's metrics are in the same file, so that each run is one
    row of the HParams tab. `samples`: so many training samples are shown as pictures. `histograms`: those
    of all weights and gradients at every log are asked for.
    A process that goes on with a run writes the file anew up to its checkpoint, so that every step is
    there once, whoever reads it. There is no writer thread as TensorBoard's own, which prints a
    traceback when the disk is full.
    """

    def __init__(self, run_dir: Path, samples: Natural, histograms: bool) -> None:
        self.folder = run_dir / "tensorboard"
        self.samples, self.histograms = samples, histograms
        self.writer: Any = None
        self.class_names: Sequence[str] = ()
        self.best: events.Evaluated | None = None  # of this process

    def __call__(self, event: events.Event) -> None:
        try:
            self._show(event)
        finally:
            if isinstance(event, (events.Finished, events.Interrupted, events.Failed)) and self.writer:
                self.writer.close()

    def _show(self, event: events.Event) -> None:
        match event:
            case events.Started():
                self._start(event)
            case events.RolledBack():
                self._rewrite(event.to, ())
            case events.StepsLogged():
                self._scalars(logged(event), event.step)
            case events.Weighed():
                self._histograms("weights", event.weights, event.step)
                self._histograms("gradients", event.gradients, event.step)
            case events.Evaluated():
                self._evaluated(event)
            case events.Pictured():
                picture = drawing.samples(event.pictures, event.shape, event.labels)
                self._picture("samples", picture, event.step)
            case events.Sampled():
                indented = "\n".join(f"    {line}" for line in event.text.split("\n"))  # Markdown's code
                self._write(TensorBoardEvent(summary=_text("sample", indented)), event.step)
            case events.Finished():
                self._finish(event)
            case (
                events.Progressed()
                | events.NotFinite()
                | events.Replanned()
                | events.CheckpointSaved()
                | events.Warned()
                | events.Interrupted()
                | events.Failed()
            ):
                pass
            case _:
                assert_never(event)

    def _start(self, event: events.Started) -> None:
        """What a process before this one wrote after the checkpoint, or before there was one, is no more."""
        self.folder.mkdir(exist_ok=True)
        self._rewrite(event.step, _WRITTEN_AT_START)
        self.class_names = event.class_names
        self._write(TensorBoardEvent(summary=_text("config", f"```yaml\n{event.config}```")), event.step)
        self._write(TensorBoardEvent(summary=session_start(event.config)), event.step)

    def _rewrite(self, step: int, written_again: Sequence[str]) -> None:
        """Keep the points up to the step that training goes on from, but for those of a run's end."""

        def is_kept(event: TensorBoardEvent) -> bool:
            tags = [value.tag for value in event.summary.value]
            is_again = any(tag.startswith(_WRITTEN_AT_END) or tag in written_again for tag in tags)
            return event.step <= step and not is_again

        if self.writer:
            self.writer.close()
        self.writer = RecordWriter(rewrite(self.folder, is_kept))

    def _finish(self, event: events.Finished) -> None:
        """What the run came to: its best, under a name of its own, and that the session is over."""
        if self.best is not None:
            self._confusion(self.best)
        if event.best is not None and event.monitor:
            self._scalars({f"best/{event.monitor.partition('/')[2]}": event.best}, event.step)
        self._write(TensorBoardEvent(summary=session_end()), event.step)

    def _evaluated(self, event: events.Evaluated) -> None:
        self._scalars(evaluated(event), event.step)
        self.best = event if event.is_best else self.best
        if event.split == "test":
            self._confusion(event)

    def _confusion(self, event: events.Evaluated) -> None:
        if event.confusion is not None:
            picture = drawing.confusion(event.confusion, self.class_names)
            self._picture(f"confusion/{event.split}", picture, event.step)

    def _picture(self, tag: str, picture: tuple[bytes, tuple[int, int]], step: int) -> None:
        png, (width, height) = picture
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._write(TensorBoardEvent(summary=Summary(value=[Summary.Value(tag=tag, image=image)])), step)

    def _histograms(self, group: str, histograms: Mapping[str, events.Histogram], step: int) -> None:
        values = [
            Summary.Value(tag=f"{group}/{name}", histo=_drawn(histogram))
            for name, histogram in histograms.items()
        ]
        self._write(TensorBoardEvent(summary=Summary(value=values)), step)

    def _scalars(self, scalars: dict[str, float], step: int) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(TensorBoardEvent(summary=Summary(value=values)), step)

    def _write(self, event: TensorBoardEvent, step: int) -> None:
        event.step, event.wall_time = step, time.time()
        self.writer.write(event.SerializeToString())
        self.writer.flush()  # a save syncs it: no checkpoint outlives the points before it


def _drawn(histogram: events.Histogram) -> HistogramProto:
    return HistogramProto(
        min=histogram.edges[0],
        max=histogram.edges[-1],
        num=sum(histogram.counts),
        sum=histogram.total,
        sum_squares=histogram.total_squares,
        bucket_limit=histogram.edges[1:],
        bucket=histogram.counts,
    )


def _text(tag: str, text: str) -> Summary:
    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
    return Summary(value=[Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=tensor)])
