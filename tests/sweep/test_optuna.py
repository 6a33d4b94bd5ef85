"""The study that a search keeps, read back by Optuna itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

optuna = pytest.importorskip("optuna", reason="optuna is not installed")

from optuna.trial import TrialState  # noqa: E402

from trainrun.config.compose.exclusion import Exclusion, exclusion  # noqa: E402
from trainrun.config.space import Choices, Point, SearchInterval  # noqa: E402
from trainrun.sweep.optuna import STUDY, Optuna, Pruner  # noqa: E402
from trainrun.sweep.outcome import JobOutcome, TriedPoint  # noqa: E402
from trainrun.vocabulary.errors import ConfigError, ResumeError  # noqa: E402

X = SearchInterval("x", 0.01, 1.0, is_log=True, is_int=False)
N = SearchInterval("n", 1, 8, is_log=False, is_int=True)
SIZE = Choices("size", (("size=32",), ("size=64",)))
SEED = Choices("seed", (("seed=0",), ("seed=1",)))


def search(folder: Path, trials: int, axes: list | None = None, at_once: int = 1, **more: object) -> Optuna:
    settings = {
        "sampler": "tpe",
        "pruner": "median",
        "startup_trials": 3,
        "warmup": 0.0,
        "seed": 0,
        "params": {},
        "excludes": Exclusion(),
    } | more
    settings |= {"maximize": False, "folder": folder, "at_once": at_once}
    return Optuna(axes=axes or [X, N, SIZE], trials=trials, **settings)  # type: ignore[arg-type]


def study(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name=folder.name, storage=f"sqlite:///{folder / STUDY}")


def loss(point: Point) -> float:
    words = dict(word.split("=") for word in point.words)
    return abs(float(words.get("x", 0.1)) - 0.1) + 0.1 * abs(int(words.get("n", 3)) - 3)


def followed(strategy: Optuna, come_to: Callable[[Point], JobOutcome]) -> list[list[Point]]:
    batches = []
    for batch in strategy.batches():
        batches.append(list(batch.points))
        strategy.tell([TriedPoint(point, Path(), come_to(point)) for point in batch.points])
    return batches


def completed(point: Point) -> JobOutcome:
    return JobOutcome("completed", loss(point))


def test_points_lie_in_the_space_and_values_in_the_study(tmp_path: Path) -> None:
    batches = followed(search(tmp_path, 12), completed)
    assert [len(batch) for batch in batches] == [1] * 12
    trials = study(tmp_path).trials
    assert [trial.value for trial in trials] == [loss(batch[0]) for batch in batches]
    for trial, (point,) in zip(trials, batches, strict=True):
        assert point.trial == trial.number
        assert point.words == (
            f"x={trial.params['x']!r}",
            f"n={trial.params['n']}",
            f"size={trial.params['size']}",
        )
        assert 0.01 <= trial.params["x"] <= 1 and trial.params["n"] in range(1, 9)


def test_a_later_start_asks_first_for_what_was_asked_before(tmp_path: Path) -> None:
    first = followed(search(tmp_path, 4), completed)
    again = followed(search(tmp_path, 6), completed)
    assert again[0] == [point for batch in first for point in batch]
    assert [point.trial for batch in again[1:] for point in batch] == [4, 5]
    assert len(study(tmp_path).trials) == 6


def test_a_trial_that_was_interrupted_is_asked_for_again(tmp_path: Path) -> None:
    followed(search(tmp_path, 2), lambda point: JobOutcome("interrupted", 0.5))
    assert {trial.state for trial in study(tmp_path).trials} == {TrialState.RUNNING}
    again = followed(search(tmp_path, 2), completed)
    assert [point.trial for batch in again for point in batch] == [0, 1]
    assert {trial.state for trial in study(tmp_path).trials} == {TrialState.COMPLETE}


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (JobOutcome("failed"), TrialState.FAIL),
        (JobOutcome("pruned", 0.5), TrialState.PRUNED),
        (JobOutcome("completed", None), TrialState.FAIL),
        (JobOutcome("completed", float("nan")), TrialState.FAIL),
    ],
)
def test_what_came_to_nothing_is_told_as_such(tmp_path: Path, outcome: JobOutcome, state: TrialState) -> None:
    followed(search(tmp_path, 2), lambda point: outcome)
    assert {trial.state for trial in study(tmp_path).trials} == {state}


def test_replicates_are_one_trial_with_their_mean_and_are_not_pruned(tmp_path: Path) -> None:
    strategy = search(tmp_path, 2, [X, SEED])
    values = {"seed=0": 1.0, "seed=1": 2.0}
    batches = followed(strategy, lambda point: JobOutcome("completed", values[point.words[-1]]))
    assert [len(batch) for batch in batches] == [2, 2] and not strategy.prunes
    assert [trial.value for trial in study(tmp_path).trials] == [1.5, 1.5]


def test_pairs_are_one_parameter(tmp_path: Path) -> None:
    pairs = Choices("a,b", (("a=1", "b=2"), ("a=3", "b=4")))
    batches = followed(search(tmp_path, 4, [pairs]), completed)
    assert {batch[0].words for batch in batches} <= set(pairs.values)
    assert {trial.params["a,b"] for trial in study(tmp_path).trials} <= {"a=1 b=2", "a=3 b=4"}


def test_several_are_asked_for_at_once(tmp_path: Path) -> None:
    assert [len(batch) for batch in followed(search(tmp_path, 5, at_once=2), completed)] == [2, 2, 1]


def test_it_finds_the_minimum_of_a_bowl_better_than_chance(tmp_path: Path) -> None:
    best = [
        min(loss(b[0]) for b in followed(search(tmp_path / f"{s}", 40, seed=s), completed)) for s in range(3)
    ]
    drawn = []
    for seed in range(3):
        folder = tmp_path / f"random{seed}"
        drawn.append(
            min(loss(b[0]) for b in followed(search(folder, 40, sampler="random", seed=seed), completed))
        )
    assert sum(best) < sum(drawn)


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_every_sampler_asks(tmp_path: Path, sampler: str) -> None:
    assert len(followed(search(tmp_path, 3, sampler=sampler, startup_trials=1), completed)) == 3


def test_another_list_of_values_is_another_study(tmp_path: Path) -> None:
    followed(search(tmp_path, 1), completed)
    other = Choices("size", (("size=1",), ("size=2",)))
    with pytest.raises(ConfigError, match="has other values of size"):
        followed(search(tmp_path, 2, [X, N, other]), completed)


def test_a_trial_below_the_median_of_the_others_is_hopeless(tmp_path: Path) -> None:
    strategy = search(tmp_path, 4, [X])
    curves = [[0.5, 0.4], [0.6, 0.3], [0.4, 0.2]]
    answers = []
    for number, batch in enumerate(strategy.batches()):
        pruner = Pruner(tmp_path, number, "median", 3, 0.0)
        curve = curves[number] if number < 3 else [0.45, 0.9]
        answers.append([pruner(share / 10, value) for share, value in enumerate(curve, 1)])
        strategy.tell([TriedPoint(batch.points[0], Path(), JobOutcome("completed", curve[-1]))])
    # the medians of the first three are 0.5 at 10% and 0.3 at 20% of the budget; a trial's best so far counts
    assert answers == [[False, False], [False, False], [False, False], [False, True]]
    assert study(tmp_path).trials[3].intermediate_values == {10: 0.45, 20: 0.9}


def test_no_trial_is_hopeless_in_its_warmup(tmp_path: Path) -> None:
    strategy = search(tmp_path, 4, [X])
    for number, batch in enumerate(strategy.batches()):
        pruner = Pruner(tmp_path, number, "median", 3, 0.5)
        values = [0.1] * 5 if number < 3 else [0.9] * 5
        answers = [pruner(share, value) for share, value in zip((0.2, 0.4, 0.6, 0.8, 1), values, strict=True)]
        assert answers == ([False] * 5 if number < 3 else [False, False, True, True, True])
        strategy.tell([TriedPoint(batch.points[0], Path(), JobOutcome("completed", values[-1]))])


def test_a_trial_that_never_got_its_point_is_given_up(tmp_path: Path) -> None:
    followed(search(tmp_path, 1), completed)
    study(tmp_path).ask()  # as a start that was killed while it asked
    again = followed(search(tmp_path, 2), completed)
    assert [[point.trial for point in batch] for batch in again] == [[0], [2]]
    assert [trial.state for trial in study(tmp_path).trials] == [
        TrialState.COMPLETE,
        TrialState.FAIL,
        TrialState.COMPLETE,
    ]


def test_what_is_no_study_is_said(tmp_path: Path) -> None:
    (tmp_path / STUDY).write_text("this is no database, though it is long enough to be taken for one")
    with pytest.raises(ResumeError, match=r"study\.db: cannot be read as a study"):
        search(tmp_path, 1)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_an_excluded_trial_is_told_as_pruned_and_drawn_anew(
    tmp_path: Path, sampler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The minimum lies where no trial may go: a sampler without chance would ask for nothing else."""
    excludes = exclusion(["x>0.05 and x<0.3"], [X], False)
    rules = {"sampler": sampler, "axes": [X], "excludes": excludes}
    batches = followed(search(tmp_path, 6, startup_trials=3, **rules), completed)  # type: ignore[arg-type]
    values = [float(point.words[0].partition("=")[2]) for batch in batches for point in batch]
    assert len(values) == 6 and not any(0.05 < value < 0.3 for value in values)
    trials = study(tmp_path).get_trials()
    pruned = [trial for trial in trials if trial.state is TrialState.PRUNED]
    assert all(0.05 < trial.params["x"] < 0.3 for trial in pruned) and len(trials) == 6 + len(pruned)
    note = f"6 trials; {len(pruned) or 'none'} excluded by sweep.exclude"
    assert note in capsys.readouterr().err
    again = followed(search(tmp_path, 7, **rules), completed)  # type: ignore[arg-type]
    assert [len(batch) for batch in again] == [6, 1]
