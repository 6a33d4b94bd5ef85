"""Find a model's blocks: the repeated ones (layers of a GPT, residual blocks), or those of a name pattern."""

from __future__ import annotations

import difflib
from collections import Counter
from fnmatch import fnmatchcase
from itertools import chain
from operator import itemgetter

from torch import nn

from trainrun.vocabulary.errors import ConfigError

_NONE = nn.Module.forward  # of what only holds modules


def blocks_of(model: nn.Module, pattern: str, key: str) -> list[str]:
    """The names of a model's blocks in their order, none inside another.

    `pattern` is shell-style and matches whole names, as those of parameters.rules; of what it matches
    the outermost modules count. `auto`: the longest nn.ModuleList or nn.Sequential of equal blocks, and
    equal ones in other such containers. Raises ConfigError of the setting `key` where there is none.
    """
    modules = {name: m for name, m in model.named_modules() if name and type(m).forward is not _NONE}
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
    lists = [
        [m for m in container.children() if [*m.children()] and any(True for _ in m.parameters())]
        for container in model.modules()
        if isinstance(container, (nn.ModuleList, nn.Sequential))
    ]
    counts = [item for members in lists for item in Counter(map(_kind, members)).items()]
    kind, most = max(counts, key=itemgetter(1), default=(None, 0))  # of as many the outer, which come first
    return [member for member in chain(*lists) if most > 1 and _kind(member) == kind]


def _kind(module: nn.Module) -> object:
    """What equal blocks share: their class, and of an nn.Sequential those of its members."""
    if type(module) is nn.Sequential:
        return nn.Sequential, *(type(child) for child in module)
    return type(module)
