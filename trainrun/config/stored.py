"""A run's stored config.yaml: values, and references to the environment and to run_dir."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from omegaconf import Container, DictConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers import oc

from trainrun.config.limits import UnreadableError, check_text, read_text
from trainrun.config.moved_names import with_new_names
from trainrun.config.suggest import hydra_value
from trainrun.config.tree import texts
from trainrun.vocabulary.errors import ResumeError

FORMAT = 1  # of config.yaml; a file that does not say its format has this one
_MARK = "\0"  # stands for the $ of a reference that is kept, while everything else is resolved
_ENV = r"\$\{oc\.env:\w+(?:,[^${}]*)?\}"
_ACCEPTED = rf"{_ENV}|\$\{{oc\.decode:{_ENV}\}}|\$\{{run_dir\}}"
# The arguments that a call did not have when older runs began, with what they meant then.
_ADDED_TO_TABLE = {"encoding": "utf-8", "header": True, "decimal": "plain", "thousands": "auto"}
_COLUMNS = {"group": None, "time": None, "weights": None}
_MACHINE = {"profile": None, "timeout": "10min", "activation_checkpointing": None}
_ADDED: dict[str, dict[str, Any]] = {
    "trainrun.data.table.table": _ADDED_TO_TABLE | {"missing_target": "refuse"} | _COLUMNS,
    "trainrun.data.arrays.arrays": _COLUMNS,
    "trainrun.data.dataset.from_dataset": {"inputs": None, "targets": None, "collate": None} | _COLUMNS,
    "trainrun.data.imagefolder.imagefolder": {"normalize": "train"},
    "trainrun.parameters.Parameters": {"unfreeze_at": None, "lora": None},
    "trainrun.model.torchvision.torchvision": {"preprocessing": None},
    "trainrun.model.timm.timm": {"preprocessing": None},
    "trainrun.loop.Loop": {"probes": []},
    "trainrun.runtime.machine.runtime": _MACHINE,
    "trainrun.sweep.Sweep": {"exclude": []},
}
_DDP = {"_target_": "trainrun.parallel.ddp.DDP", "bucket_mb": 25, "reduce_dtype": None}
_ADDED_GROUPS: dict[str, Any] = {"parallel": _DDP}  # that older runs did not have, with what they did
_HEAD = re.compile(r"# trainrun config\.yaml, format (\d{1,9})\n")
# A `${` behind an even number of backslashes is read; behind an odd one it is text.
_OTHER = re.compile(rf"(?<!\\)(?:\\\\)*(?!{_ACCEPTED})\$\{{")


def storable(cfg: DictConfig) -> dict[str, Any]:
    """Resolve everything that need not stay a reference, so that no secret reaches the disk.

    `${oc.env:NAME}`, alone or inside `${oc.decode:...}`, and `${run_dir}` are kept as they are.
    """
    shadow: DictConfig = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False))  # type: ignore[assignment]
    shadow["run_dir"] = _MARK + "{run_dir}"
    OmegaConf.register_new_resolver("oc.env", _own_text, replace=True)
    OmegaConf.register_new_resolver("oc.decode", _undecoded, replace=True)
    try:
        resolved = OmegaConf.to_container(shadow, resolve=True)
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)
        OmegaConf.register_new_resolver("oc.decode", oc.decode, replace=True)
    # A folder may be moved, and what started the run says nothing of how it is resumed.
    return {**_escaped(resolved), "run_dir": None, "resume": "never"}


def with_format(text: str) -> str:
    """A config.yaml whose first line, a comment, names the format; it is signed with the rest."""
    return f"# trainrun config.yaml, format {FORMAT}\n{text}"


def load_stored(file: Path) -> dict[str, Any]:
    """The tree of a run's config.yaml, as `parse_stored` has it."""
    return parse_stored(stored_text(file), file)


def stored_text(file: Path) -> str:
    """The text of a run's config.yaml. Raises ResumeError where it cannot be read."""
    try:
        return read_text(file)
    except (OSError, UnicodeDecodeError) as error:
        raise ResumeError(f"{file}: cannot be read: {error}") from None
    except UnreadableError as error:
        raise ResumeError(f"{file}{error.place}: {error}") from None


def parse_stored(text: str, file: Path) -> dict[str, Any]:
    """The tree of a config.yaml's text. Raises ResumeError for what a run would not have written.

    References are left as they are, and no others than `storable` keeps are accepted;
    aliases, tags and deep nesting are refused, so that a small file cannot grow without bound.
    """
    if (head := _HEAD.match(text)) and int(head[1]) > FORMAT:
        problem = f"has format {head[1]}, this version reads up to {FORMAT}; install a newer trainrun"
        raise ResumeError(f"{file}: {problem}")
    try:
        check_text(text, with_aliases=False)
        if not text.endswith("\n"):
            raise ResumeError(f"{file}: is empty or cut off in the middle of a line; restore it")
        settings = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    except UnreadableError as error:
        raise ResumeError(f"{file}{error.place}: {error}") from None
    except yaml.YAMLError as error:
        raise ResumeError(f"{file}: is not valid YAML: {error}") from None
    except (RecursionError, ValueError, KeyError, OmegaConfBaseException) as error:
        raise ResumeError(f"{file}: {str(error).partition(chr(10))[0]}") from None
    if not isinstance(settings, dict):
        raise ResumeError(f"{file}: is not a mapping of settings")
    for text in filter(_OTHER.search, texts(settings)):
        raise ResumeError(f"{file}: only ${{oc.env:NAME}} and ${{run_dir}} may be referred to, got {text}")
    added = _ADDED_GROUPS if "budget" in settings else {}  # a whole run's
    return added | {str(key): _completed(value) for key, value in with_new_names(settings).items()}


def _completed(node: Any) -> Any:
    """A stored call with the arguments that its callable did not have when the run began."""
    added = _ADDED.get(str(node.get("_target_"))) if isinstance(node, dict) else None
    if added is None:
        return node
    node = added | node
    if "delimiter" in node:  # the name of data.separator then
        node["separator"] = node.pop("delimiter") or "auto"
    return node


def _own_text(name: str, *default: Any) -> str:
    return _MARK + "{oc.env:" + ",".join([name, *map(hydra_value, default)]) + "}"


def _undecoded(expr: str | None, _parent_: Container, _node_: Node) -> Any:
    if expr is not None and _MARK in expr:
        return _MARK + "{oc.decode:" + expr + "}"
    return oc.decode(expr, _parent_, _node_)


def _escaped(tree: Any) -> Any:
    """Escape all resolved texts for the config's grammar, and put the references back in place."""
    if isinstance(tree, dict):
        return {str(key): _escaped(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return list(map(_escaped, tree))
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", tree).replace(_MARK, "$") if isinstance(tree, str) else tree
