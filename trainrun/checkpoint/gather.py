"""Every rank's shards into one directory: the ranks write beside the loop, the first one learns of each file.

The first rank names a directory, or none where the step is stored already. The others answer with a
message for each file, and an empty one at the end. So it commits what all have on the disk, or nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from trainrun import ranks
from trainrun.checkpoint.commit import hashing, write
from trainrun.checkpoint.reader import HASHERS
from trainrun.checkpoint.shards import SUFFIX, WEIGHTS, Shards, box_of, encoded, in_parts, writes
from trainrun.vocabulary.errors import NonFiniteError

NOT_FINITE = "holds numbers that are not finite; nothing was saved over the last good checkpoint"


def shards_of(divided: Mapping[str, Any]) -> Shards:
    """What this rank stores of divided tensors."""
    return {
        name: (tensor.to_local(), box_of(tensor)[1]) for name, tensor in divided.items() if writes(tensor)
    }


def dismiss() -> None:
    """Tell the other ranks that there is nothing to write."""
    for rank in range(1, ranks.size()):
        ranks.post(rank, "")


def write_part(folder: Path, shards: Shards) -> None:
    """Write this rank's files where the first one says, and answer."""
    if name := ranks.collect(0):
        for message in _written(folder / name, shards):
            ranks.post(0, json.dumps(message))
        ranks.post(0, "{}")


def collect(folder: Path, shards: Shards) -> dict[str, Any]:
    """Have all ranks write into `folder`; returns what the manifest says of their files.

    Raises OSError where a rank could not write, NonFiniteError where one has such weights.
    """
    for rank in range(1, ranks.size()):
        ranks.post(rank, folder.name)
    messages = [*_written(folder, shards)]
    for rank in range(1, ranks.size()):
        while message := json.loads(ranks.collect(rank)):
            messages.append(message)
    for message in messages:
        if "not_finite" in message:
            raise NonFiniteError(f"{message['not_finite']} {NOT_FINITE}")
        if "errno" in message:
            raise OSError(message["errno"], message["reason"])
    return {message.pop("name"): message for message in messages}


def _written(folder: Path, shards: Shards) -> Iterator[dict[str, Any]]:
    """A message of each file that was written, or of why none is."""
    if name := next((name for name, (tensor, _) in shards.items() if _is_broken(name, tensor)), None):
        yield {"not_finite": name.removeprefix("model/").replace("averager/model/", "averager.")}
        return
    try:
        with hashing(HASHERS) as begin_hash:
            files = [encoded(part, {}) for part in in_parts(shards)]
            digests = [begin_hash(bodies) for bodies in files]
            for number, (bodies, digest) in enumerate(zip(files, digests, strict=True)):
                name = f"shard-{ranks.rank():05d}-{number:05d}{SUFFIX}"
                count = write(folder / name, bodies)
                yield {"name": name, "bytes": count, "sha256": digest.result()}
    except OSError as error:
        reason = f"{error.strerror or error} (rank {ranks.rank()})"
        yield {"errno": error.errno, "reason": reason}


def _is_broken(name: str, tensor: Tensor) -> bool:
    return name.startswith(WEIGHTS) and tensor.is_floating_point() and not bool(tensor.isfinite().all())
