"""Stored weights that a new run starts from: a checkpoint's, or those of a .pt or .safetensors file."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from torch import Tensor, nn

from trainrun.checkpoint import reader
from trainrun.checkpoint.shards import is_finite, pieces_at, read, tensors_in
from trainrun.vocabulary.errors import ResumeError

_INSIDE = ("model", "state_dict", "model_state_dict")  # where files keep weights beside other things
_WRAPPERS = ("module.", "_orig_mod.")  # what data-parallel and compiled models put before every name
_SHOWN = 6  # names in a message: enough to see a prefix that differs


@dataclass(frozen=True)
class Weights:
    """Tensors by name, and the file that they are from."""

    path: Path
    sha256: str
    description: str  # which weights these are, in words
    tensors: Mapping[str, Tensor]


def read_checkpoint(path: Path) -> Weights:
    """The weights that were evaluated when a checkpoint was stored: raw, or an average."""
    if problem := reader.problem_of(path, None):
        raise ResumeError(f"init_from: {path} {problem}")
    manifest = reader.manifest_of(path)
    weights = reader.eval_weights_in(reader.load_parts(path), manifest)
    description = f"the {manifest['weights']} weights of step {manifest['step']} in {path}"
    return Weights(path, reader.identity_of(manifest), description, _tensors(weights, path))


def read_file(path: Path) -> Weights:
    """The weights in a .safetensors file, or in one that torch.save made; no code is unpickled."""
    if not path.is_file():
        raise ResumeError(f"init_from: there is no file {path}")
    content = _safetensors(path) if path.suffix == ".safetensors" else _unpacked(path)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return Weights(path, sha256, str(path), _tensors(content, path))


@torch.no_grad()
def start_from(model: nn.Module, weights: Weights, anew: Collection[str] = ()) -> list[str]:
    """Copy what has a model's name and shape into it; returns a line of each that keeps its init.

    So do the layers of the parameters named in `anew`, which the settings initialise.
    Raises ResumeError where no parameter is found, with the names of both sides.
    """
    current, reinitialized = model.state_dict(), []
    layers = {name.rpartition(".")[0] for name in anew}
    kept = {name for name in current if name.rpartition(".")[0] in layers}
    fitting = {name for name, tensor in current.items() if _fits(weights.tensors.get(name), tensor)} - kept
    matrices = {name for name, tensor in model.named_parameters() if tensor.ndim > 1}
    if not fitting & (matrices or current.keys()):  # a bias of that name alone is a coincidence
        text = f"there are {_listed(weights.tensors)}; the model has {_listed(current)}"
        raise ResumeError(f"init_from: nothing in {weights.path} fits this model: {text}")
    for name, tensor in current.items():
        stored = weights.tensors.get(name)
        if name in fitting and stored is not None:
            read(stored, tensor)
            if not is_finite(tensor):
                raise ResumeError(f"init_from: {weights.path} holds numbers that are not finite in {name}")
        else:
            was = "not stored" if stored is None else f"{tuple(stored.shape)} stored"
            was = "by parameters.rules" if name in kept else was
            reinitialized.append(f"{name}: {was}, {tuple(tensor.shape)} here: initialised anew")
    return reinitialized


def _fits(stored: Tensor | None, tensor: Tensor) -> bool:
    if stored is None or stored.layout != torch.strided or stored.is_quantized:
        return False
    if stored.is_meta and pieces_at(stored) is None:  # a shape without numbers
        return False
    return stored.shape == tensor.shape and torch.can_cast(stored.dtype, tensor.dtype)


def _tensors(content: Any, path: Path) -> dict[str, Tensor]:
    inner = next((content[key] for key in _INSIDE if isinstance(content.get(key), Mapping)), content)
    tensors = {str(name): value for name, value in inner.items() if isinstance(value, Tensor)}
    if not tensors:
        raise ResumeError(f"init_from: {path} holds no weights by name")
    if any(".base_layer." in name for name in tensors):
        advice = "merge them first: trainrun export RUN merged.safetensors"
        raise ResumeError(f"init_from: {path} holds LoRA adapters beside the weights; {advice}")
    for wrapper in _WRAPPERS:
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): value for name, value in tensors.items()}
    return tensors


def _unpacked(path: Path) -> Mapping[str, Any]:
    try:
        # The zip of today, or the older format, which cannot be compressed.
        is_zip = is_zipfile(path)
        content = reader.unpacked(path) if is_zip else torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # damage shows as a dozen types; all mean the same here
        more = "holds more than tensors, which would run code"
        reason = more if is_zip else "was not written by torch.save"
        advice = "store a state dict, torch.save(model.state_dict(), FILE)"
        raise ResumeError(f"init_from: {path} {reason}, or is damaged; {advice}") from None
    if not isinstance(content, Mapping):
        raise ResumeError(f"init_from: {path} holds no weights by name")
    return content


def _safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return tensors_in([path])
    except reader.UNREADABLE as error:
        raise ResumeError(f"init_from: {path} cannot be loaded: {error}") from None


def _listed(names: Mapping[str, Tensor]) -> str:
    shown = [f"{name} {tuple(tensor.shape)}" for name, tensor in list(names.items())[:_SHOWN]]
    return ", ".join(shown) + (", ..." if len(names) > _SHOWN else "")
