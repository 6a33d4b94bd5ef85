"""A stored run to evaluate: its weights in words, the overrides it takes, the views of a picture."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainrun.session.load_run import LoadedRun, load_run, refuse_another_run, views_of
from trainrun.session.stored_weights import CheckpointChoice
from trainrun.vocabulary.errors import ConfigError, DataError


def loaded(weights: str = "raw", is_best: bool = False, is_last: bool = False, average: Any = None) -> Any:
    parts = SimpleNamespace(
        monitor=SimpleNamespace(name="accuracy"),
        state=SimpleNamespace(weight_average=average, model="model"),
        info=SimpleNamespace(sizes={"val": 40, "test": None, "train": 100}),
        settings={"augment": {"flip": False}},
    )
    return LoadedRun(Path("run"), parts, CheckpointChoice(Path(), 400, is_best, is_last), weights)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("run", "text"),
    [
        (loaded(), "of step 400"),
        (loaded(is_best=True), "of step 400, best on val/accuracy"),
        (loaded(is_best=True, is_last=True), "of step 400, best on val/accuracy and last"),
        (loaded(is_last=True, average=1), "of step 400, last; raw: the average had not begun"),
        (loaded("ema", average=1), "of step 400; their exponential moving average (ema)"),
        (loaded("schedule_free", average=1), "of step 400; their average (schedule_free)"),
    ],
)
def test_the_weights_are_described(run: LoadedRun, text: str) -> None:
    assert run.describe() == text


def test_a_split_has_its_size_where_it_has_one() -> None:
    assert loaded().size_of("val") == "val, 40 samples"
    assert loaded().size_of("test") == "test"  # a stream
    with pytest.raises(ConfigError, match="the run has no extra split"):
        loaded().size_of("extra")


def test_what_it_is_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    loaded(is_last=True).introduce(split="val, 40 samples")
    lines = ["run", "  split      val, 40 samples", "  weights    of step 400, last"]
    assert capsys.readouterr() == ("", "".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize(
    "word", ["runtime.device=cpu", "precision=bf16", "precision.x=1", "data.root=a", "+data.path=x.csv"]
)
def test_overrides_that_change_no_result_are_taken(word: str) -> None:
    refuse_another_run([word], "eval")


@pytest.mark.parametrize(
    "word", ["model=mlp", "data=iris", "data.fold=1", "seed=1", "~runtime.device", "budget=1ep"]
)
def test_overrides_that_make_another_run_are_refused(word: str) -> None:
    with pytest.raises(ConfigError, match=r"makes it another run; eval takes runtime\.\*, precision\*"):
        refuse_another_run(["runtime.device=cpu", word], "eval")


def test_views() -> None:
    assert views_of("") == [] and views_of("flip,crop") == ["flip", "crop"]
    with pytest.raises(ConfigError, match="must be flip, crop or flip,crop, got turn"):
        views_of("flip,turn")
    assert loaded().model_over([]) == "model"


def test_a_run_is_loaded_only_with_the_data_that_it_was_trained_on(run: Path) -> None:
    stored = load_run(run, "2", [])
    assert (stored.run_dir, stored.choice.step, stored.weights) == (run, 2, "raw")
    file = run / "environment.json"
    file.write_text(file.read_text().replace('"name": "iris"', '"name": "other"'))
    with pytest.raises((DataError, ConfigError)):
        load_run(run, "2", [])
