"""The report by class holds scikit-learn's numbers, and fits the terminal."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from sklearn.metrics import classification_report, confusion_matrix

from trainrun.loss import BCEWithLogits, CrossEntropy
from trainrun.protocols import Batch, DataInfo, Position
from trainrun.report.classes import ClassReport, confused, means, scores
from trainrun.task.binary import Binary
from trainrun.task.classification import Classification


def info(num_classes: int, names: tuple[str, ...] = ()) -> DataInfo:
    return DataInfo("toy", (4,), "classes", num_classes, {}, names)


def drawn(num_classes: int, size: int, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """True and predicted classes; the last class but one never occurs, the last is never predicted."""
    generator = np.random.default_rng(seed)
    allowed = [c for c in range(num_classes) if c != num_classes - 2]
    true = generator.choice(allowed, size)
    taken = np.where(generator.random(size) < right, true, generator.choice(allowed, size))
    return true, np.where(taken == num_classes - 1, 0, taken)


def filled(report: ClassReport, true: np.ndarray, taken: np.ndarray, cuts: tuple[int, ...]) -> ClassReport:
    """The report after batches whose outputs say `taken`."""
    binary = isinstance(report.task, Binary)
    hot = torch.nn.functional.one_hot(torch.from_numpy(taken), len(report.names)).float()
    outputs = hot[:, 1:] - 0.5 if binary else hot
    targets = torch.from_numpy(true)
    for some_outputs, some_targets in zip(outputs.split(cuts), targets.split(cuts), strict=True):
        report.see(some_outputs, Batch(None, some_targets, range(len(some_targets)), Position()))
    return report


def classifier(num_classes: int, names: tuple[str, ...] = ()) -> ClassReport:
    return ClassReport(Classification([], CrossEntropy(None, ()), info(num_classes, names)))


@pytest.mark.parametrize(("num_classes", "right"), [(3, 0.7), (10, 0.9), (30, 0.2), (5, 1.0)])
def test_scores_are_those_of_scikit_learn(num_classes: int, right: float) -> None:
    true, taken = drawn(num_classes, 500, right, seed=num_classes)
    report = filled(classifier(num_classes), true, taken, (200, 299, 1))
    assert (report.confusion == confusion_matrix(true, taken, labels=range(num_classes))).all()
    result = scores(report.confusion)
    expected = classification_report(true, taken, output_dict=True, zero_division=np.nan)
    for c in range(num_classes):
        ours = [*(column[c] for column in result.values()), report.confusion[c].sum()]
        if (row := expected.get(str(c))) is None:
            assert not ours[-1] and np.isnan(ours[:-1]).all()
            continue
        assert ours == pytest.approx(list(row.values()), nan_ok=True)
    expected = classification_report(true, taken, output_dict=True, zero_division=0)
    for ours, theirs in (("mean", "macro avg"), ("weighted", "weighted avg")):
        figures = [expected[theirs][name] for name in ("precision", "recall", "f1-score")]
        assert means(report.confusion)[ours] == pytest.approx(figures)


def test_a_binary_task_is_counted_at_one_half() -> None:
    true, taken = np.array([0, 0, 1, 1, 1, 0, 1]), np.array([0, 1, 1, 0, 1, 0, 1])
    report = ClassReport(Binary([], BCEWithLogits(None, ()), info(2, ("sick", "well"))))
    filled(report, true, taken, (4, 3))
    assert (report.confusion == confusion_matrix(true, taken)).all()


def test_mistakes_are_sorted_by_how_often_they_were_made() -> None:
    true, taken = drawn(6, 400, 0.5, seed=1)
    counts = {
        (t, p): int(((true == t) & (taken == p)).sum()) for t, p in product(range(6), repeat=2) if t != p
    }
    mistakes = confused(confusion_matrix(true, taken, labels=range(6)))
    assert {(t, p): times for t, p, times in mistakes} == {pair: n for pair, n in counts.items() if n}
    assert [times for *_, times in mistakes] == sorted((n for n in counts.values() if n), reverse=True)


def text(report: ClassReport, width: int) -> list[str]:
    return [line.plain for line in report.lines(width)]


@pytest.mark.parametrize("num_classes", [2, 10, 20])
@pytest.mark.parametrize("width", [80, 120])
def test_every_figure_of_the_table_and_the_matrix_can_be_read_back(num_classes: int, width: int) -> None:
    true, taken = (
        drawn(num_classes, 300, 0.8, seed=0) if num_classes > 2 else (np.arange(9) % 2, np.arange(9) // 5)
    )
    names = tuple(f"kind{c}" for c in range(num_classes))
    lines = text(filled(classifier(num_classes, names), true, taken, (len(true),)), width)
    assert max(map(len, lines)) <= width
    matrix, expected = confusion_matrix(true, taken, labels=range(num_classes)), {}
    result = scores(matrix)
    for line in lines[2 : 2 + num_classes]:
        name, *figures, support = line.split()
        expected[name] = (*(np.nan if figure == "-" else float(figure) for figure in figures), int(support))
    for c, name in enumerate(names):
        ours = (*(column[c] for column in result.values()), matrix[c].sum())
        assert expected[name] == pytest.approx(ours, abs=5e-5, nan_ok=True)
    cells = [
        [int(n) if n != "." else 0 for n in line.split()[-num_classes:]] for line in lines[-num_classes:]
    ]
    assert cells == matrix.tolist()


def test_a_matrix_too_wide_and_many_classes_become_the_most_frequent_mistakes() -> None:
    true, taken = drawn(20, 30_000, 0.5, seed=0)
    narrow = text(filled(classifier(20), true, taken, (30_000,)), 60)
    assert "most often taken for another" in narrow and max(map(len, narrow)) <= 60
    assert len(narrow) < 50
    true, taken = drawn(30, 3000, 0.5, seed=0)
    lines = text(filled(classifier(30), true, taken, (3000,)), 120)
    matrix = confusion_matrix(true, taken, labels=range(30))
    worst = sorted((c for c in range(30) if matrix[c].any()), key=lambda c: scores(matrix)["f1"][c])[:10]
    assert lines[1] == "the 10 of 30 classes with the lowest f1"
    assert [int(line.split()[0]) for line in lines[3:13]] == worst
    line_number = lines.index("most often taken for another")
    for line, (t, p, times) in zip(lines[line_number + 2 :], confused(matrix)[:10], strict=True):
        assert line.split() == [str(t), str(p), str(times), f"{100 * times / (true == t).sum():.1f}%"]


def test_no_mistakes_are_said_in_words() -> None:
    true = np.arange(30)
    assert "  no sample was taken for another class" in text(filled(classifier(30), true, true, (30,)), 80)


def test_long_and_unprintable_names_stay_on_their_line() -> None:
    names = ("a" * 200, "b\x1b[2J\nc", "\N{CJK UNIFIED IDEOGRAPH-732B}" * 30)
    true = np.array([0, 1, 2, 0])
    report = filled(classifier(3, names), true, true, (4,))
    for line in report.lines(80):
        assert line.cell_len <= 80 and line.plain.isprintable()
