"""Optuna: Bayesian search and pruning, with the study in the sweep's folder, one trial a point."""

from __future__ import annotations

import contextlib
import math
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainrun.config.compose.exclusion import Exclusion
from trainrun.config.space import Axis, Choices, Point, PointBatch, Words, grid, split_replicates
from trainrun.sweep.outcome import PRUNED, JobOutcome, TriedPoint
from trainrun.sweep.strategy import Strategy
from trainrun.sweep.sweep import counted
from trainrun.terminal.lines import say
from trainrun.vocabulary.errors import ConfigError, ResumeError
from trainrun.vocabulary.ranges import Count, Fraction, Seed

if TYPE_CHECKING:
    import optuna

STUDY = "study.db"  # in the sweep's folder: optuna-dashboard sqlite:///.../study.db
_WAIT_S = 60  # for other jobs that write to it: many at once on a slow disk took seconds


class Optuna(Strategy):
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
        excludes: Exclusion,
        trials: int,
        maximize: bool,
        folder: Path,
        at_once: int,
    ) -> None:
        self.searched, self.repeats = split_replicates(axes)
        self.trials, self.at_once, self.excludes = trials, at_once, excludes
        self.prunes = pruner != "none" and len(grid(self.repeats)) == 1
        import optuna

        storage = _storage(folder)
        direction: Literal["maximize", "minimize"] = "maximize" if maximize else "minimize"
        self.study = optuna.create_study(
            storage=storage, study_name=_name(storage, folder), direction=direction, load_if_exists=True
        )
        self.space = {axis.key: _distribution(axis) for axis in self.searched}
        self._refuse_other_space()
        count = len(self._trials())
        self.study.sampler = _sampler(sampler, startup_trials, seed + count)  # else it drew the first again
        dashboard = f"optuna-dashboard sqlite:///{folder / STUDY}"
        before = f"{len(self._complete())} asked before"
        super().__init__((), f"{counted(trials, 'trial')} by optuna, {before}; {dashboard}")

    def batches(self) -> Iterator[PointBatch]:
        """The points of earlier starts, finished or not; then new ones until there are `trials`."""
        from optuna.trial import TrialState

        complete, sampler, count = self._complete(), self.study.sampler, 0
        for trial in self._trials():  # a process that was killed, or refused, while it asked
            if trial not in complete and not trial.state.is_finished():
                self.study.tell(trial.number, state=TrialState.FAIL)
        if complete:
            yield self._batch(complete)
        while (missing := self.trials - len(self._complete())) > 0:
            asked = [self.study.ask(dict(self.space)) for _ in range(min(missing, self.at_once))]
            excluded = [new for new in asked if self.excludes(self._point(new))]
            for refused in excluded:
                self.study.tell(refused.number, state=TrialState.PRUNED)  # from which TPE learns
            count += len(excluded)
            # A Gaussian process learns nothing of it, and would ask for the same again.
            is_stuck = len(excluded) == len(asked)
            self.study.sampler = _sampler("random", 0, len(self._trials())) if is_stuck else sampler
            if not is_stuck:
                yield self._batch([new for new in asked if new not in excluded])
        if note := self.excludes.note(count, ", drawn anew"):
            say(f"{counted(self.trials, 'trial')}{note}")

    def _point(self, trial: optuna.trial.BaseTrial) -> Words:
        return tuple(word for axis in self.searched for word in _words(axis, trial.params[axis.key]))

    def tell(self, tried: Sequence[TriedPoint]) -> None:
        """Tell the study the outcomes of trials; an interrupted one goes on at the next start."""
        from optuna.trial import TrialState

        outcomes: dict[int, list[JobOutcome]] = {}
        for point in tried:
            outcomes.setdefault(point.point.trial or 0, []).append(point.outcome)
        for number, replicates in outcomes.items():
            states = {outcome.state for outcome in replicates}
            if self._trials()[number].state.is_finished():
                continue
            if "failed" in states or PRUNED in states:
                self.study.tell(number, state=TrialState.FAIL if "failed" in states else TrialState.PRUNED)
            elif all(outcome.is_over for outcome in replicates):
                mean = statistics.mean(math.nan if job.value is None else job.value for job in replicates)
                state = TrialState.COMPLETE if math.isfinite(mean) else TrialState.FAIL
                self.study.tell(number, mean if math.isfinite(mean) else None, state)

    def _trials(self) -> list[optuna.trial.FrozenTrial]:
        return self.study.get_trials(deepcopy=False)

    def _complete(self) -> list[optuna.trial.FrozenTrial]:
        """The trials that have a value of everything that is searched, and are not excluded."""
        complete = [trial for trial in self._trials() if self.space.keys() <= trial.params.keys()]
        return [trial for trial in complete if not self.excludes(self._point(trial))]

    def _refuse_other_space(self) -> None:
        """Raise ConfigError where a list of values is not the stored study's; intervals may change."""
        from optuna.distributions import check_distribution_compatibility

        for trial in self._trials():
            for key in trial.distributions.keys() & self.space.keys():
                try:
                    check_distribution_compatibility(trial.distributions[key], self.space[key])
                except ValueError:
                    text = f"the study in {STUDY} has other values of {key}; give this sweep another name"
                    raise ConfigError.of("hydra/sweeper", text) from None

    def _batch(self, trials: Sequence[optuna.trial.BaseTrial]) -> PointBatch:
        points: list[Point] = []
        for trial in trials:
            words = self._point(trial)
            points += (Point(words + replicate, trial.number) for replicate in grid(self.repeats))
        return PointBatch(points)


class Pruner:
    """Asks the study after each evaluation of a trial whether to prune it.

    The study counts percent of a trial's budget as its steps, so that trials of different batch sizes
    are compared equally far on. None is pruned before the share `warmup`.
    """

    def __init__(self, folder: Path, number: int, pruner: str, startup_trials: int, warmup: float) -> None:
        import optuna

        rule: optuna.pruners.BasePruner
        warmup_percent = round(100 * warmup)
        if pruner == "halving":
            rule = optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, warmup_percent))
        else:
            rule = optuna.pruners.MedianPruner(startup_trials, warmup_percent)
        storage = _storage(folder)
        study = optuna.load_study(study_name=_name(storage, folder), storage=storage, pruner=rule)
        trial = study.get_trials(deepcopy=False)[number]
        is_over = trial.state.is_finished()  # of one that failed, and is repeated
        self.trial = None if is_over else optuna.Trial(study, trial._trial_id)

    def __call__(self, share: float, value: float) -> bool:
        """Whether to prune the trial at a share of its budget."""
        if self.trial is None:
            return False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a resumed run reports a step again
            self.trial.report(value, round(100 * share))
        return bool(self.trial.should_prune())


def _storage(folder: Path) -> optuna.storages.RDBStorage:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{(folder / STUDY).resolve()}"
    try:
        with contextlib.redirect_stderr(None):
            return optuna.storages.RDBStorage(url, {"connect_args": {"timeout": _WAIT_S}})
    except Exception as error:  # the database raises many kinds
        text = f"cannot be read as a study: {str(error).splitlines()[0]}"
        raise ResumeError(f"{folder / STUDY}: {text}; move it away, and the search starts again") from None


def _name(storage: optuna.storages.RDBStorage, folder: Path) -> str:
    """The name of the only study; its folder may have been renamed since it was created."""
    import optuna

    return next(iter(optuna.get_all_study_names(storage)), folder.name)


def _sampler(name: str, startup_trials: int, seed: int) -> optuna.samplers.BaseSampler:
    from optuna import samplers

    first: dict[str, Any] = {"n_startup_trials": startup_trials, "seed": seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of these are called experimental
        match name:
            case "tpe":
                return samplers.TPESampler(multivariate=True, constant_liar=True, **first)
            case "gp":
                return samplers.GPSampler(**first)
            case "cmaes":
                return samplers.CmaEsSampler(**first)
            case "qmc":
                return samplers.QMCSampler(seed=seed, scramble=True)
            case _:
                return samplers.RandomSampler(seed=seed)


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
    """The overrides that a value of the study means; a label may be of an earlier start's list."""
    if not isinstance(axis, Choices):
        return (axis.word(value),)
    return next((words for words in axis.values if _label(axis, words) == value), (f"{axis.key}={value}",))
