"""Instantiate a `_target_`: from a dotted name and plain values to a live object.

The only place that imports what a config names.

A target is a class below its slot's base, or a function of one of these modules: the slot's own in
trainrun, torchvision.models, timm.models, or a module in the folder where the command was started.
For a stored run that may be a stranger's, that folder's modules are not among them.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

from trainrun.config.injection import SLOTS, Slot
from trainrun.config.paths import is_run
from trainrun.config.signature import Parameter, Signature, names_in, signature, source_file
from trainrun.config.suggest import did_you_mean
from trainrun.vocabulary.errors import ConfigError, TrainrunError

_NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")  # no leading underscores
_FUNCTION_HOMES = ("torchvision.models", "timm.models")
# Never the user's own, even where the command is started above them.
LIBRARIES = (
    Path(__file__).resolve().parents[1],
    *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")),
)
_STORED_HOMES = ("torch", *_FUNCTION_HOMES, "torchvision.transforms", "trainrun")


@dataclass(frozen=True)
class StoredOrigin:
    """The run whose folder settings come from."""

    folder: Path
    doubt: str | None = None  # why it may be a stranger's; None: the user made it
    typed: Collection[str] = ()  # targets of the command line or the user's conf, as in a run that starts


def call(
    node: Mapping[str, Any],
    path: str,
    slot: Slot,
    offered: Mapping[str, Any],
    trust: Collection[str] = (),
    stored: StoredOrigin | None = None,
) -> Any:
    """Make the call of `node`, {_target_, **arguments}, with what is offered and asked for.

    Raises ConfigError for a target that does not fit, arguments that it refuses, a result of the wrong kind.
    """
    target = node["_target_"]
    thing = resolve(target, path, slot, trust, stored)
    arguments, (names, _) = arguments_of(thing, node, offered), parameters_of(thing)
    missing = [name for name, required in names.items() if required and name not in arguments]
    is_users = not target.startswith("trainrun.")
    is_plain = is_users and inspect.isfunction(thing) and len(missing) in slot.plain
    try:
        part = PlainFunction(thing, arguments, tuple(missing), path) if is_plain else thing(**arguments)
    except TrainrunError:
        raise
    except (ValueError, TypeError) as error:
        text = str(error)
        if key := re.match(rf"{re.escape(path)}\.\w+", text):
            raise ConfigError.of(key[0], text[len(key[0]) + 2 :]) from error
        raise ConfigError.of(path, f"{target}: {text}") from error
    if is_users and slot.adapter:
        adapter = _lookup(slot.adapter)
        needs, _ = parameters_of(adapter)
        part = adapter(part, **{name: offered[name] for name in list(needs)[1:]})
    bases = _bases(slot)
    if bases and not isinstance(part, tuple(bases)) and slot is not SLOTS["scheduler"]:
        wanted = " or a ".join(base.__name__ for base in bases)
        raise ConfigError.of(path, f"{target} returned {type(part).__name__}, not a {wanted}")
    return part


def arguments_of(
    thing: Callable[..., Any], node: Mapping[str, Any], offered: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of a node's call: its own, with what they ask for, and what is offered."""
    arguments = {key: _asked(value, offered) for key, value in node.items() if key != "_target_"}
    missing = (name for name, required in parameters_of(thing)[0].items() if required)
    return arguments | {name: offered[name] for name in missing if name not in arguments and name in offered}


@dataclass(frozen=True)
class PlainFunction:
    """A function of the user's, called with the values it needs; its errors are ConfigErrors at `path`."""

    function: Callable[..., Any]
    arguments: Mapping[str, Any]
    needs: tuple[str, ...]
    path: str

    @property
    def __name__(self) -> str:
        return self.function.__name__

    def __call__(self, *values: Any) -> Any:
        try:
            return self.function(**dict(zip(self.needs, values, strict=True)), **self.arguments)
        except TrainrunError:
            raise
        except Exception as error:
            raise ConfigError.of(self.path, failure(self.function, error)) from error

    def refuse(self, result: Any, wanted: str) -> ConfigError:
        """The error of a function that returns something else."""
        got = type(result).__name__ if result is not None else "None; does it lack a return?"
        return ConfigError.of(self.path, f"{self.__name__} must return {wanted}, got {got}")


def failure(thing: Any, error: BaseException) -> str:
    """Describe what went wrong in the user's code, and in which line of it."""
    return f"{thing.__name__} failed: {located_error(error, inspect.getsourcefile(thing))}"


def located_error(error: BaseException, file: str | Path | None) -> str:
    """An error and the last line of a file that it passed: `ValueError: no weights (my_net.py:12)`."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if file and Path(f.filename) == Path(file)]
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def resolve(
    target: str, path: str, slot: Slot, trust: Collection[str] = (), stored: StoredOrigin | None = None
) -> Callable[..., Any]:
    """The class or function of that name; raises ConfigError where it has no place in the slot."""
    if text := misfit(target, slot, trust, stored):
        raise ConfigError.of(f"{path}._target_", text)
    thing: Callable[..., Any] = _lookup(target)
    return thing


def misfit(
    target: str, slot: Slot, trust: Collection[str] = (), stored: StoredOrigin | None = None
) -> str | None:
    """Why a target cannot stand in a slot; None where it can. Imports its module if that is trusted."""
    if not _NAME.fullmatch(target):
        return f"must be a plain dotted name, got {target!r}"
    if text := distrust(target, trust, stored):
        return text
    module, _, name = target.rpartition(".")
    stored = None if stored and target in stored.typed else stored
    try:
        thing = _lookup(target)
    except ModuleNotFoundError as error:
        return f"cannot import {target}: {error}"
    except (Exception, SystemExit) as error:  # the user's module runs at import, and may do anything
        return f"importing {target} failed: {located_error(error, source_file(module))}"
    if thing is None:
        return f"{module} has no {name}{did_you_mean(name, names_in(module))}"
    if not inspect.isclass(thing) and not inspect.isfunction(thing):
        return f"{target} is neither a class nor a function"
    is_own = _is_own(thing, slot, trust, stored)
    trusting = f"if you trust it: 'runtime.trust=[{target.split('.')[0]}]'"
    if inspect.isclass(thing):
        return _class_misfit(thing, slot, is_own, target, trusting)
    homes = ", ".join((*slot.modules, *_FUNCTION_HOMES))
    return None if is_own else f"{target} is a function of neither {homes} nor this folder; {trusting}"


def _class_misfit(thing: type, slot: Slot, is_own: bool, target: str, trusting: str) -> str | None:
    bases = _bases(slot)
    fits = any(_is_subclass(thing, base) for base in bases)
    is_callable = bool(slot.plain) and any("__call__" in vars(base) for base in thing.__mro__)
    if slot.plain and not bases and not is_callable:
        return f"objects of {target} cannot be called; the class needs a method __call__"
    if fits or ((not bases or is_callable) and is_own):
        return None
    names = [base.rpartition(".")[2] for base in slot.bases]
    wanted = " or ".join(f"{'an' if name[0] in 'AEIOU' else 'a'} {name}" for name in names)
    return f"{target} is not {wanted}" if wanted else f"{target} does not belong here; {trusting}"


def distrust(target: str, trust: Collection[str], stored: StoredOrigin | None) -> str | None:
    """Why a stored run may not name a target; None where it may. Imports nothing."""
    module = target.rpartition(".")[0]
    if stored is None or target in stored.typed or not _NAME.fullmatch(target) or _is_in(module, trust):
        return None
    file = source_file(module)
    if stored.doubt is None and _is_local(file, stored):
        return None
    if _is_in(module, _STORED_HOMES) and not (stored.doubt and _is_here(file)):
        return None
    text = f"{target} belongs neither to torch nor to the folder where this command was started"
    if stored.doubt is not None:
        text = f"{target} is named by a run that may be a stranger's: {stored.doubt}"
    return f"{text}; if you trust that code: 'runtime.trust=[{target.split('.')[0]}]'"


def imported_signature(target: str) -> Signature | None:
    """The names that only an import can tell, and which of them are required; None where it cannot."""
    try:
        names, takes_any = parameters_of(_lookup(target))
    except (ImportError, TypeError, ValueError):
        return None
    return Signature({n: Parameter(n, None, required) for n, required in names.items()}, takes_any, "")


def is_function(target: str) -> bool:
    """Whether a name that fits its slot is a function rather than a class."""
    return inspect.isfunction(_lookup(target))


def parameters_of(thing: Callable[..., Any]) -> tuple[dict[str, bool], bool]:
    """({name: required}, takes any name) of a callable."""
    parameters = inspect.signature(thing).parameters.values()
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return {p.name: p.default is inspect.Parameter.empty for p in named}, takes_any


def annotation_of(target: str, name: str) -> Any:
    """The source of a first-party parameter's annotation; None where there is none."""
    takes = signature(target)
    parameter = takes.parameters.get(name) if takes else None
    return parameter.annotation if parameter else None


def _lookup(target: str) -> Any:
    module, _, name = target.rpartition(".")
    if not any(isinstance(finder, _BeforeTorchvision) for finder in sys.meta_path):
        sys.meta_path.insert(0, _BeforeTorchvision())
    return vars(importlib.import_module(module)).get(name)  # no walk through attributes


class _BeforeTorchvision(MetaPathFinder):
    """Import hook: declare torchvision's compiled operators, which may be missing, before torchvision."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        if fullname == "torchvision":
            importlib.import_module("trainrun.runtime.vision").declare_missing_operators()


def _asked(value: Any, offered: Mapping[str, Any]) -> Any:
    """Replace `'@name'` by the runtime value of that name, also inside lists and mappings."""
    if isinstance(value, str) and value.startswith("@") and value[1:] in offered:
        return offered[value[1:]]
    if isinstance(value, Mapping):
        return {key: _asked(inner, offered) for key, inner in value.items()}
    if isinstance(value, list):
        return [_asked(inner, offered) for inner in value]
    return value


def _bases(slot: Slot) -> list[type]:
    """The slot's base classes, which are trainrun's or torch's."""
    if any(base.startswith("torch.") for base in slot.bases):
        importlib.import_module("torch.optim.lr_scheduler")
        importlib.import_module("torch.utils.data")
    parts = [base.rpartition(".") for base in slot.bases]
    return [getattr(importlib.import_module(module), name) for module, _, name in parts]


def _is_subclass(thing: type, base: type) -> bool:
    if not getattr(base, "_is_protocol", False):
        return issubclass(thing, base)
    methods = [name for name, value in vars(base).items() if callable(value) and not name.startswith("_")]
    return all(hasattr(thing, name) for name in methods)


def _is_own(thing: Any, slot: Slot, trust: Collection[str], stored: StoredOrigin | None) -> bool:
    """Whether it comes from the slot's modules, a library of models, a trusted package or this folder."""
    models = _FUNCTION_HOMES if "torch.nn.Module" in slot.bases else ()
    file = getattr(inspect.getmodule(thing), "__file__", None)
    return _is_in(thing.__module__, (*slot.modules, *models, *trust)) or _is_local(file, stored)


def _is_in(module: str, homes: Collection[str]) -> bool:
    return any(f"{module}.".startswith(f"{home}.") for home in homes)


def _is_local(file: str | Path | None, stored: StoredOrigin | None) -> bool:
    """Whether a module's file is the user's: in this folder, in no library, and none that came with a run."""
    here = Path.cwd().resolve()
    if not file or not _is_here(file) or is_run(here) or (stored and stored.doubt is not None):
        return False
    path, run = Path(file).resolve(), (stored.folder if stored else here / "outputs").resolve()
    within = [folder for folder in path.parents if here in folder.parents]
    is_library = any(folder.name in ("site-packages", "dist-packages") for folder in within)
    is_runs = here.is_relative_to(run) or any(
        run.is_relative_to(folder) or is_run(folder) for folder in within
    )
    return not is_library and not is_runs


def _is_here(file: str | Path | None) -> bool:
    """Whether a module lies in the folder where the command was started, and in no library there."""
    path, here = Path(file or "/").resolve(), Path.cwd().resolve()
    return here in path.parents and not any(library in path.parents for library in LIBRARIES)
