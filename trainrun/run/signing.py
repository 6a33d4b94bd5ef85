"""Who made a run: its id and config.yaml, signed with a key that never leaves the user's state folder.

A signature lies in the run's folder, so that a run may be moved. It says nothing of anybody else's runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainrun.run.files import open_no_link, read_json, replace_json

FILE = "signature.json"
VARIABLE = "TRAINRUN_STATE"
_KEY_BYTES = 32
_MOST_BYTES = 4096  # of a signature file, which anybody may have written
_SHARED = f"runs of several machines need one key: {VARIABLE} names a folder that all of them see"


class NoKeyError(Exception):
    """There is no key to sign or to verify with; the text says why."""


def new_id() -> str:
    """An id that no other run has."""
    return secrets.token_hex(8)


def sign(run_dir: Path, run_id: str, *configs: str) -> None:
    """Store that the user made this run with any of these config.yaml.

    Does nothing where the user has no state folder: the run trains, and a later refusal explains.
    Raises OSError where the run's folder cannot be written.
    """
    with contextlib.suppress(NoKeyError):
        key = _key(is_made=True)
        signatures = [_mac(key, "run", run_id, config) for config in configs]
        replace_json(run_dir / FILE, {"run_id": run_id, "key": _name_of(key), "signatures": signatures})


def doubt(run_dir: Path, config: str) -> str | None:
    """Why a run with this config.yaml may be a stranger's; None where the user's key has signed it."""
    if (run_dir / "config.yaml").is_symlink():
        return "its config.yaml is a link"
    stored = _read(run_dir / FILE)
    run_id, signatures = stored.get("run_id"), stored.get("signatures")
    if not isinstance(run_id, str) or not isinstance(signatures, list):
        return _unsigned()
    ids = [read_json(run_dir / name).get("run_id") for name in ("status.json", "environment.json")]
    if any(isinstance(other, str) and other for other in ids) and run_id not in ids:  # one file may lie
        return "its signature belongs to another run"
    return _doubt(stored, signatures, "run", run_id, config)


def stored_id(run_dir: Path) -> str | None:
    """The id that a run was signed with."""
    run_id = _read(run_dir / FILE).get("run_id")
    return run_id if isinstance(run_id, str) and re.fullmatch("[0-9a-f]{16}", run_id) else None


def sign_words(words: Sequence[str]) -> dict[str, Any] | None:
    """A signature of a sweep's line, for its record; None where the user has no state folder."""
    try:
        key = _key(is_made=True)
    except NoKeyError:
        return None
    return {"key": _name_of(key), "signature": _mac(key, "sweep", *words)}


def doubt_words(words: Sequence[str], signature: Any) -> str | None:
    """Why a sweep's line may be a stranger's; None where the user's key has signed it."""
    if not isinstance(signature, dict):
        return _unsigned()
    return _doubt(signature, [signature.get("signature")], "sweep", *words)


def _unsigned() -> str:
    try:
        _key(is_made=True)
    except NoKeyError as error:
        return f"it is not signed, and {error}"
    return "it is not signed"


def _doubt(stored: dict[str, Any], signatures: Sequence[Any], kind: str, *texts: str) -> str | None:
    try:
        key = _key(is_made=False)
    except NoKeyError as error:
        return f"it is signed, but {error}; {_SHARED}"
    mine = _mac(key, kind, *texts).encode()
    texts_stored = [signature.encode() for signature in signatures if isinstance(signature, str)]
    if any(hmac.compare_digest(signature, mine) for signature in texts_stored):
        return None
    if stored.get("key") == _name_of(key):
        return "it was changed after it was signed"
    return f"it is signed with another key than that in {_folder()}; {_SHARED}"


def _mac(key: bytes, kind: str, *texts: str) -> str:
    """HMAC-SHA256 of a list of texts, which cannot be cut in another way."""
    hashes = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in (kind, *texts)]
    return hmac.new(key, "\n".join(hashes).encode(), hashlib.sha256).hexdigest()


def _name_of(key: bytes) -> str:
    """What tells keys apart, and nothing of what a key is."""
    return hmac.new(key, b"name", hashlib.sha256).hexdigest()[:16]


def _folder() -> Path:
    """The state folder: $TRAINRUN_STATE, $XDG_STATE_HOME/trainrun or ~/.local/state/trainrun."""
    if wanted := os.environ.get(VARIABLE):
        folder = Path(wanted).expanduser()
        if not folder.is_absolute():
            raise NoKeyError(f"{VARIABLE} must be an absolute path, got {wanted}")
        return folder
    base = os.environ.get("XDG_STATE_HOME", "")
    try:
        return (Path(base) if os.path.isabs(base) else Path.home() / ".local/state") / "trainrun"
    except RuntimeError:
        raise NoKeyError(f"there is no home folder; {VARIABLE} names one for the key") from None


def _key(is_made: bool) -> bytes:
    """The user's key, made where there is none and it `is_made`. Raises NoKeyError."""
    folder = _folder()
    path = folder / "key"
    try:
        if is_made and not path.exists():
            _make(folder, path)
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            key = file.read(_KEY_BYTES + 1) if is_file else b""
    except FileNotFoundError:
        raise NoKeyError(f"there is no key in {folder}") from None
    except OSError as error:
        raise NoKeyError(f"no key can be kept in {folder}: {error.strerror or error}") from None
    if len(key) != _KEY_BYTES:
        raise NoKeyError(f"{path} is no key of trainrun; remove it")
    return key


def _make(folder: Path, path: Path) -> None:
    """Write a new key, whole or not at all. Of several processes the first one's stays."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".key-", dir=folder)  # for the owner alone, 0600
    try:
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)


def _read(path: Path) -> dict[str, Any]:
    """The object in a small file of a folder that may be anybody's; empty where there is none."""
    try:
        with open(path, "rb", opener=open_no_link) as file:
            is_file = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = json.loads(file.read(_MOST_BYTES)) if is_file else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
