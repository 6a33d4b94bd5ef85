"""What can become of a checkpoint: by accident, and by somebody who knows the format."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Damage = Callable[[Path], object]  # of a checkpoint's directory

# By accident, or by a careless hand


def cut(name: str, share: float) -> Damage:
    return lambda path: os.truncate(path / name, int(share * (path / name).stat().st_size))


def grown(name: str, num_bytes: int) -> Damage:
    """A hole at the end: as large as can be, and it takes no room."""
    return lambda path: os.truncate(path / name, (path / name).stat().st_size + num_bytes)


def zeroed(name: str, begin: float, end: float) -> Damage:
    def damage(path: Path) -> None:
        body = bytearray((path / name).read_bytes())
        first, last = int(begin * len(body)), int(end * len(body))
        body[first:last] = bytes(last - first)
        (path / name).write_bytes(body)

    return damage


def flipped(name: str, bit: int) -> Damage:
    def damage(path: Path) -> None:
        body = bytearray((path / name).read_bytes())
        body[bit // 8] ^= 1 << bit % 8
        (path / name).write_bytes(body)

    return damage


def gone(name: str) -> Damage:
    return lambda path: (path / name).unlink()


def replaced(name: str, make: Callable[[Path, Path], object]) -> Damage:
    """A file, or with "." the whole checkpoint, is moved aside, and `make(place, aside)` fills its place."""

    def damage(path: Path) -> None:
        place, aside = path / name, path.parents[2] / f"moved {path.name}"
        place.rename(aside)
        make(place, aside)

    return damage


def _pipe(place: Path, aside: Path) -> None:
    os.mkfifo(place)


def _folder(place: Path, aside: Path) -> None:
    place.mkdir()


def _link(place: Path, aside: Path) -> None:
    place.symlink_to(aside)


def copied_from(other: Path) -> Damage:
    def damage(path: Path) -> None:
        shutil.rmtree(path)
        shutil.copytree(other, path)

    return damage


ACCIDENTS: dict[str, Damage] = {
    "state.pt is empty": cut("state.pt", 0),
    "state.pt is half": cut("state.pt", 0.5),
    "state.pt has a hole": zeroed("state.pt", 0.4, 0.6),
    "state.pt is zeros": zeroed("state.pt", 0, 1),
    "state.pt is a byte longer": grown("state.pt", 1),
    "state.pt is a terabyte longer": grown("state.pt", 1 << 40),
    "state.pt is gone": gone("state.pt"),
    "state.pt is a link": replaced("state.pt", _link),
    "state.pt is a pipe": replaced("state.pt", _pipe),
    "state.pt is a folder": replaced("state.pt", _folder),
    "manifest.json is empty": cut("manifest.json", 0),
    "manifest.json is half": cut("manifest.json", 0.5),
    "manifest.json has a hole": zeroed("manifest.json", 0.4, 0.6),
    "manifest.json is a terabyte longer": grown("manifest.json", 1 << 40),
    "manifest.json is gone": gone("manifest.json"),
    "manifest.json is a link": replaced("manifest.json", _link),
    "manifest.json is a pipe": replaced("manifest.json", _pipe),
    "manifest.json is a folder": replaced("manifest.json", _folder),
    "the checkpoint is empty": lambda path: [file.unlink() for file in path.iterdir()],
    "the checkpoint is a link": replaced(".", _link),
    "the checkpoint is a pipe": replaced(".", _pipe),
    "the checkpoint is a file": replaced(".", lambda place, aside: place.touch()),
}


# By somebody who knows the format: all hashes are right


def forge(path: Path, parts: Any = None, **about: Any) -> None:
    """Store other `parts`, or bytes in their place, and other entries of the manifest."""
    manifest = json.loads((path / "manifest.json").read_text())
    if parts is not None:
        body = parts if isinstance(parts, bytes) else _packed(parts)
        (path / "state.pt").write_bytes(body)
        entry = {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        manifest["files"] = {**manifest["files"], "state.pt": entry}
    manifest |= about
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    manifest["sha256"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


def forged(change: Callable[[dict[str, Any]], object]) -> Damage:
    """`change` edits the stored parts."""

    def damage(path: Path) -> None:
        parts = torch.load(path / "state.pt", weights_only=True)
        change(parts)
        forge(path, parts)

    return damage


BOMB_BYTES = 1 << 29


def bomb(path: Path) -> None:
    """A weight that is large only when it is unpacked."""
    marker = torch.full((4096,), 7.0)
    parts = torch.load(path / "state.pt", weights_only=True)
    parts["model"]["head.weight"] = marker
    packed, bomb = zipfile.ZipFile(io.BytesIO(_packed(parts))), io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in packed.namelist():
            body = packed.read(name)
            if body == marker.numpy().tobytes():
                with archive.open(name, "w") as file:
                    for _ in range(BOMB_BYTES >> 26):
                        file.write(bytes(1 << 26))
            else:  # pickled, 4096 becomes the number of floats
                archive.writestr(
                    name, body.replace(b"M\x00\x10", b"J" + (BOMB_BYTES // 4).to_bytes(4, "little"))
                )
    forge(path, bomb.getvalue())


class Payload:
    """Pickled, it is a call; weights-only loading never makes it."""

    def __reduce__(self) -> Any:
        return (os.mkdir, ("exploded",))


def _packed(parts: Any) -> bytes:
    body = io.BytesIO()
    torch.save(parts, body)
    return body.getvalue()
