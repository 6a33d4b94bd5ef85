"""TensorBoard: curves, settings, pictures and text. A view; metrics.jsonl is the truth."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

import yaml
from tensorboard.compat.proto.event_pb2 import Event as TensorBoardEvent
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary, SummaryMetadata
from tensorboard.compat.proto.tensor_pb2 import TensorProto
from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from trainrun.logger import drawing
from trainrun.logger.event_files import rewrite
from trainrun.logger.lines import evaluated_curves, logged_curves, markdown_table, probed_curves
from trainrun.logger.settings import flat
from trainrun.vocabulary import events
from trainrun.vocabulary.ranges import Natural

_WRITTEN_AT_START = ("config/text_summary", metadata.SESSION_START_INFO_TAG)
_WRITTEN_AT_END = ("test/", "best/", "confusion/test", metadata.SESSION_END_INFO_TAG)
_NO_SETTINGS = ("name", "run_dir", "resume")  # of what the run does


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
                self._scalars(logged_curves(event), event.step)
            case events.Weighed():
                self._histograms("weights", event.weights, event.step)
                self._histograms("gradients", event.gradients, event.step)
            case events.Evaluated():
                self._evaluated(event)
            case events.Pictured():
                picture = drawing.samples(event.pictures, event.shape, event.labels)
                self._picture("samples", picture, event.step)
            case events.Sampled() | events.Probed():
                self._written(event)
            case events.Finished():
                self._finish(event)
            case (
                events.Progressed()
                | events.NotFinite()
                | events.Replanned()
                | events.CheckpointSaved()
                | events.Warned()
                | events.Profiled()
                | events.Interrupted()
                | events.Failed()
            ):
                pass
            case _:
                assert_never(event)

    def _evaluated(self, event: events.Evaluated) -> None:
        self._scalars(evaluated_curves(event), event.step)
        self.best = event if event.is_best else self.best
        if event.split == "test":
            self._confusion(event)

    def _written(self, event: events.Sampled | events.Probed) -> None:
        if isinstance(event, events.Sampled):
            self._write(_text("sample", _as_code(event.text)), event.step)
            return
        self._scalars(probed_curves(event), event.step)
        for name, picture in event.pictures.items():
            self._picture(f"probe/{name}", picture, event.step)
        for name, text in event.texts.items():
            self._write(_text(f"probe/{name}", _as_code(text)), event.step)
        for name, rows in event.tables.items():
            self._write(_text(f"probe/{name}", markdown_table(rows)), event.step)

    def _start(self, event: events.Started) -> None:
        """What a process before this one wrote after the checkpoint, or before there was one, is no more."""
        self.folder.mkdir(exist_ok=True)
        self._rewrite(event.step, _WRITTEN_AT_START)
        self.class_names = event.class_names
        self._write(_text("config", f"```yaml\n{event.config}```"), event.step)
        self._write(_session_start(event.config), event.step)

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
        """What the run came to: its best, under a name of its own, and that the session is over.

        Of one that failed nothing is said: a resume could not take it back.
        """
        if self.best is not None:
            self._confusion(self.best)
        if event.best is not None and event.monitor:
            self._scalars({f"best/{event.monitor.partition('/')[2]}": event.best}, event.step)
        info = SessionEndInfo(status=STATUS_SUCCESS, end_time_secs=time.time())
        summary = _hparams(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=info))
        self._write(summary, event.step)

    def _confusion(self, event: events.Evaluated) -> None:
        if event.confusion is not None:
            picture = drawing.confusion(event.confusion, self.class_names)
            self._picture(f"confusion/{event.split}", picture, event.step)

    def _picture(self, tag: str, picture: tuple[bytes, tuple[int, int]], step: int) -> None:
        png, (width, height) = picture
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._write(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    def _histograms(self, group: str, histograms: Mapping[str, events.Histogram], step: int) -> None:
        drawn = {f"{group}/{name}": _drawn(histogram) for name, histogram in histograms.items()}
        self._write(
            Summary(value=[Summary.Value(tag=tag, histo=histo) for tag, histo in drawn.items()]), step
        )

    def _scalars(self, scalars: dict[str, float], step: int) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._write(Summary(value=values), step)

    def _write(self, summary: Summary, step: int) -> None:
        event = TensorBoardEvent(summary=summary, step=step, wall_time=time.time())
        self.writer.write(event.SerializeToString())
        self.writer.flush()  # a save syncs it: no checkpoint outlives the points before it


def _drawn(histogram: events.Histogram) -> HistogramProto:
    edges, counts = histogram.edges, histogram.counts
    ends = {"min": edges[0], "max": edges[-1], "num": sum(counts)}
    sums = {"sum": histogram.total, "sum_squares": histogram.total_squares}
    return HistogramProto(bucket_limit=edges[1:], bucket=counts, **ends, **sums)


def _as_code(text: str) -> str:
    """A text as it stands, which Markdown shows indented."""
    return "\n".join(f"    {line}" for line in text.split("\n"))


def _text(tag: str, text: str) -> Summary:
    plugin = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
    return Summary(value=[Summary.Value(tag=f"{tag}/text_summary", metadata=plugin, tensor=tensor)])


def _session_start(config: str) -> Summary:
    """The settings of a run, from its YAML, as its row of the HParams tab.

    No run says which columns the tab has, for TensorBoard would take the first one's word: without, it
    takes all settings and curves of all runs, and shows those that differ. Null has no type in the tab and
    is left out; lists are text.
    """
    info = SessionStartInfo(start_time_secs=time.time())
    for key, value in flat(yaml.safe_load(config) or {}).items():
        if value is None or key in _NO_SETTINGS or key.startswith("logger."):
            continue
        if isinstance(value, bool):
            info.hparams[key].bool_value = value
        elif isinstance(value, (int, float)):
            info.hparams[key].number_value = value
        else:
            info.hparams[key].string_value = str(value)
    return _hparams(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=info))


def _hparams(tag: str, content: Any) -> Summary:
    about = metadata.create_summary_metadata(content)
    return Summary(value=[Summary.Value(tag=tag, metadata=about, tensor=metadata.NULL_TENSOR)])
