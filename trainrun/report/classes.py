"""Precision, recall and F1 of each class, and which class was taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.text import Text
from torch import Tensor

from trainrun.protocols import Batch
from trainrun.run.listing import printable
from trainrun.task.binary import Binary
from trainrun.task.classification import Classification
from trainrun.terminal.numbers import number
from trainrun.terminal.table import cut, heading, laid_out

MOST = 20  # classes that are listed one by one, and whose matrix can be taken in
_WORST = 10  # rows, of many classes
_NAME = 20  # columns for a class's name

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Of each class, (C,): NaN where it is not defined, for no sample was predicted so, or is so."""

    precision: Floats  # of those predicted, the share that is
    recall: Floats  # of those that are, the share predicted
    f1: Floats  # their harmonic mean, 2 TP / (2 TP + FP + FN)
    support: NDArray[np.int64]  # samples that are

    def means(self) -> dict[str, list[float]]:
        """Over the classes that occur, each as much as another and each as often as it occurs."""
        columns = [np.nan_to_num(column) for column in (self.precision, self.recall, self.f1)]
        weights = {"mean": ~np.isnan(self.f1), "weighted": self.support}
        return {name: [float(column @ w / w.sum()) for column in columns] for name, w in weights.items()}


def scores(confusion: NDArray[np.int64]) -> Scores:
    """From a confusion matrix (C, C): rows are true classes, columns predicted ones."""
    hits, claimed, real = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    with np.errstate(invalid="ignore"):  # 0 / 0
        return Scores(hits / claimed, hits / real, 2 * hits / (claimed + real), real)


def confused(confusion: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """(true class, predicted class, times) of every mistake that was made, the most frequent first."""
    pairs = [(int(true), int(taken)) for true, taken in np.argwhere(confusion) if true != taken]
    return sorted(((*pair, int(confusion[pair])) for pair in pairs), key=lambda mistake: -mistake[2])


class ClassReport:
    """What a classifier made of a split."""

    def __init__(self, task: Classification | Binary) -> None:
        self.task = task
        count = task.info.num_targets
        names = task.info.class_names or tuple(map(str, range(count)))
        self.names = [cut(printable(name), _NAME) for name in names]
        self.confusion: NDArray[np.int64] = np.zeros((count, count), np.int64)

    def see(self, outputs: Tensor, batch: Batch) -> None:
        """Count a batch as the task counts it for its metrics."""
        sums = self.task.sums(outputs, self.task.targets(batch.targets))
        self.confusion += sums["confusion"].cpu().numpy()

    def lines(self, width: int) -> list[Text]:
        """Text at most `width` columns wide."""
        result, count = scores(self.confusion), len(self.names)
        if count <= MOST:
            lines = [*heading(""), *self._by_class(result, range(count))]
            if matrix := _matrix(self.confusion, self.names, width):
                return [
                    *lines,
                    *heading("rows are the true classes, columns what they were taken for"),
                    *matrix,
                ]
        else:
            worst = [int(c) for c in np.argsort(result.f1, kind="stable") if result.support[c]][:_WORST]
            title = f"the {len(worst)} of {count} classes with the lowest f1"
            lines = [*heading(title), *self._by_class(result, worst)]
        return [*lines, *heading("most often taken for another"), *self._pairs(result)]

    def _by_class(self, result: Scores, shown: Sequence[int]) -> list[Text]:
        columns = result.precision, result.recall, result.f1
        rows = [(self.names[c], [column[c] for column in columns], result.support[c]) for c in shown]
        rows += [(name, means, result.support.sum()) for name, means in result.means().items()]
        cells = [[name, *map(_share, shares), str(support)] for name, shares, support in rows]
        lines = laid_out([["class", "precision", "recall", "f1", "support"], *cells])
        for line in lines[-2:]:
            line.stylize("bold")
        return lines

    def _pairs(self, result: Scores) -> list[Text]:
        rows = [
            [self.names[true], self.names[taken], str(times), f"{times / result.support[true]:.1%}"]
            for true, taken, times in confused(self.confusion)[:_WORST]
        ]
        if not rows:
            return [Text("  no sample was taken for another class")]
        return laid_out([["class", "taken for", "times", "of the class"], *rows], left=2)


def _matrix(confusion: NDArray[np.int64], names: Sequence[str], width: int) -> list[Text]:
    """A line per true class; its columns are headed by names, or by numbers, or there are no lines.

    Mistakes are red; a dot is none.
    """
    numbers = [str(c) for c in range(len(names))]
    labels = list(names) if list(names) == numbers else [f"{c} {name}" for c, name in enumerate(names)]
    figures = [[str(n) if n else "." for n in row] for row in confusion]
    most = max(len(figure) for row in figures for figure in row)
    for heads, first, gap in ((names, names, 2), (numbers, labels, 2), (numbers, labels, 1)):
        column, indent = gap + max(most, *map(cell_len, heads)), 2 + max(map(cell_len, first))
        if indent + column * len(names) <= width:
            break
    else:
        return []
    padded = [" " * (column - cell_len(head)) + head for head in heads]
    lines = [Text(" " * indent + "".join(padded), style="dim")]
    for true, row in enumerate(figures):
        line = Text("  " + first[true] + " " * (indent - 2 - cell_len(first[true])))
        for taken, figure in enumerate(row):
            style = "dim" if figure == "." else "bold" if taken == true else "red"
            line.append(f"{figure:>{column}}", style)
        lines.append(line)
    return lines


def _share(value: float) -> str:
    return "-" if np.isnan(value) else number(value)
