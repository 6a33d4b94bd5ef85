"""Find inputs and targets in samples of any form: pairs, longer tuples, dicts, dataclasses, one tensor."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from trainrun.config.suggest import did_you_mean
from trainrun.protocols import InputParts
from trainrun.tables.names import Key, asked_for_target, inputs_among, listed, target_among
from trainrun.vocabulary.errors import ConfigError, DataError, Problem


@dataclasses.dataclass(frozen=True)
class SampleForm:
    """Which entries of a sample are its inputs and its target: names in a dict, places in a tuple."""

    inputs: tuple[Key, ...]  # empty: the whole sample
    target: Key | None
    left_out: tuple[Key, ...] = ()  # entries that are neither

    def __call__(self, sample: Any, name: str = "a sample") -> tuple[Any, Any]:
        """(inputs, target) of a sample, or of a batch in the same form; `name` is what messages call it.

        Raises DataError where an entry is missing.
        """
        if not self.inputs:
            return _whole(sample, self.left_out), None
        chosen = {key: entry(sample, key, name) for key in self.inputs}
        target = None if self.target is None else entry(sample, self.target, name)
        if len(chosen) == 1:
            return next(iter(chosen.values())), target
        return (InputParts(chosen.values()) if isinstance(self.inputs[0], int) else chosen), target

    @property
    def note(self) -> str:
        """Say in the plan what was taken for what; empty for a pair."""
        if self.inputs == (0,) and self.target == 1 and not self.left_out:
            return ""
        left_out = f"; left out: {listed(self.left_out)}" if self.left_out else ""
        if not self.inputs:
            return f"the model gets all entries of a sample{left_out}"
        parts = f"inputs are {listed(self.inputs)}"
        target = f", the target is {self.target}" if self.target is not None else ", without targets"
        return f"{parts}{target}{left_out}"


WHOLE = SampleForm((), None)


def form_of(
    sample: Any,
    inputs: Key | Sequence[Key] | None,
    target: Key | None,
    needs_target: bool = True,
    special: Collection[Key] = (),
) -> SampleForm:
    """Choose the entries of `sample`; `inputs` and `target` are the user's, None where they are to be found.

    Entries that are `special`, such as a weight, are taken for neither.
    Raises ConfigError where the names do not tell, or tell of entries that are not there.
    """
    keys = _keys(sample)
    if keys is None:
        return _form_of_single(sample, inputs, target, needs_target)
    several = [inputs] if isinstance(inputs, (str, int)) else inputs
    chosen = tuple(several or ())
    names = [*((key, "inputs") for key in chosen), *([(target, "targets")] if target is not None else [])]
    text = f"is no entry of a sample; it has {listed(keys)}"
    if wrong := [Problem(f"data.{name}", f"{key!r} {text}") for key, name in names if key not in keys]:
        raise ConfigError(wrong)
    if target is None and (needs_target or not chosen):
        target = target_among([key for key in keys if key not in (*chosen, *special)])
    if target is None and needs_target:
        text = f"cannot tell which entry is the target, a sample has {listed(keys)}"
        rest = [key for key in keys if key not in special]
        raise ConfigError.of("data.targets", f"{text}; name it by {asked_for_target(rest)}")
    chosen = chosen or inputs_among([key for key in keys if key not in (target, *special)])
    return SampleForm(chosen, target, tuple(key for key in keys if key not in (*chosen, target)))


def _form_of_single(
    sample: Any, inputs: Key | Sequence[Key] | None, target: Key | None, needs_target: bool
) -> SampleForm:
    for value, name in ((inputs, "inputs"), (target, "targets")):
        if value is not None:
            text = f"names an entry, a sample is a {type(sample).__name__} without entries"
            raise ConfigError.of(f"data.{name}", text, f"data.{name}=null")
    if needs_target:
        text = f"a sample is a single {type(sample).__name__}; return an input and a target"
        raise DataError(f"data: {text}, or use task=model_loss for a model that returns its loss")
    return WHOLE


def _keys(sample: Any) -> list[Key] | None:
    """The names or places of a sample's entries; None for a sample without any."""
    if type(sample) is tuple and len(sample) > 1:  # the commonest, read for every sample
        return list(range(len(sample)))
    if isinstance(sample, Mapping):
        return list(sample)
    if dataclasses.is_dataclass(sample) and not isinstance(sample, type):
        return [field.name for field in dataclasses.fields(sample)]
    if isinstance(sample, (tuple, list)) and len(sample) > 1:
        names = getattr(sample, "_fields", ())
        return list(names) if target_among(list(names)) is not None else list(range(len(sample)))
    return None


def _whole(sample: Any, left_out: Collection[Key]) -> Any:
    """A sample as the arguments of a model: a dict, a tuple's parts in order, or a single value."""
    keys = _keys(sample)
    if keys is None and isinstance(sample, tuple) and len(sample) == 1:
        return sample[0]  # as a TensorDataset of inputs alone gives it
    if keys is None or (isinstance(sample, Mapping) and not left_out):
        return sample
    values = {key: entry(sample, key, "a sample") for key in keys if key not in left_out}
    return InputParts(values.values()) if isinstance(keys[0], int) else values


def require_entry(sample: Any, key: Key) -> None:
    """Raise ConfigError where a data set's first sample has no entry of that name or place."""
    keys = _keys(sample) or []
    if key not in keys:
        text = f"a sample has no entry {key!r}; it has {listed(keys)}"
        raise ConfigError.of("data", f"{text}{did_you_mean(str(key), list(map(str, keys)))}")


def entry(sample: Any, key: Key, name: str) -> Any:
    """An entry by its name or place. Raises DataError where the sample, called `name`, has none."""
    by_attribute = isinstance(key, str) and not isinstance(sample, (Mapping, list))
    try:
        return getattr(sample, str(key)) if by_attribute else sample[key]
    except (KeyError, IndexError, TypeError, AttributeError):
        keys = _keys(sample)
        got = f"it has {listed(keys)}" if keys else f"it is a {type(sample).__name__}"
        raise DataError(f"data: {name} has no entry {key!r}; {got}") from None
