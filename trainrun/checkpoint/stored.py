"""Reading checkpoints: which there are, whether one is whole, and what it holds."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainrun.errors import CannotResume

FORMAT = 1
_NAME = re.compile(r"step-(\d{9})")
_LARGEST_MANIFEST_BYTES = 1 << 20


def steps_in(folder: Path) -> list[int]:
    """The steps that have a checkpoint in a folder, in order, valid or not; other names are ignored."""
    if not folder.is_dir():
        return []
    names = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(name[1]) for name in names if name)


def path_of(folder: Path, step: int) -> Path:
    """Where a step's checkpoint lies."""
    return folder / f"step-{step:09d}"


def problem_of(path: Path, run_id: str | None) -> str | None:
    """What is wrong with a checkpoint directory, in words; None where it is whole and this run's."""
    try:
        manifest = manifest_of(path)
        if manifest.get("format") != FORMAT:
            return f"has format {manifest.get('format')}, this version reads {FORMAT}"
        if manifest.get("sha256") != own_hash(manifest):
            return "has a manifest that was changed"
        if run_id is not None and manifest["run_id"] != run_id:
            return "belongs to another run"
        if path.name != path_of(path.parent, manifest["step"]).name:
            return f"holds step {manifest['step']}"
        if "state.pt" not in manifest["files"]:
            return "has a manifest without state.pt"
        if not isinstance(manifest["metrics_bytes"], int) or manifest["metrics_bytes"] < 0:
            return f"counts {manifest['metrics_bytes']} bytes of metrics.jsonl"
        for name, expected in manifest["files"].items():
            file = path / Path(name).name  # a stored path cannot lead elsewhere
            if not file.is_file() or file.is_symlink():
                return f"lacks {name}"
            if file.stat().st_size != expected["bytes"]:
                return f"has {file.stat().st_size} bytes in {name}, {expected['bytes']} were written"
            with file.open("rb") as opened:
                if hashlib.file_digest(opened, "sha256").hexdigest() != expected["sha256"]:
                    return f"has another content in {name} than was written"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"cannot be read: {type(error).__name__}: {error}"
    return None


def load_parts(path: Path) -> dict[str, Any]:
    """state.pt of a checkpoint that `problem_of` found whole, on the CPU. No code is unpickled."""
    try:
        parts = unpacked(path / "state.pt")
    except Exception as error:  # damage shows as a dozen types; all mean the same here
        raise CannotResume(f"checkpoint: {path / 'state.pt'} cannot be loaded: {error}") from None
    if not isinstance(parts, dict) or not isinstance(parts.get("model"), dict):
        raise CannotResume(f"checkpoint: {path / 'state.pt'} holds no state")
    return parts


def unpacked(file: Path) -> Any:
    """What torch.save wrote, on the CPU. Raises whatever comes up; no code is unpickled."""
    with zipfile.ZipFile(file) as archive:  # torch packs nothing; a bomb would fill the memory
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed")
    return torch.load(file, map_location="cpu", weights_only=True)


def judged_in(parts: Mapping[str, Any], manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights that were judged when `parts` were stored, raw or averaged."""
    weights = parts["model"] if manifest["weights"] == "raw" else _averaged(parts)
    assert isinstance(weights, Mapping)
    return weights


def load_judged(model: nn.Module, path: Path, parts: dict[str, Any]) -> str:
    """Load the weights that were judged when `parts` were stored, raw or averaged; returns which."""
    manifest = manifest_of(path)
    weights = str(manifest["weights"])
    try:
        model.load_state_dict(judged_in(parts, manifest))
    except (RuntimeError, KeyError) as error:
        raise CannotResume(f"checkpoint: {path} does not fit the model: {error}") from None
    return weights


def problem_in(parts: Mapping[str, Any], step: int) -> str | None:
    """What is wrong with the content of a checkpoint that is whole, in words; None: nothing."""
    counters = parts.get("counters")
    if not isinstance(counters, Mapping) or counters.get("step") != step:
        return "holds the state of another step"
    name = not_finite_in(parts)
    return f"holds numbers that are not finite in {name}" if name else None


def not_finite_in(parts: Mapping[str, Any]) -> str | None:
    """The name of a weight that holds a number that is not finite, raw or averaged; None: there is none."""
    weights = {**parts["model"], **{f"averager.{k}": v for k, v in _averaged(parts).items()}}
    for name, tensor in weights.items():
        is_float = isinstance(tensor, Tensor) and tensor.is_floating_point()
        if is_float and not bool(torch.isfinite(tensor).all()):
            return str(name)
    return None


def _averaged(parts: Mapping[str, Any]) -> Mapping[str, Any]:
    averager = parts.get("averager")
    weights = averager.get("model") if isinstance(averager, Mapping) else None
    return weights if isinstance(weights, Mapping) else {}


def manifest_of(path: Path) -> dict[str, Any]:
    """manifest.json of a checkpoint; raises ValueError where there is none to be read."""
    file = path / "manifest.json"
    if (
        path.is_symlink()
        or file.is_symlink()
        or not file.is_file()
        or file.stat().st_size > _LARGEST_MANIFEST_BYTES
    ):
        raise ValueError("it has no manifest")
    manifest = json.loads(file.read_text())
    if not isinstance(manifest, dict):
        raise ValueError("the manifest is not an object")
    return manifest


def own_hash(manifest: dict[str, Any]) -> str:
    """SHA-256 of everything in a manifest but the hash itself."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
