"""Imports torchvision, also where its compiled operators cannot be loaded.

torchvision's compiled operators are linked against one build of torch; beside another, such as a
CPU-only one, they do not load and the import dies on "operator torchvision::nms does not exist".
Its models, data sets and transforms need none of them, so their schemas are declared here first.
"""

from __future__ import annotations

import importlib
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_library: torch.library.Library | None = None  # schemas live as long as this does


def import_torchvision(module: str = "torchvision") -> ModuleType:
    """torchvision or one of its modules."""
    declare_missing_operators()
    return importlib.import_module(module)


def declare_missing_operators() -> None:
    """Load torchvision's operators, or where that fails declare them, before it is imported."""
    global _library
    if _library is not None or hasattr(torch.ops.torchvision, "nms"):
        return
    try:
        torch.ops.load_library(str(_compiled_operators()))
    except (OSError, FileNotFoundError):
        _library = torch.library.Library("torchvision", "DEF")
        for schema in _SCHEMAS:
            _library.define(schema)


def _compiled_operators() -> Path:
    spec = PathFinder.find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("torchvision")
    folder = Path(next(iter(spec.submodule_search_locations)))
    for suffix in (*EXTENSION_SUFFIXES, ".so", ".pyd"):
        if (folder / f"_C{suffix}").exists():
            return folder / f"_C{suffix}"
    raise FileNotFoundError(folder / "_C.so")
