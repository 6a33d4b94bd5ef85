"""Precision, recall and F1 of each class, and which class was taken for which."""

from __future__ import annotations

from collections.abc import Sequence

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


def scores(confusion: NDArray[np.int64]) -> dict[str, Floats]:
    """Precision, recall and f1 of each class, (C,): NaN where no sample was predicted so, or is so.

    From a confusion matrix (C, C): rows are true classes, columns predicted ones.
    """
    hits, claimed, real = confusion.diagonal(), confusion.sum(0), confusion.sum(1)
    with np.errstate(invalid="ignore"):  # 0 / 0
        return {"precision": hits / claimed, "recall": hits / real, "f1": 2 * hits / (claimed + real)}


def means(confusion: NDArray[np.int64]) -> dict[str, list[float]]:
    """The same over the classes that occur, each as much as another and each as often as it occurs."""
    result = scores(confusion)
    weights = {"mean": ~np.isnan(result["f1"]), "weighted": confusion.sum(1)}
    columns = [np.nan_to_num(column) for column in result.values()]
    return {name: [float(column @ w / w.sum()) for column in columns] for name, w in weights.items()}


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
        targets = batch.targets
        if self.task.has_steps:
            outputs, targets = self.task.counted_rows(outputs, targets)
        sums = self.task.sums(outputs, self.task.targets(targets))
        self.confusion += sums["confusion"].cpu().numpy()

    def lines(self, width: int) -> list[Text]:
        """Text at most `width` columns wide."""
        count = len(self.names)
        if count <= MOST:
            lines = [*heading(""), *self._by_class(range(count))]
            if matrix := _matrix(self.confusion, self.names, width):
                title = "rows are the true classes, columns what they were taken for"
                return [*lines, *heading(title), *matrix]
        else:
            order = np.argsort(scores(self.confusion)["f1"], kind="stable")
            worst = [int(c) for c in order if self.confusion[c].any()][:_WORST]
            title = f"the {len(worst)} of {count} classes with the lowest f1"
            lines = [*heading(title), *self._by_class(worst)]
        return [*lines, *heading("most often taken for another"), *self._pairs()]

    def _by_class(self, shown: Sequence[int]) -> list[Text]:
        result, support = scores(self.confusion), self.confusion.sum(1)
        rows = [(self.names[c], [column[c] for column in result.values()], support[c]) for c in shown]
        rows += [(name, shares, support.sum()) for name, shares in means(self.confusion).items()]
        cells = []
        for name, shares, samples in rows:
            cells.append([name, *("-" if np.isnan(x) else number(x) for x in shares), str(samples)])
        lines = laid_out([["class", *result, "support"], *cells])
        for line in lines[-2:]:
            line.stylize("bold")
        return lines

    def _pairs(self) -> list[Text]:
        rows = []
        for true, taken, times in confused(self.confusion)[:_WORST]:
            share = f"{times / self.confusion[true].sum():.1%}"
            rows.append([self.names[true], self.names[taken], str(times), share])
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
