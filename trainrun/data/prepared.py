"""Datasets whose samples are brought into the form (input, target), and how they become a batch."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence, Sized
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from trainrun.data.padding import pad
from trainrun.data.sample_form import WHOLE, SampleForm, form_of
from trainrun.data.samples import (
    Collate,
    FailedSample,
    Pair,
    Seeded,
    collate,
    describe_error,
    size_of,
    source_of,
    stream,
    typed,
)
from trainrun.tables.names import Key
from trainrun.vocabulary.errors import ConfigError, DataError

PAIR = SampleForm((0,), 1)


class _Prepared:
    """What both kinds of dataset share: samples are read by `form`, all other attributes are the user's."""

    def __init__(self, dataset: Dataset[Any], form: SampleForm | None, collate: Collate) -> None:
        self.unprepared, self.form, self.collate_prepared = source_of(dataset), form, collate

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "unprepared":  # while a loader process unpickles it
            raise AttributeError(name)
        return getattr(self.unprepared, name)


class Prepared(_Prepared, Dataset[Any]):
    """A map-style dataset of (input, target) samples."""

    def __len__(self) -> int:
        return len(cast(Any, self.unprepared))

    def __getitem__(self, index: int) -> Any:
        sample = self.unprepared[index]
        return sample if self.form is None else self.form(sample, f"sample {index}")


def as_dataset(samples: Any) -> Any:
    """Wrap a DataLoader, or what has samples by number, as a list or Hugging Face's table, as a Dataset."""
    if isinstance(samples, DataLoader):
        if samples.batch_sampler is not None:
            raise ConfigError.of("data.train", "loads batches; give it batch_size=None: a run makes its own")
        return PreparedStream(cast(Any, samples), None, collate)
    is_plain = all(hasattr(samples, name) for name in ("__len__", "__getitem__"))
    return Prepared(samples, None, collate) if is_plain and not isinstance(samples, Dataset) else samples


class PreparedStream(_Prepared, IterableDataset[Any]):
    """The same for a stream."""

    def __iter__(self) -> Iterator[Any]:
        samples = iter(cast(Any, self.unprepared))
        form = self.form or (lambda sample, name: sample)
        return (form(sample, f"sample {number}") for number, sample in enumerate(samples))


@dataclass(frozen=True)
class OwnCollate:
    """The user's function of a list of samples, as the dataset gives them, that returns a batch."""

    function: Callable[[list[Any]], Any]
    form: SampleForm

    def __call__(self, samples: list[Any]) -> Pair | FailedSample:
        if failed := next((sample for sample in samples if isinstance(sample, FailedSample)), None):
            return failed
        try:
            return typed(*self.form(batch_of(self.function, samples), "a batch"))
        except DataError as error:
            return FailedSample(str(error))


def batch_of(function: Callable[[list[Any]], Any], samples: list[Any]) -> Any:
    """What the user's function makes of samples. Raises DataError where it fails."""
    try:
        return function(samples)
    except (Exception, SystemExit) as error:
        reason = describe_error(error, function.__module__)
        name = getattr(function, "__name__", type(function).__name__)
        raise DataError(f"data.collate: {name} fails on {len(samples)} samples: {reason}") from error


def prepared(
    datasets: dict[str, Dataset[Any]],
    inputs: Key | Sequence[Key] | None,
    target: Key | None,
    function: Callable[[list[Any]], Any] | None,
    target_kind: str | None,
    special: Collection[Key] = (),
) -> tuple[dict[str, Dataset[Any]], str]:
    """(datasets of (input, target) samples, a note for the plan), by the first sample of `train`.

    `inputs` and `target` name the entries, None where they are to be found. `function` makes batches:
    `pad`, or the user's own. A task of the kind "whole" gets all entries but the `special` as inputs.
    Raises ConfigError where names do not fit, DataError where the user's function fails.
    """
    sample = first_of(datasets["train"])
    if sample is None or isinstance(sample, FailedSample):
        return datasets, ""  # what is wrong with it is said where it is described
    if target_kind == "whole" and target is not None:
        text = "has no meaning where the model gets all entries; name those it needs in data.inputs"
        raise ConfigError.of("data.targets", text, "data.targets=null")
    own = None if function is pad else function
    shown = sample if own is None else batch_of(own, [sample])
    if target_kind == "whole" and inputs is None:
        form = replace(WHOLE, left_out=tuple(special))
    else:
        form = form_of(shown, inputs, target, target_kind not in (None, "whole"), special)
    if form == PAIR and function is None and isinstance(sample, (tuple, list)):
        return datasets, ""
    if own is not None:
        return _each(datasets, None, OwnCollate(own, form)), form.note
    stack = pad if function is pad else _inputs_alone if form.target is None else default_collate
    return _each(datasets, form, partial(collate, stack=stack)), form.note


def _each(
    datasets: dict[str, Dataset[Any]], form: SampleForm | None, collate: Collate
) -> dict[str, Dataset[Any]]:
    return {
        name: (PreparedStream if isinstance(dataset, IterableDataset) else Prepared)(dataset, form, collate)
        for name, dataset in datasets.items()
    }


def first_of(dataset: Dataset[Any]) -> Any:
    """The first sample; None of a dataset that is empty, or has no length."""
    if isinstance(dataset, IterableDataset):
        return next(stream(dataset, 0), None)
    return Seeded(dataset)[0, 0] if isinstance(dataset, Sized) and size_of(dataset) else None


def _inputs_alone(samples: list[Pair]) -> Pair:
    return default_collate([inputs for inputs, _ in samples]), None
