"""Hash a run's settings: two runs are the same experiment but for folders, loggers and save cadence."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from trainrun.config.moved_names import with_first_names
from trainrun.run.files import object_in, read_json

_LEFT_OUT = {
    *("run_dir", "resume", "name", "logger", "sweep", "hydra"),
    *("checkpoint.every", "checkpoint.keep_last", "checkpoint.keep_every", "loop.log_every", "loop.health"),
    "loop.probes",
    *("data.num_workers", "data.eval_batch_size", "runtime.device", "runtime.threads", "runtime.trust"),
    *("runtime.preemption_signal", "runtime.time_limit", "runtime.timeout"),
}
_COMPILED_BEFORE = {"off": False, "model": True}  # as sweeps of the version before know their jobs
# Published data: their name says what they are, wherever their files lie.
_PUBLISHED = ("trainrun.data.idx.", "trainrun.data.cifar.", "trainrun.data.svhn.")
_DIGITS = 10  # hexadecimal: of ten thousand jobs any two clash with a chance of 5e-5


def identity(settings: Mapping[str, Any]) -> str:
    """Ten characters that resolved settings share if and only if they describe the same experiment."""
    out = set(_LEFT_OUT)
    if str((settings.get("data") or {}).get("_target_")).startswith(_PUBLISHED):
        out |= {"data.root", "data.download"}
    body = with_first_names(_clean(settings, "", out))
    body["init_from"] = _source(settings.get("init_from"))
    if (ranks := (settings.get("sweep") or {}).get("ranks", 1)) != 1:
        body["ranks"] = ranks  # with them a step takes more samples
    mode = (body.get("runtime") or {}).get("compile")
    if isinstance(mode, str) and mode in _COMPILED_BEFORE:
        body["runtime"]["compile"] = _COMPILED_BEFORE[mode]
    # Regularisers are applied in their order; that of other settings does not count.
    body["regularization"] = [[name, node] for name, node in (body.get("regularization") or {}).items()]
    return digest(body)


def _source(source: Any) -> Any:
    """The weights a run starts from: a path, and what distinguishes them from earlier ones there."""
    path = Path(str(source)).expanduser()
    if source is None or not path.exists():
        return source
    if path.is_file():
        return [source, _sha256(path, path.stat().st_mtime_ns)]
    status, manifest = read_json(path / "status.json"), path / "manifest.json"
    step = object_in(status, "best").get("step")
    return [source, status.get("run_id"), step, manifest.read_text() if manifest.is_file() else None]


@lru_cache
def _sha256(path: Path, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_left_out(key: str) -> bool:
    """Whether a setting is a folder, a logger or a cadence, which makes no other experiment."""
    return any(f"{key}.".startswith(f"{prefix}.") for prefix in _LEFT_OUT)


def digest(body: Any) -> str:
    """Ten characters of a hash over plain values."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _clean(node: Any, path: str, out: set[str]) -> Any:
    if isinstance(node, Mapping):
        paths = {key: f"{path}.{key}" if path else str(key) for key in node}
        return {str(key): _clean(node[key], path, out) for key, path in paths.items() if path not in out}
    if isinstance(node, (list, tuple)):
        return [_clean(item, path, out) for item in node]
    if isinstance(node, float) and node.is_integer() and abs(node) < 2**53:
        return int(node)
    return node
