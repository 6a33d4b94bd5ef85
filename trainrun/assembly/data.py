"""From the settings of `data` to the data of a run: any option, any Dataset, a batch function, a sampler."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.utils.data import Dataset

from trainrun.assembly.factory import Factory, Settings
from trainrun.assembly.initial import preprocessing_for
from trainrun.config.call import misfit, parameters_of, resolve
from trainrun.config.injection import NAMED, SLOTS
from trainrun.config.paths import CONF
from trainrun.config.plain import read_option
from trainrun.data.dataset import from_dataset
from trainrun.data.own_sampler import OwnSampler
from trainrun.data.padding import pad
from trainrun.data.samples import describe_error
from trainrun.protocols import Data
from trainrun.vocabulary.errors import ConfigError, DataError, TrainrunError

_AFTERWARDS = ("_target_", "balanced", "collate", "sampler")  # no arguments of from_dataset
_SAMPLE_KEYS = ("inputs", "targets", "group", "time", "weights", "collate")  # of samples of the user's own


def open_data(make: Factory) -> Data:
    """Open the data. Raises ConfigError for settings that do not fit them, DataError for what they hold."""
    node = dict(make.settings["data"])
    extras = {name: node.pop(name) for name in SLOTS["data"].extras if name in node}
    names, _ = parameters_of(make.callable_of("data"))
    taken = {*names, "collate"} if "collate_function" in names else names
    node |= {name: value for name, value in extras.items() if name in names}
    for split in ("train", "val", "test"):
        if isinstance(node.get(split), Mapping):
            node[split] = _opened(make, f"data.{split}", node[split])
    target_kinds: tuple[str, ...] = getattr(make.callable_of("task"), "kinds", ())
    offered = {
        "target_kind": target_kinds[0] if len(target_kinds) == 1 else None,  # None: of several
        "collate_function": _collate(make, extras.get("collate")),
    }
    preprocessing = preprocessing_for(make.settings, "preprocessing" in names)
    data = _opened(make, "data", node, offered | {"preprocessing": preprocessing})
    if isinstance(data, Dataset):
        option = read_option(CONF / "data" / "dataset.yaml", "data")
        values = option | extras | {"train": data, **offered}
        data = from_dataset(**{k: value for k, value in values.items() if k not in _AFTERWARDS})
    elif unused := [key for key in _SAMPLE_KEYS if extras.get(key) is not None and key not in taken]:
        text = f"has no effect on {data.info.name}, whose samples are (input, target) already"
        raise ConfigError.of(f"data.{unused[0]}", text, f"data.{unused[0]}=null")
    if extras.get("balanced") and "balanced" not in names:
        _balance(data)
    if (name := extras.get("sampler")) is not None:
        _sample_with(make, data, str(name), bool(extras.get("balanced")))
    return data  # type: ignore[no-any-return]


def _function(make: Factory, key: str, name: str) -> Callable[..., Any]:
    """The user's function of a dotted name that is the setting `key` itself."""
    if "." not in name:
        known = "pad, or " if key == "data.collate" else ""
        raise ConfigError.of(key, f"must be {known}the dotted name of a function of yours, got {name!r}")
    if text := misfit(name, NAMED, make.trust, make.stored):
        raise ConfigError.of(key, text)
    return resolve(name, key, NAMED, make.trust, make.stored)


def _collate(make: Factory, name: str | None) -> Callable[[list[Any]], Any] | None:
    """Find `pad`, or a function of the user's by its dotted name."""
    if name is None or name == "pad":
        return None if name is None else pad
    return _function(make, "data.collate", name)


def _sample_with(make: Factory, data: Any, name: str, is_balanced: bool) -> None:
    """Draw each epoch by a function of the user's. Raises ConfigError for data that cannot."""
    function = _function(make, "data.sampler", name)
    if is_balanced:
        text = "draws the epoch, and so does data.balanced; choose one of them"
        raise ConfigError.of("data.sampler", text, "data.balanced=false")
    if not hasattr(data, "sample_with"):
        text = f"{type(data).__name__} draws its samples itself; it has no method sample_with"
        raise ConfigError.of("data.sampler", text, "data.sampler=null")
    data.sample_with(OwnSampler(function))


def _balance(data: Any) -> None:
    """Draw every class equally often. Raises ConfigError for data that have none, or cannot."""
    has_classes = data.info.kind == "classes"
    if not has_classes or not hasattr(data, "balance"):
        reason = f"those of {data.info.name} are {data.info.kind}"
        reason = f"{type(data).__name__} has no method balance" if has_classes else reason
        text = f"draws every class equally often, so targets must be classes; {reason}"
        raise ConfigError.of("data.balanced", text, "data.balanced=false")
    data.balance()


def _opened(make: Factory, path: str, node: Settings, offered: Settings | None = None) -> Any:
    """Data as their class makes them. Raises DataError for what goes wrong in a class of the user's."""
    try:
        return make.at(path, node, offered)
    except (Exception, SystemExit) as error:
        target = str(node["_target_"])
        if isinstance(error, TrainrunError) or target.startswith("trainrun."):
            raise
        reason = describe_error(error, target.rpartition(".")[0])
        raise DataError(f"{path}: {target} failed: {reason}") from error
