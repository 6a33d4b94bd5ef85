"""Tables: experiment=tabular against scikit-learn, on the very same folds of three real tables.

Gradient boosting judges breast_cancer and wine, ridge regression with its own choice of strength
diabetes. Both sides learn from all samples outside a fold, and nothing is chosen by looking at it.
Prints mean and standard deviation over the 5 folds of each seed, and those of the paired difference.

The settings of experiment=tabular were chosen by cross-validation inside the training parts of the
folds of seed 0, so that those of seed 0 judge samples that had no part in the choice.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import tempfile
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import trainrun
from trainrun.data.sklearn import table

Name = Literal["breast_cancer", "wine", "diabetes"]
FOLDS, SEEDS = 5, 3
BAR = 0.01  # at most so much below


def main() -> None:
    print(f"{'':14} seed {'':8}  {'trainrun':18}  {'scikit-learn':18}  difference, over {FOLDS} folds")
    for name in get_args(Name):
        metric = "r2" if name == "diabetes" else "accuracy"
        for seed in range(SEEDS):
            ours = [of_trainrun(name, metric, seed, fold) for fold in range(FOLDS)]
            theirs = [of_scikit_learn(name, seed, fold) for fold in range(FOLDS)]
            difference = [one - other for one, other in zip(ours, theirs, strict=True)]
            verdict = "as wanted" if statistics.mean(difference) >= -BAR else "too low"
            figures = "  ".join(map(spread, (ours, theirs, difference)))
            print(f"{name:14} {seed:4} {metric:8}  {figures}  {verdict}", flush=True)


def of_trainrun(name: Name, metric: str, seed: int, fold: int) -> float:
    words = ["experiment=tabular", f"data={name}", "data.val_fraction=0", f"seed={seed}"]
    words += [f"data.fold={fold}", f"data.num_folds={FOLDS}", "logger=none", "checkpoint.every=1000ep"]
    with contextlib.redirect_stderr(io.StringIO()):
        result = trainrun.train(words)
    return result.metrics["test"][metric]


def of_scikit_learn(name: Name, seed: int, fold: int) -> float:
    data = table(name, 0.0, 0.0, seed, fold, FOLDS, None, 1024)
    inputs, targets = data.inputs.double().numpy(), data.targets.numpy().ravel()
    train, test = data.splits["train"].numpy(), data.splits["test"].numpy()
    if name == "diabetes":
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 3, 25)))
    else:
        model = HistGradientBoostingClassifier(random_state=seed)
    return float(model.fit(inputs[train], targets[train]).score(inputs[test], targets[test]))


def spread(values: Sequence[float]) -> str:
    return f"{statistics.mean(values):7.4f} +/- {statistics.stdev(values):.4f}"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        main()
