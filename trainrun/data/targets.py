"""Convert the targets of any Dataset to what the task needs, where nothing is lost by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from trainrun.data.faults import first_unfit
from trainrun.data.samples import tensors_in
from trainrun.vocabulary.errors import ConfigError, DataError

_ADVICE = {
    "classes": "for one class per sample use task=classification loss=cross_entropy",
    "labels": "for yes-or-no labels, each 0 or 1, use task=multilabel loss=bce_with_logits",
    "values": "for numbers use task=regression loss=mse",
}
_NOTES = {
    "step_classes": "each step or pixel has a class, -100 is none",
    "step_values": "each step or pixel has a value, all on one scale",
}
_LEARNS = {
    "classes": "one class per sample",
    "labels": "labels, each 0 or 1",
    "values": "one number or a vector of numbers per sample",
    "tokens": "a token for each token of the input",
}
# Integers are refused as classes where the largest is far above their number: such outputs are never trained.
_MOST_SPARSE = 10  # times as many classes as different numbers: a subset of a data set's classes stays below
_MOST_UNASKED = 1000  # classes that are always accepted: so few outputs cost nothing
_MOST_FLOATS = 20  # different floats that may be classes though hardly any two samples share one


@dataclass(frozen=True)
class _Form:
    """A way to convert targets: which ones fit, in words and as a test of each, and the conversion."""

    expected: str
    fits: Callable[[Tensor], Tensor]  # (N, ...) bool
    convert: Callable[[Tensor], Tensor]


def _is_bit(targets: Tensor) -> Tensor:
    return (targets == 0) | (targets == 1)


_FORMS = {
    "values": _Form(
        "", lambda t: torch.ones(len(t), dtype=torch.bool), lambda t: t.float().reshape(len(t), -1)
    ),
    "class": _Form("a class", lambda t: t == t.round(), lambda t: t.long().reshape(-1)),
    "one-hot": _Form(
        f"a single 1 among zeros; {_ADVICE['labels']}",
        lambda t: _is_bit(t).all(1) & (t.sum(1) == 1),
        lambda t: t.argmax(1),
    ),
    "labels": _Form(
        f"labels, each 0 or 1; {_ADVICE['values']}", _is_bit, lambda t: t.long().reshape(len(t), -1)
    ),
}


def _pair(low: int, high: int) -> _Form:
    expected = f"{low} or {high}"
    return _Form(expected, lambda t: (t == low) | (t == high), lambda t: (t == high).long().reshape(-1))


@dataclass(frozen=True)
class TargetReading:
    """How targets of one shape and type are converted."""

    kind: str  # as DataInfo has it
    form: str  # of `_FORMS`, or "plain" where nothing is converted
    shape: tuple[int, ...]  # of one target
    is_float: bool
    note: str = ""  # says in the plan what is converted
    names: tuple[str, ...] = ()  # of the form "pair": two numbers, which are read as classes 0 and 1

    def __call__(self, targets: Any, indices: Sequence[int] | Tensor, name: str) -> Any:
        """Convert a batch of stacked targets. Raises DataError for the first that does not fit."""
        if self.form == "plain" or not isinstance(targets, Tensor):
            return targets
        form = _pair(*map(int, self.names)) if self.form == "pair" else _FORMS[self.form]
        if tuple(targets.shape[1:]) != self.shape or targets.is_floating_point() != self.is_float:
            got = _kind_and_shape(targets.is_floating_point(), tuple(targets.shape[1:]))
            text = f"have targets of {got}, not {_kind_and_shape(self.is_float, self.shape)}"
            raise DataError(f"data: sample {int(indices[0])} of {name} and others {text}")
        if (row := first_unfit(form.fits(targets))) is not None:
            sample = f"sample {int(indices[row])} of {name} has the target"
            if self.form == "class":
                text = f"learns one class per sample; {sample} {targets[row].item():g}; {_ADVICE['values']}"
                raise ConfigError.of("task", text)
            raise DataError(f"data: {sample} {targets[row].tolist()}, not {form.expected}")
        return form.convert(targets)


def _kind_and_shape(is_float: bool, shape: tuple[int, ...]) -> str:
    return f"{'floats' if is_float else 'integers'} of shape {shape}"


def reading_of(targets: Any, task_kind: str | None, name: str, inputs: Any = None) -> TargetReading:
    """Choose how the targets of dataset `name` are read, by the first: `targets`, a batch of one.

    `task_kind` is the kind that the task learns; with None their type and shape decide. `inputs` are the
    sample's: a class beside each of their tokens is no one-hot vector.
    Raises DataError where no task could learn them, ConfigError where this one cannot.
    """
    if task_kind == "whole":
        return TargetReading("whole", "plain", (), False)
    if isinstance(targets, Tensor) and (kind := _kind_of_steps(targets, task_kind, inputs)):
        return TargetReading(kind, "plain", (), targets.is_floating_point(), _NOTES[kind])
    if not isinstance(targets, Tensor):
        if task_kind in (None, "other"):
            return TargetReading("other", "plain", (), False)
        raise DataError(f"data: sample 0 of {name} has the target {_no_number(targets)}")
    shape, is_float = tuple(targets.shape[1:]), targets.is_floating_point()
    natural = "other" if len(shape) > 1 else "values" if is_float else "labels" if shape else "classes"
    kind = task_kind or natural
    form = "plain" if task_kind in (None, "other") else _form(targets, kind)
    if form is None:
        text = f"learns {_LEARNS[kind]}; a target of {name} is {describe_target(targets)}; {_advice(targets)}"
        raise ConfigError.of("task", text)
    return TargetReading(kind, form, shape, is_float, _note(form, shape, is_float, targets))


def _kind_of_steps(targets: Tensor, task_kind: str | None, inputs: Any) -> str | None:
    """The kind of targets with a class or value for each step or pixel; None for one of a whole sample.

    A vector of classes is one of steps where the inputs have as many steps.
    """
    num_axes, is_float = targets.ndim - 1, targets.is_floating_point()
    if task_kind == "classes" and not is_float and num_axes:
        alike = [tensor for tensor in tensors_in(inputs) if tensor.shape[1:2] == targets.shape[1:2]]
        is_one_hot = targets.shape[1] == 1 or bool(_FORMS["one-hot"].fits(targets.flatten(1)).all())
        of_tokens = any(t.shape == targets.shape and not t.is_floating_point() for t in alike)
        of_series = not is_one_hot and any(tensor.ndim > 2 for tensor in alike)
        is_of_steps = num_axes > 1 or of_tokens or of_series
        return "step_classes" if is_of_steps else None
    return "step_values" if task_kind == "values" and is_float and num_axes > 1 else None


def describe_target(targets: Tensor) -> str:
    """Describe the first target of a batch: `[0, 1, 2, 3, ...] (int64 of shape (6,))`."""
    first = targets[0]
    values = first.flatten()[:4].tolist()
    text = f"{values[0]:g}" if first.numel() == 1 else f"[{', '.join(f'{value:g}' for value in values)}"
    text += "" if first.numel() == 1 else ", ...]" if first.numel() > len(values) else "]"
    kind = str(first.dtype).removeprefix("torch.")
    return f"{text} ({kind}{f' of shape {tuple(first.shape)}' if first.ndim else ''})"


def resolve_classes(
    reading: TargetReading, classes: Tensor, num_classes: int, name: str, are_all: bool = False
) -> tuple[TargetReading, Tensor, int]:
    """(reading, classes, number of classes), once every class of the training set was read.

    `num_classes` is what the dataset says, 0 where it does not. The labels -1 and 1 become 0 and 1, and
    so do any two where these `are_all` that any split has.
    Raises ConfigError for numbers that cannot be classes.
    """
    labels = classes.unique().tolist()
    is_pair = are_all and len(labels) == 2 and reading.form != "one-hot"
    if not num_classes and (labels == [-1, 1] or (is_pair and labels != [0, 1])):
        note = f"the labels {labels[0]} and {labels[1]} are read as two classes"
        reading = replace(reading, form="pair", note=note, names=tuple(map(str, labels)))
        return reading, (classes == labels[1]).long(), 2
    count = reading.shape[0] if reading.form == "one-hot" else num_classes or max(labels[-1], 0) + 1
    if num_classes not in (0, count):
        text = f"the one-hot targets of {name} have {count} places, it names {num_classes} classes"
        raise DataError(f"data: {text}")
    # Negative numbers as frequent as half a class are a wrong numbering; rarer ones are named later.
    if labels[0] < 0 and 2 * len(labels) * int((classes < 0).sum()) >= len(classes):
        text = f"learns classes, counted from 0; the targets of {name} begin with {labels[0]}"
        fix = f"add {-labels[0]} to them in the data set; {_ADVICE['values']}"
        raise ConfigError.of("task", f"{text}; {fix}")
    if reading.is_float and reading.form == "class" and _MOST_FLOATS < len(labels) > len(classes) / 2:
        text = f"learns classes; the {len(classes)} targets of {name} are {len(labels)} different floats"
        raise ConfigError.of("task", f"{text}; {_ADVICE['values']}")
    if num_classes or reading.form == "one-hot" or len(labels) >= count:
        return reading, classes, count
    shown = ", ".join(map(str, labels[:4])) + (", ..." if len(labels) > 4 else "")
    if reading.is_float or (count > _MOST_UNASKED and count > _MOST_SPARSE * len(labels)):
        text = f"learns classes, counted from 0; the targets of {name} are {shown}; {_ADVICE['values']}"
        raise ConfigError.of("task", f"{text}, or number the classes from 0 in the data set")
    return replace(reading, note=_gaps(labels, count, shown)), classes, count


def _gaps(labels: list[int], count: int, shown: str) -> str:
    if labels == list(range(1, count)):
        return f"classes: no sample has class 0; labels that count from 1 need one subtracted, got {shown}"
    text = f"classes: only {len(labels)} of {count} have samples, got {shown}"
    return f"{text}; number them from 0 without gaps"


def _form(targets: Tensor, kind: str) -> str | None:
    """The form in `_FORMS` that reads such targets as `kind`; None where they cannot be of that kind."""
    shape, is_float = tuple(targets.shape[1:]), targets.is_floating_point()
    if kind == "tokens":
        return "plain" if len(shape) == 1 and not is_float else None
    if len(shape) > 1 or targets.is_complex():
        return None
    if kind == "values":
        return "plain" if targets.dtype == torch.float32 else "values"
    if kind == "labels":
        if not bool(_is_bit(targets).all()):
            return None
        return "plain" if len(shape) == 1 and not is_float else "labels"
    if not shape and not is_float:
        return "plain"
    form = "class" if shape in ((), (1,)) else "one-hot"
    return form if bool(_FORMS[form].fits(targets).all()) else None


def _note(form: str, shape: tuple[int, ...], is_float: bool, targets: Tensor) -> str:
    kind = "floats" if is_float else "integers"
    if form == "class":
        return f"targets are {kind}{f' of shape {shape}' if not is_float else ''}, read as classes"
    if form == "one-hot":
        return f"targets are one-hot, read as classes 0 to {shape[0] - 1}"
    if form == "values" and not is_float:
        rounded = bool((targets.abs() > 2**24).any())
        return f"targets are integers, read as numbers{', rounded to 7 digits' if rounded else ''}"
    if form == "labels" and (is_float or not shape):
        return f"targets are {kind} 0 and 1, read as labels"
    return ""


def _advice(targets: Tensor) -> str:
    """The nearest setting or change with which such targets can be learned."""
    shape, is_float = tuple(targets.shape[1:]), targets.is_floating_point()
    if len(shape) > 1:
        text = "give one number or one vector per sample"
        return f"{text}, or use a task of your own: task._target_=my_task.Task"
    if not shape or (shape == (1,)):
        return _ADVICE["values"] if is_float else f"{_ADVICE['classes']}; {_ADVICE['values']}"
    total = float(targets.sum())
    if is_float and bool((targets >= 0).all()) and abs(total - 1) < 1e-3:
        soft = "probabilities of classes become a class by target.argmax() in the data set"
        return f"{soft}; to learn them as numbers use task=regression loss=mse"
    if bool(_is_bit(targets).all()):
        return _ADVICE["labels"]
    tokens = "; for tokens that follow the input's tokens use task=language_model"
    return _ADVICE["values"] + ("" if is_float else tokens)


def _no_number(targets: Any) -> str:
    """Describe a batch of one target that is not a tensor, and say what to do."""
    if isinstance(targets, dict):
        keys = ", ".join(map(str, targets))
        return f"dict ({keys}); give one of them as the target, or use a task of your own"
    first = targets[0] if isinstance(targets, (list, tuple)) and targets else targets
    if isinstance(first, str):
        text = f"{first!r}, a text; give its number, such as names.index({first!r})"
        return f"{text}, and the names as `classes`"
    if isinstance(targets, (list, tuple)) and all(isinstance(target, Tensor) for target in targets):
        return f"of {len(targets)} tensors; join them by torch.cat or torch.stack, or use a task of your own"
    return f"of type {type(first).__name__}; give a number or a tensor of numbers"
