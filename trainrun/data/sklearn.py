"""The real data sets that ship with scikit-learn: no download, a few hundred samples each.

Its files are read here: to import scikit-learn takes a second, most of it scipy's.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import numpy as np
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
    rows = torch.from_numpy(np.loadtxt(_shipped("digits.csv.gz"), delimiter=","))  # 64 pixels, then the class
    inputs, targets = rows[:, :-1].to(torch.uint8).reshape(-1, 1, 8, 8), rows[:, -1].long()
    info = DataInfo("digits", (1, 8, 8), "classes", 10, {}, tuple(str(n) for n in range(10)))
    holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
    return resident(info, inputs, targets, holdout, eval_batch_size)


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
    if name == "diabetes":
        inputs = torch.from_numpy(np.loadtxt(_shipped("diabetes_data_raw.csv.gz"))).float()
        targets = torch.from_numpy(np.loadtxt(_shipped("diabetes_target.csv.gz"))).float()[:, None]
        info = DataInfo(name, (inputs.shape[1],), "values", 1, {})
    else:
        file = _shipped(f"{name}_data.csv" if name == "wine" else f"{name}.csv")
        with file.open(encoding="utf-8") as lines:
            names = tuple(next(lines).strip().split(",")[2:])  # after the numbers of rows and columns
            rows = torch.from_numpy(np.loadtxt(lines, delimiter=","))
        inputs, targets = rows[:, :-1].float(), rows[:, -1].long()
        info = DataInfo(name, (inputs.shape[1],), "classes", len(names), {}, names)
    holdout = Holdout(val_fraction, test_fraction, split_seed, limit, fold, num_folds)
    return resident(info, inputs, targets, holdout, eval_batch_size)


def _shipped(file: str) -> Path:
    package = find_spec("sklearn")
    assert package is not None and package.origin is not None  # trainrun depends on it
    return Path(package.origin).parent / "datasets" / "data" / file
