"""Find a model's blocks: the repeated ones (layers of a GPT, residual blocks), or those of a name pattern."""

from __future__ import annotations

import difflib
from collections import defaultdict
from fnmatch import fnmatchcase

from torch import nn

from trainrun.vocabulary.errors import ConfigError


def blocks_of(model: nn.Module, pattern: str, key: str) -> list[str]:
    """The names of a model's blocks in their order, none inside another.

    `pattern` is shell-style and matches whole names, as those of parameters.rules; of what it matches
    the outermost modules count. `auto`: the longest nn.ModuleList or nn.Sequential of equal blocks, and
    equal ones in other such containers. Raises ConfigError of the setting `key` where there is none.
    """
    modules = {name: module for name, module in model.named_modules() if name and not _is_list(module)}
    repeated = _repeated(model) if pattern == "auto" else []
    blocks: list[str] = []
    for name, module in modules.items():
        is_inside = bool(blocks) and name.startswith(f"{blocks[-1]}.")
        if not is_inside and (fnmatchcase(name, pattern) or module in repeated):
            blocks.append(name)
    if blocks:
        return blocks
    problem = "finds no repeated blocks" if pattern == "auto" else "matches no module"
    names = [name for name in modules if name.count(".") < 2]
    nearest = difflib.get_close_matches(pattern.strip("*.?"), names, 5, 0.0)
    shown = ", ".join(name for name in names if name in nearest)
    raise ConfigError.of(key, f"{problem}, got {pattern}; modules are {shown or 'none'}")


def _repeated(model: nn.Module) -> list[nn.Module]:
    """The members, in any container, that are equal to those of which one container holds most."""
    members: dict[object, list[nn.Module]] = defaultdict(list)
    most, largest = 1, None  # a single one is not repeated
    for container in model.modules():
        kinds: dict[object, list[nn.Module]] = defaultdict(list)
        for module in container.children() if isinstance(container, (nn.ModuleList, nn.Sequential)) else ():
            if any(module.children()) and any(True for _ in module.parameters()):
                kinds[_kind(module)].append(module)
        for kind, blocks in kinds.items():
            members[kind] += blocks
            if len(blocks) > most:  # of as many the outer ones, which come first
                most, largest = len(blocks), kind
    return members[largest]


def _kind(module: nn.Module) -> object:
    """What equal blocks share: their class, and of an nn.Sequential those of its members."""
    if type(module) is nn.Sequential:
        return nn.Sequential, *(type(child) for child in module)
    return type(module)


def _is_list(module: nn.Module) -> bool:
    """Whether it only holds modules, and has no forward of its own."""
    return isinstance(module, (nn.ModuleList, nn.ModuleDict)) and type(module).forward is nn.Module.forward
