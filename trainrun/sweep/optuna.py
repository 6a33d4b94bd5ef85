"""Bayesian search by Optuna: its study in the sweep's folder, one trial a point."""

from __future__ import annotations

import contextlib
import math
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainrun.config.space import Axis, Choices, Point, PointBatch, Words, grid, split_replicates
from trainrun.sweep.outcome import PRUNED, TriedPoint
from trainrun.sweep.sweep import counted
from trainrun.vocabulary.errors import CannotResume, ConfigError
from trainrun.vocabulary.ranges import Count, Fraction, Seed

if TYPE_CHECKING:
    import optuna

STUDY = "study.db"  # in the sweep's folder: optuna-dashboard sqlite:///.../study.db
_WAIT_S = 60  # for another process that writes to it


class Optuna:
    """`trials` points in all, those of earlier starts included; `at_once` are asked for together."""

    def __init__(
        self,
        sampler: Literal["tpe", "gp", "cmaes", "qmc", "random"],
        pruner: Literal["none", "median", "halving"],
        startup_trials: Count,
        warmup: Fraction,
        seed: Seed,
        params: Mapping[str, str],
        axes: Sequence[Axis],
        trials: int,
        maximize: bool,
        folder: Path,
        at_once: int,
    ) -> None:
        self.searched, self.repeats = split_replicates(axes)
        self.trials, self.at_once = trials, at_once
        self.url = f"sqlite:///{folder / STUDY}"
        self.prunes = pruner != "none" and len(grid(self.repeats)) == 1
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.study = optuna.create_study(
            storage=(storage := _storage(folder)),
            study_name=_name(storage, folder),
            direction="maximize" if maximize else "minimize",
            load_if_exists=True,
        )
        self.space = {axis.key: _distribution(axis) for axis in self.searched}
        self._refuse_other_space()
        known = len(self.study.get_trials(deepcopy=False))
        self.study.sampler = _sampler(sampler, startup_trials, seed + known)  # else it drew the first again

    def about(self) -> str:
        """What it does, and how the study is looked at."""
        known = len(self._whole())
        return f"{counted(self.trials, 'trial')} by optuna, {known} asked before; optuna-dashboard {self.url}"

    def batches(self) -> Iterator[PointBatch]:
        """What earlier starts have asked for, finished or not; then new points until there are `trials`."""
        self._give_up_halves()
        if known := [self._points(one.number, one.params) for one in self._whole()]:
            yield PointBatch([point for points in known for point in points])
        while (missing := self.trials - len(self._whole())) > 0:
            asked = [self._ask() for _ in range(min(missing, self.at_once))]
            yield PointBatch([point for points in asked for point in points])

    def tell(self, tried: Sequence[TriedPoint]) -> None:
        """Tell the study what trials came to; one that is interrupted goes on at the next start."""
        by_trial: dict[int, list[TriedPoint]] = {}
        for one in tried:
            by_trial.setdefault(one.point.trial or 0, []).append(one)
        for number, members in by_trial.items():
            self._tell(number, members)

    def _whole(self) -> list[optuna.trial.FrozenTrial]:
        """The trials that have a value of everything that is searched."""
        return [one for one in self.study.get_trials(deepcopy=False) if self._is_whole(one)]

    def _is_whole(self, one: optuna.trial.FrozenTrial) -> bool:
        return all(axis.key in one.params for axis in self.searched)

    def _give_up_halves(self) -> None:
        """A trial that never got its point is a failure: who asked for it was killed, or refused."""
        from optuna.trial import TrialState

        for one in self.study.get_trials(deepcopy=False):
            if not one.state.is_finished() and not self._is_whole(one):
                self.study.tell(one.number, state=TrialState.FAIL)

    def _tell(self, number: int, members: Sequence[TriedPoint]) -> None:
        from optuna.trial import TrialState

        outcomes = [one.outcome for one in members]
        values = [one.value for one in outcomes if one.value is not None]
        if self.study.get_trials(deepcopy=False)[number].state.is_finished():
            return
        if any(one.state == "failed" for one in outcomes):
            self.study.tell(number, state=TrialState.FAIL)
        elif any(one.state == PRUNED for one in outcomes):
            self.study.tell(number, state=TrialState.PRUNED)
        elif all(one.is_over for one in outcomes):
            is_number = len(values) == len(outcomes) and math.isfinite(statistics.mean(values))
            state = TrialState.COMPLETE if is_number else TrialState.FAIL
            self.study.tell(number, statistics.mean(values) if is_number else None, state)

    def _ask(self) -> list[Point]:
        trial = self.study.ask(dict(self.space))
        return self._points(trial.number, trial.params)

    def _refuse_other_space(self) -> None:
        """Raises ConfigError where a list of values is not the stored study's; intervals may change."""
        from optuna.distributions import check_distribution_compatibility

        for one in self.study.get_trials(deepcopy=False):
            for key in one.distributions.keys() & self.space.keys():
                try:
                    check_distribution_compatibility(one.distributions[key], self.space[key])
                except ValueError:
                    text = f"the study in {STUDY} has other values of {key}; give this sweep another name"
                    raise ConfigError.one("hydra/sweeper", text) from None

    def _points(self, number: int, params: Mapping[str, Any]) -> list[Point]:
        words = tuple(
            word for axis in self.searched if axis.key in params for word in _words(axis, params[axis.key])
        )
        return [Point(words + more, number) for more in grid(self.repeats)]


class Pruner:
    """Asks the study, after each evaluation of a trial, whether its median or rung is still within reach.

    The study counts percent of a trial's budget as its steps: trials that differ in the batch size are
    compared where they have come equally far. None is hopeless before the share `warmup`.
    """

    def __init__(self, folder: Path, number: int, pruner: str, startup_trials: int, warmup: float) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        judge = _pruner(pruner, startup_trials, warmup)
        storage = _storage(folder)
        study = optuna.load_study(study_name=_name(storage, folder), storage=storage, pruner=judge)
        found = study.get_trials(deepcopy=False)[number]
        is_over = found.state.is_finished()  # of one that failed, and is repeated
        self.trial = None if is_over else optuna.Trial(study, found._trial_id)

    def __call__(self, share: float, value: float) -> bool:
        """Whether the trial is hopeless at a share of its budget."""
        if self.trial is None:
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a resumed run reports a step again
            self.trial.report(value, round(100 * share))
        return bool(self.trial.should_prune())


def _storage(folder: Path) -> optuna.storages.RDBStorage:
    import optuna

    folder.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{(folder / STUDY).resolve()}"
    arguments = {"connect_args": {"timeout": _WAIT_S}}
    try:
        with contextlib.redirect_stderr(None):
            return optuna.storages.RDBStorage(url, engine_kwargs=arguments)
    except Exception as error:  # of the database's own making, and of many kinds
        text = f"cannot be read as a study: {str(error).splitlines()[0]}"
        raise CannotResume(f"{folder / STUDY}: {text}; move it away, and the search begins anew") from None


def _name(storage: optuna.storages.RDBStorage, folder: Path) -> str:
    """The study's, of which there is one; its folder may have been moved since it was begun."""
    import optuna

    return next(iter(optuna.get_all_study_names(storage)), folder.name)


def _sampler(name: str, startup_trials: int, seed: int) -> optuna.samplers.BaseSampler:
    from optuna import samplers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these are called experimental
        if name == "tpe":
            return samplers.TPESampler(
                n_startup_trials=startup_trials, multivariate=True, constant_liar=True, seed=seed
            )
        if name == "gp":
            return samplers.GPSampler(n_startup_trials=startup_trials, seed=seed)
        if name == "cmaes":
            return samplers.CmaEsSampler(n_startup_trials=startup_trials, seed=seed)
        if name == "qmc":
            return samplers.QMCSampler(seed=seed, scramble=True)
        return samplers.RandomSampler(seed=seed)


def _pruner(name: str, startup_trials: int, warmup: float) -> optuna.pruners.BasePruner:
    from optuna import pruners

    spared = round(100 * warmup)
    if name == "halving":
        return pruners.SuccessiveHalvingPruner(min_resource=max(1, spared))
    return pruners.MedianPruner(n_startup_trials=startup_trials, n_warmup_steps=spared)


def _distribution(axis: Axis) -> optuna.distributions.BaseDistribution:
    from optuna import distributions

    if isinstance(axis, Choices):
        return distributions.CategoricalDistribution([_label(axis, words) for words in axis.values])
    if axis.is_int:
        return distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.is_log)
    return distributions.FloatDistribution(axis.low, axis.high, log=axis.is_log)


def _label(axis: Choices, words: Words) -> str:
    """An alternative as the study names it: its value, or several overrides."""
    return words[0].partition("=")[2] if len(words) == 1 else " ".join(words)


def _words(axis: Axis, value: Any) -> Words:
    if isinstance(axis, Choices):
        return next(
            (words for words in axis.values if _label(axis, words) == value), (f"{axis.key}={value}",)
        )
    return (axis.word(value),)
