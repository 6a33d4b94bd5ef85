"""Every rank's shards into one directory: the ranks write beside the loop, the first one learns of each file.

The first rank names a directory, or none where the step is stored already. The others answer with a
message for each file, and an empty one at the end. So it commits what all have on the disk, or nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from trainrun import ranks
from trainrun.checkpoint.commit import digest_of, write
from trainrun.checkpoint.reader import HASHERS
from trainrun.checkpoint.shards import SUFFIX, WEIGHTS, Shards, box_of, encoded, in_parts, is_finite, writes
from trainrun.vocabulary.errors import NonFiniteError

NOT_FINITE = "holds numbers that are not finite; nothing was saved over the last good checkpoint"


def shards_of(divided: Mapping[str, Any]) -> Shards:
    """What this rank stores of divided tensors."""
    return {
        name: (tensor.to_local(), box_of(tensor)[1]) for name, tensor in divided.items() if writes(tensor)
    }


def send_name(name: str) -> None:
    """Tell the other ranks where to write; empty: nowhere."""
    for rank in range(1, ranks.size()):
        ranks.post(rank, name)


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
    send_name(folder.name)
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
    weights = {name: tensor for name, (tensor, _) in shards.items() if name.startswith(WEIGHTS)}
    if bad := [name for name, tensor in weights.items() if not is_finite(tensor)]:
        yield {"not_finite": bad[0]}
        return
    try:
        with ThreadPoolExecutor(HASHERS) as threads:
            files = [encoded(part, {}) for part in in_parts(shards)]
            digests = [threads.submit(digest_of, bodies) for bodies in files]
            for number, (bodies, digest) in enumerate(zip(files, digests, strict=True)):
                name = f"shard-{ranks.rank():05d}-{number:05d}{SUFFIX}"
                count = write(folder / name, bodies)
                yield {"name": name, "bytes": count, "sha256": digest.result()}
    except OSError as error:
        reason = f"{error.strerror or error}"[:200] + f" (rank {ranks.rank()})"
        yield {"errno": error.errno, "reason": reason}
