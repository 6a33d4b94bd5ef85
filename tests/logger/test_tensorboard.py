"""What TensorBoard itself reads back."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import toy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from trainrun.logger.drawing import confusion, samples
from trainrun.logger.tensorboard import TensorBoard
from trainrun.vocabulary.events import (
    Evaluated,
    Event,
    Failed,
    Histogram,
    Interrupted,
    Pictured,
    RolledBack,
    Started,
    StepsLogged,
    Weighed,
)

STARTED = Started(
    name="demo",
    run_dir="outputs/x",
    step=0,
    total_steps=20,
    monitor="val/accuracy",
    plan=(),
    config="optimizer:\n  lr: 0.1\n",
)


def logged(step: int, loss: float) -> StepsLogged:
    return StepsLogged(
        step=step,
        epoch=1.0,
        loss=loss,
        lr={"decay": 0.1, "no_decay": 0.2},
        grad_norm=2.0,
        grad_norm_after=1.0,
        clipped=0.25,
        skipped=3,
        metrics={"accuracy": 0.75},
        samples_per_s=100.0,
        data_wait=0.5,
    )


def evaluated(step: int, split: str = "val") -> Evaluated:
    return Evaluated(
        step=step, epoch=1.0, split=split, weights="raw", metrics={"loss": 0.4, "accuracy": 0.8}, seconds=0.1
    )


FINISHED = replace(toy.FINISHED, monitor="", best=None, best_step=None, kept_step=20, seconds=1.0)


def read(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder / "tensorboard"))
    accumulator.Reload()
    return accumulator


def write(folder: Path, *events: Event) -> None:
    folder.mkdir(exist_ok=True)
    logger = TensorBoard(folder, 0, histograms=False)
    for event in events:
        logger(event)
    if logger.writer:
        logger.writer.close()  # as the system does for a process that is killed


def age(folder: Path) -> None:
    """Make the files a minute older: TensorBoard orders files by the second in their names."""
    for file in (folder / "tensorboard").iterdir():
        prefix, second, rest = re.split(r"(?<=tfevents\.)(\d+)", file.name)
        file.rename(file.with_name(f"{prefix}{int(second) - 60:010d}{rest}"))


def test_scalars_and_the_config_are_read_back(tmp_path: Path) -> None:
    write(tmp_path, STARTED, logged(5, 0.5), evaluated(5), logged(10, 0.25), evaluated(10, "test"), FINISHED)
    events = read(tmp_path)
    values = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert values["train/loss"] == [(5, 0.5), (10, 0.25)]
    last = {tag: points[-1][1] for tag, points in values.items()}
    assert last == {
        "train/epoch": 1.0,
        "lr": pytest.approx(0.2),  # the largest
        "train/loss": 0.25,
        "train/accuracy": 0.75,
        "train/grad_norm": 2.0,
        "train/grad_norm_after": 1.0,
        "train/clipped": 0.25,
        "train/skipped": 3.0,
        "lr/decay": pytest.approx(0.1),
        "lr/no_decay": pytest.approx(0.2),
        "val/loss": pytest.approx(0.4),
        "val/accuracy": pytest.approx(0.8),
        "test/loss": pytest.approx(0.4),
        "test/accuracy": pytest.approx(0.8),
        "speed/samples_per_s": 100.0,
        "speed/data_wait": 0.5,
    }
    (config,) = events.Tensors("config/text_summary")
    assert config.tensor_proto.string_val[0].decode() == "```yaml\noptimizer:\n  lr: 0.1\n```"


def test_runs_of_every_kind_have_their_learning_rate_under_one_name(tmp_path: Path) -> None:
    write(tmp_path, STARTED, replace(logged(5, 0.5), lr={"all": 0.1}), FINISHED)
    tags = read(tmp_path).Tags()["scalars"]
    assert [tag for tag in tags if tag.startswith("lr")] == ["lr"]


def test_the_best_value_and_the_end_are_told_once_the_run_is_complete(tmp_path: Path) -> None:
    write(tmp_path, STARTED, evaluated(5), replace(FINISHED, monitor="val/accuracy", best=0.75, best_step=5))
    events = read(tmp_path)
    assert [(e.step, e.value) for e in events.Scalars("best/accuracy")] == [(20, 0.75)]
    assert "_hparams_/session_end_info" in events.Tags()["tensors"]
    write(tmp_path / "failed", STARTED, evaluated(5), Failed(step=7, reason="x", exit_code=1))
    assert "_hparams_/session_end_info" not in read(tmp_path / "failed").Tags()["tensors"]


def test_the_best_confusion_of_validation_and_that_of_the_test_are_pictures(tmp_path: Path) -> None:
    best = replace(evaluated(5), is_best=True, confusion=[[3, 1], [0, 4]])
    later = replace(evaluated(10), confusion=[[4, 0], [4, 0]])
    test = replace(evaluated(5, "test"), confusion=[[1, 0], [0, 1]])
    named = replace(STARTED, class_names=("cat", "dog"))
    write(tmp_path, named, best, later, test, FINISHED)
    events = read(tmp_path)
    assert sorted(events.Tags()["images"]) == ["confusion/test", "confusion/val"]
    (image,) = events.Images("confusion/val")
    assert image.step == 5
    assert (image.encoded_image_string, (image.width, image.height)) == confusion(
        best.confusion, ("cat", "dog")
    )


def test_samples_are_a_picture(tmp_path: Path) -> None:
    shown = Pictured(step=0, pictures=[bytes(12), bytes(range(12))], shape=(2, 2, 3), labels=("a", "b"))
    write(tmp_path, STARTED, shown, FINISHED)
    (image,) = read(tmp_path).Images("samples")
    assert (image.encoded_image_string, (image.width, image.height)) == samples(
        shown.pictures, shown.shape, shown.labels
    )


def test_histograms_of_weights_and_gradients_are_read_back(tmp_path: Path) -> None:
    histogram = Histogram(edges=(-1.0, 0.0, 1.0), counts=(3, 1), total=-1.5, total_squares=2.25)
    event = Weighed(step=5, weights={"head.weight": histogram}, gradients={"head.weight": histogram})
    write(tmp_path, STARTED, event, FINISHED)
    events = read(tmp_path)
    assert sorted(events.Tags()["histograms"]) == ["gradients/head.weight", "weights/head.weight"]
    (point,) = events.Histograms("weights/head.weight")
    value = point.histogram_value
    assert (point.step, value.min, value.max, value.num, value.sum, value.sum_squares) == (
        5, -1, 1, 4, -1.5, 2.25,
    )  # fmt: skip
    assert (value.bucket_limit, value.bucket) == ([0.0, 1.0], [3.0, 1.0])


def test_without_clipping_there_is_no_curve_of_it(tmp_path: Path) -> None:
    write(tmp_path, STARTED, replace(logged(5, 0.5), clipped=None, grad_norm_after=None, skipped=0), FINISHED)
    tags = read(tmp_path).Tags()["scalars"]
    assert not {"train/clipped", "train/grad_norm_after", "train/skipped"} & set(tags)


@pytest.mark.parametrize(
    "end",
    [FINISHED, Interrupted(step=7, signal="SIGINT"), Failed(step=7, reason="x", exit_code=1)],
    ids=lambda event: type(event).__name__,
)
def test_however_a_run_ends_its_points_are_on_disk(tmp_path: Path, end: Event) -> None:
    write(tmp_path, STARTED, logged(5, 0.5), end)
    assert [e.step for e in read(tmp_path).Scalars("train/loss")] == [5]


def test_a_full_disk_is_an_error_of_the_call_and_of_no_thread(
    tmp_path: Path,
) -> None:
    logger, before = TensorBoard(tmp_path, 0, histograms=False), threading.active_count()
    logger(STARTED)
    assert threading.active_count() == before
    with open("/dev/full", "wb") as full:
        os.dup2(full.fileno(), logger.writer._writer.fileno())
    with pytest.raises(OSError, match="No space left on device"):
        logger(logged(5, 0.5))
    with pytest.raises(OSError, match="No space left on device"):
        logger(FINISHED)


def test_a_run_that_failed_before_it_started_has_nothing_to_show(tmp_path: Path) -> None:
    write(tmp_path, Failed(step=0, reason="x", exit_code=9))
    assert not list(tmp_path.iterdir())


def test_points_after_the_checkpoint_are_replaced_by_the_resumed_runs(tmp_path: Path) -> None:
    died = Failed(step=15, reason="killed", exit_code=1)
    write(tmp_path, STARTED, logged(5, 0.5), logged(10, 0.4), logged(15, 0.3), died)
    age(tmp_path)
    again = replace(STARTED, step=10, resumed_from=10)
    write(tmp_path, again, logged(15, 0.35), logged(20, 0.2), FINISHED)
    points = [(e.step, pytest.approx(e.value)) for e in read(tmp_path).Scalars("train/loss")]
    assert points == [(5, 0.5), (10, 0.4), (15, 0.35), (20, 0.2)]


def test_curves_have_no_overlap_and_no_gap_over_a_kill(tmp_path: Path) -> None:
    """Nothing is closed, as SIGKILL leaves it, and the last record is torn."""
    killed = TensorBoard(tmp_path, 0, histograms=False)
    for event in (STARTED, logged(5, 0.5), evaluated(5), logged(10, 0.4), logged(15, 0.3), evaluated(15)):
        killed(event)
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    age(tmp_path)
    again = replace(STARTED, step=10, resumed_from=10)
    write(tmp_path, again, evaluated(10), logged(15, 0.35), logged(20, 0.2), evaluated(20), FINISHED)
    events = read(tmp_path)
    losses = [(e.step, pytest.approx(e.value)) for e in events.Scalars("train/loss")]
    assert losses == [(5, 0.5), (10, 0.4), (15, 0.35), (20, 0.2)]
    assert [e.step for e in events.Scalars("val/loss")] == [5, 10, 20]
    killed.writer.close()


def test_a_run_killed_before_its_first_checkpoint_begins_its_curves_anew(tmp_path: Path) -> None:
    killed = TensorBoard(tmp_path, 0, histograms=False)
    for event in (STARTED, logged(5, 0.5), logged(10, 0.4)):
        killed(event)
    age(tmp_path)
    write(tmp_path, STARTED, logged(5, 0.45), FINISHED)
    points = [(e.step, pytest.approx(e.value)) for e in read(tmp_path).Scalars("train/loss")]
    assert points == [(5, 0.45)]
    killed.writer.close()


def points(folder: Path) -> list[tuple[str, int]]:
    """Every scalar that lies in the files, by a reader that knows nothing of restarts."""
    tags = []
    for file in sorted((folder / "tensorboard").glob("*tfevents*")):
        for event in EventFileLoader(str(file)).Load():
            tags += [(value.tag, event.step) for value in event.summary.value]
    return sorted(tags)


BEST = replace(FINISHED, monitor="val/accuracy", best=0.75, best_step=5)
WHOLE = (STARTED, logged(5, 0.5), evaluated(5), logged(10, 0.25), evaluated(10), evaluated(5, "test"), BEST)


@pytest.mark.parametrize("killed_after", range(1, len(WHOLE) + 1))
@pytest.mark.parametrize("resumes", [1, 3])
def test_wherever_it_was_killed_every_point_is_there_once(
    killed_after: int, resumes: int, tmp_path: Path
) -> None:
    """Resumed several times from the last step that it was done with, without the clock moving on."""
    write(tmp_path / "whole", *WHOLE)
    write(tmp_path / "killed", *WHOLE[:killed_after])
    step, undone = next(
        (step, WHOLE[begin:]) for begin, step in ((5, 10), (3, 5), (1, 0)) if begin <= killed_after
    )
    for _ in range(resumes):
        write(tmp_path / "killed", replace(STARTED, step=step, resumed_from=step), *undone)
        step, undone = 10, WHOLE[5:]
    config = [
        (tag, step) for tag, step in points(tmp_path / "killed") if tag.startswith(("config", "_hparams_"))
    ]
    assert len(config) == len({tag for tag, _ in config})
    expected = [
        point for point in points(tmp_path / "whole") if point[0].split("/")[0] not in ("config", "_hparams_")
    ]
    assert [point for point in points(tmp_path / "killed") if point not in config] == expected


def test_a_rollback_takes_its_points_back_and_a_damaged_end_costs_only_itself(tmp_path: Path) -> None:
    back = RolledBack(step=12, to=5, lr_factor=0.5)
    write(tmp_path, STARTED, logged(5, 0.5), logged(10, 9.0), back, logged(10, 0.25), logged(15, 0.2))
    file = max((tmp_path / "tensorboard").iterdir())
    os.truncate(file, file.stat().st_size - 3)
    with file.open("ab") as opened:
        opened.write(bytes(4096))
    write(tmp_path, replace(STARTED, step=10, resumed_from=10), logged(15, 0.2), FINISHED)
    assert [(e.step, e.value) for e in read(tmp_path).Scalars("train/loss")] == [
        *[(5, 0.5), (10, 0.25), (15, pytest.approx(0.2))]
    ]
    assert [step for tag, step in points(tmp_path) if tag == "train/loss"] == [5, 10, 15]


def test_a_server_that_is_running_sees_the_points_of_a_resume_once(tmp_path: Path) -> None:
    write(tmp_path, STARTED, logged(5, 0.5), logged(10, 0.3))
    server = read(tmp_path)
    assert [e.step for e in server.Scalars("train/loss")] == [5, 10]
    write(tmp_path, replace(STARTED, step=5, resumed_from=5), logged(10, 0.25), FINISHED)
    server.Reload()
    assert [(e.step, e.value) for e in server.Scalars("train/loss")] == [(5, 0.5), (10, 0.25)]
