"""Reading checkpoints: which there are, whether one is whole, and what it holds."""

from __future__ import annotations

import hashlib
import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from trainrun import ranks
from trainrun.checkpoint import shards
from trainrun.checkpoint.shards import Pieces, is_finite
from trainrun.run.files import object_in, read_json
from trainrun.vocabulary.errors import ResumeError

FORMATS = (1, 2)  # whole tensors in state.pt, or shards beside it; a new one where older versions fail
HASHERS = 4  # threads at most; hashing is faster than most disks
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
_NAME = re.compile(r"step-(\d{9})")
_LARGEST_MANIFEST_BYTES = 1 << 24  # a real one has about 150 a file; more would fill the memory for a lie


def steps_in(folder: Path) -> list[int]:
    """The steps that have a checkpoint in a folder, in order, valid or not; other names are ignored."""
    if not folder.is_dir():
        return []
    names = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(name[1]) for name in names if name)


def path_of(folder: Path, step: int) -> Path:
    """Where a step's checkpoint lies."""
    return folder / f"step-{step:09d}"


def run_id_of(run_dir: Path) -> str | None:
    """The run that a folder belongs to; None where nothing tells it yet.

    status.json, environment.json and every manifest hold the id, so that none of them is needed.
    Raises ResumeError where they contradict one another.
    """
    contents = [read_json(run_dir / name).get("run_id") for name in ("status.json", "environment.json")]
    recorded = dict.fromkeys(run_id for run_id in contents if isinstance(run_id, str) and run_id)
    folder = run_dir / "checkpoints"
    stored = dict.fromkeys(filter(None, (_run_id_in(path_of(folder, step)) for step in steps_in(folder))))
    ids = [*recorded] or [*stored]
    if len(recorded) > 1:
        ids = [run_id for run_id in recorded if run_id in stored]
    if len(ids) == 1 or not recorded | stored:
        return ids[0] if ids else None
    names = ", ".join(recorded | stored)
    text = f"status.json, environment.json and the checkpoints are of different runs ({names})"
    raise ResumeError(f"{run_dir}: {text}; remove what was copied here from another run")


def _run_id_in(path: Path) -> str | None:
    """The run that a checkpoint says it is of, where its manifest is as it was written."""
    try:
        manifest = manifest_of(path)
        run_id = manifest["run_id"] if manifest.get("sha256") == manifest_hash(manifest) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return run_id if isinstance(run_id, str) else None


def problem_of(
    path: Path, run_id: str | None, damage: Callable[[Path, Mapping[str, Any]], str | None] | None = None
) -> str | None:
    """What is wrong with a checkpoint directory, in words; None where it is whole and this run's.

    `damage` looks at the files that the manifest names; None: `damage_in`.
    Raises ResumeError for the format of a newer version, which is no damage and must not be skipped.
    """
    try:
        manifest = manifest_of(path)
        if problem := _problem_of_manifest(manifest, path, run_id):
            return problem
        problem = (damage or damage_in)(path, manifest["files"])
        return problem or (_misfit_of_shards(path) if manifest["format"] > 1 else None)
    except UNREADABLE as error:
        return f"cannot be read: {type(error).__name__}: {error}"


def damage_in(path: Path, files: Mapping[str, Any]) -> str | None:
    """What is wrong with the first damaged one of a checkpoint's files; they are read in threads."""
    try:
        with ThreadPoolExecutor(HASHERS) as threads:
            problems = threads.map(lambda item: _problem_of_file(path, *item), files.items())
            return next(filter(None, problems), None)
    except UNREADABLE as error:
        return f"cannot be read: {type(error).__name__}: {error}"


def _problem_of_manifest(manifest: dict[str, Any], path: Path, run_id: str | None) -> str | None:
    if manifest.get("sha256") != manifest_hash(manifest):
        return "has a manifest that was changed"
    number = manifest.get("format")
    if isinstance(number, int) and number > FORMATS[-1]:
        problem = f"has format {number}, this version reads up to {FORMATS[-1]}; install a newer trainrun"
        raise ResumeError(f"checkpoint: {path} {problem}")
    if number not in FORMATS:
        return f"has format {number}, which no version has written"
    if run_id is not None and manifest["run_id"] != run_id:
        return "belongs to another run"
    if path.name != path_of(path.parent, manifest["step"]).name:
        return f"holds step {manifest['step']}"
    if "state.pt" not in manifest["files"]:
        return "has a manifest without state.pt"
    if not {"weights", "best_step"} <= manifest.keys():
        return "has a manifest that does not say which weights are stored, or which are the best"
    if not isinstance(manifest["metrics_bytes"], int) or manifest["metrics_bytes"] < 0:
        return f"counts {manifest['metrics_bytes']} bytes of metrics.jsonl"
    return None


def _problem_of_file(path: Path, name: str, about: Mapping[str, Any]) -> str | None:
    file = path / Path(name).name  # a stored path cannot lead elsewhere
    if not file.is_file() or file.is_symlink():
        return f"lacks {name}"
    if file.stat().st_size != about["bytes"]:
        return f"has {file.stat().st_size} bytes in {name}, {about['bytes']} were written"
    with file.open("rb") as opened:
        if hashlib.file_digest(opened, "sha256").hexdigest() != about["sha256"]:
            return f"has another content in {name} than was written"
    if file.suffix == shards.SUFFIX and (weight := shards.not_finite_in_file(shards.header_of(file))):
        return f"holds numbers that are not finite in {weight}"
    return None


def _misfit_of_shards(path: Path) -> str | None:
    """What keeps a state from being made up by its shards."""
    shapes = {name: tensor for name, tensor in _tensors(load_parts(path)) if tensor.is_meta}
    return shards.misfit_of(_pieces_in(path), shapes)


def _pieces_in(path: Path) -> dict[str, Pieces]:
    names = [Path(name).name for name in manifest_of(path)["files"]]
    return shards.pieces_in(path / name for name in names if name.endswith(shards.SUFFIX))


def attach_pieces(parts: Mapping[str, Any], path: Path) -> None:
    """Let the shapes in a state know where their numbers are."""
    pieces = _pieces_in(path)
    for name, tensor in _tensors(parts):
        if tensor.is_meta:
            tensor.pieces = pieces.get(name, Pieces())  # type: ignore[attr-defined]


def load_parts(path: Path) -> dict[str, Any]:
    """state.pt of a checkpoint that `problem_of` found whole, on the CPU. No code is unpickled.

    Of a checkpoint of shards the folder is under `shards`, and their tensors are shapes alone (on `meta`).
    """
    try:
        parts = unpacked(path / "state.pt")
    except Exception as error:  # damage shows as a dozen types; all mean the same here
        raise ResumeError(f"checkpoint: {path / 'state.pt'} cannot be loaded: {error}") from None
    if not isinstance(parts, dict) or not isinstance(parts.get("model"), dict):
        raise ResumeError(f"checkpoint: {path / 'state.pt'} holds no state")
    parts.pop("shards", None)
    if manifest_of(path)["format"] > 1:
        attach_pieces(parts, path)
        parts["shards"] = str(path)
    return parts


def unpacked(file: Path) -> Any:
    """What torch.save wrote, on the CPU. Raises whatever comes up; no code is unpickled."""
    with zipfile.ZipFile(file) as archive:  # torch packs nothing; a bomb would fill the memory
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed")
    return torch.load(file, map_location="cpu", weights_only=True)


def eval_weights_in(parts: Mapping[str, Any], manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    """The weights that were evaluated when `parts` were stored, raw or averaged."""
    weights = parts["model"] if manifest["weights"] == "raw" else _averaged(parts)
    assert isinstance(weights, Mapping)
    return weights


def problem_in(parts: Mapping[str, Any], step: int) -> str | None:
    """What is wrong with the content of a checkpoint that is whole, in words; None: nothing.

    Looks at sizes and counters before any number is read, so that nothing is allocated for a lie.
    """
    try:
        counters = parts.get("counters")
        if not isinstance(counters, Mapping) or counters.get("step") != step:
            return "holds the state of another step"
        if name := next(_oversized(parts), None):
            return f"claims more numbers in {name} than it holds"
        if text := _impossible(counters, parts.get("position"), parts.get("data")):
            return f"holds {text}, which no run comes to by step {step}"
        name = not_finite_in(parts)
    except RecursionError:
        return "is nested too deeply"
    return f"holds numbers that are not finite in {name}" if name else None


def _oversized(parts: Mapping[str, Any]) -> Iterator[str]:
    """Names of tensors that are not stored number by number: expanded, sparse, or without storage.

    A save copies every tensor, so that none of them can be of a run.
    """
    for name, tensor in _tensors(parts):
        if shards.pieces_at(tensor) is not None:
            continue  # its numbers are in files
        is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not is_plain or tensor.nbytes > tensor.untyped_storage().nbytes():
            yield name


def _tensors(tree: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(tree, Tensor):
        yield path, tree
    elif isinstance(tree, (Mapping, list, tuple)):
        for key, value in tree.items() if isinstance(tree, Mapping) else enumerate(tree):
            yield from _tensors(value, f"{path}/{key}" if path else str(key))


def _impossible(counters: Mapping[str, Any], position: Any, data: Any) -> str | None:
    """The first counter, or place in the data, that is no whole number or lies beyond what was trained."""
    step = counters["step"]
    optional = {name: counters[name] for name in _OPTIONAL if counters.get(name) is not None}
    counts = {name: counters.get(name) for name in (*_UP_TO_STEP, *_FREE_COUNTS)} | optional
    place = position if isinstance(position, Mapping) else {}
    counts |= {"position/epoch": place.get("epoch"), "position/offset": place.get("offset")}
    sizes = data.get("sizes") if isinstance(data, Mapping) else None
    size = sizes.get("train") if isinstance(sizes, Mapping) else None
    limits = dict.fromkeys((*_UP_TO_STEP, *_OPTIONAL, "position/epoch"), step)  # an epoch has a step at least
    limits |= {"position/offset": size - 1} if _is_whole(size) and size > 0 else {}
    for name, value in counts.items():
        if not _is_whole(value) or value > limits.get(name, math.inf):
            return f"{name} {value}"
    amounts = {name: counters.get(name) for name in ("seconds", "planned_s", "lr_factor")}
    amounts |= object_in(counters, "seconds_by_part")
    for name, value in amounts.items():
        if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            return f"{name} {value}"
    if counters["rollbacks"] == 0 and counters["lr_factor"] != 1:
        return f"lr_factor {counters['lr_factor']} without a rollback"
    return None


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_UP_TO_STEP = ("step", "applied", "skipped_in_a_row", "logged_at", "evaluated_at")
_OPTIONAL = ("best_step", "rolled_back_to")  # of what may not have happened; up to the step as well
_FREE_COUNTS = ("samples", "rollbacks", "total_steps")


def not_finite_in(parts: Mapping[str, Any]) -> str | None:
    """The name of a weight that holds a number that is not finite, raw or averaged; None: there is none."""
    weights = {**parts["model"], **{f"averager.{k}": v for k, v in _averaged(parts).items()}}
    for name, tensor in weights.items():
        ranks.progressed()
        is_here = isinstance(tensor, Tensor) and not tensor.is_meta  # shards are looked at file by file
        if is_here and not is_finite(tensor):
            return str(name)
    return None


def _averaged(parts: Mapping[str, Any]) -> Mapping[str, Any]:
    average = parts.get("averager")
    weights = average.get("model") if isinstance(average, Mapping) else None
    return weights if isinstance(weights, Mapping) else {}


def manifest_of(path: Path) -> dict[str, Any]:
    """manifest.json of a checkpoint; raises ValueError where there is none to be read."""
    file = path / "manifest.json"
    is_plain = file.is_file() and not file.is_symlink() and not path.is_symlink()
    if not is_plain or file.stat().st_size > _LARGEST_MANIFEST_BYTES:
        raise ValueError("it has no manifest")
    manifest = json.loads(file.read_text())
    if not isinstance(manifest, dict):
        raise ValueError("the manifest is not an object")
    return manifest


def identity_of(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of the state that a manifest is of."""
    return str(manifest["files"]["state.pt"]["sha256"] if manifest["format"] == 1 else manifest["sha256"])


def manifest_hash(manifest: dict[str, Any]) -> str:
    """SHA-256 of everything in a manifest but the hash itself."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
