"""The real data sets that ship with scikit-learn: no download, a few hundred samples each."""

from __future__ import annotations

from typing import Literal

import torch

from trainrun.data.resident import Holdout, InMemoryData, resident
from trainrun.protocols import DataInfo
from trainrun.vocabulary.ranges import Count, Natural, Split


def digits(
    val_fraction: Split,
    test_fraction: Split,
    split_seed: Natural,
    fold: Natural | None,
    num_folds: Count,
    limit: Count | None,
    eval_batch_size: Count,
) -> InMemoryData:
    """1,797 handwritten digits as 8 x 8 pictures, 10 classes (Alpaydin and Kaynak, UCI, 1998)."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    inputs = torch.from_numpy(loaded.images).to(torch.uint8).unsqueeze(1)  # (N, 1, 8, 8), 0 to 16
    targets = torch.from_numpy(loaded.target)
    info = DataInfo("digits", (1, 8, 8), "classes", 10, {}, tuple(str(n) for n in range(10)))
    holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
    return resident(info, inputs, targets, holdout, eval_batch_size, per_feature=False)


def table(
    name: Literal["breast_cancer", "wine", "iris", "diabetes"],
    val_fraction: Split,
    test_fraction: Split,
    split_seed: Natural,
    fold: Natural | None,
    num_folds: Count,
    limit: Count | None,
    eval_batch_size: Count,
) -> InMemoryData:
    """A table of measurements with the class, or for diabetes the progression, of each row.

    breast_cancer 569 x 30 (Wolberg et al., UCI, 1995), wine 178 x 13 (Forina et al., UCI, 1991),
    iris 150 x 4 (Fisher, 1936), diabetes 442 x 10 (Efron et al., 2004).
    """
    from sklearn import datasets

    load = getattr(datasets, f"load_{name}")
    loaded = load(scaled=False) if name == "diabetes" else load()
    inputs = torch.from_numpy(loaded.data).to(torch.float32)
    if name == "diabetes":
        targets = torch.from_numpy(loaded.target).to(torch.float32).unsqueeze(1)  # (N, 1)
        info = DataInfo(name, (inputs.shape[1],), "values", 1, {})
    else:
        targets = torch.from_numpy(loaded.target).to(torch.int64)
        names = tuple(str(label) for label in loaded.target_names)
        info = DataInfo(name, (inputs.shape[1],), "classes", len(names), {}, names)
    holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
    return resident(info, inputs, targets, holdout, eval_batch_size, per_feature=True)
