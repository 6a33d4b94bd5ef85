"""Peak memory of loading stored states, by what is loaded: shards.py [MIB]; and seconds to check one."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

import ranked  # noqa: E402
from ranked import Ranks, serving  # noqa: E402

from trainrun.checkpoint import reader  # noqa: E402

SIZE = 2
FREED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}  # so that what is freed is no longer counted


def peaks(in_ranks: Ranks, folder: Path, mib: int) -> dict[str, float]:
    """The largest peak of any rank, by the size of its state; of one process, by that of the weights."""
    for name, kind, more in (("shards", "shards", ()), ("whole", "whole", ()), ("two", "shards", (2,))):
        (folder / name).mkdir()
        in_ranks.values(SIZE, ranked.save_wide, folder / name, kind, mib, *more)
    return {
        "ranks with shards resume shards": max(
            in_ranks.values(SIZE, ranked.resume_wide, folder / "shards", "shards", mib)
        ),
        "whole ranks resume shards": max(
            in_ranks.values(SIZE, ranked.resume_wide, folder / "shards", "whole", mib)
        ),
        "whole ranks resume a whole state": max(
            in_ranks.values(SIZE, ranked.resume_wide, folder / "whole", "whole", mib)
        ),
        "whole ranks roll back": max(in_ranks.values(SIZE, ranked.roll_back_wide, folder / "whole", mib)),
        "one process loads two large weights": in_ranks.values(
            1, ranked.evaluate_wide, folder / "two", mib, 2
        )[0],
        "one new run begins with them": in_ranks.values(1, ranked.begin_wide, folder / "two", mib, 2)[0],
    }


def main(mib: int) -> None:
    from rows import row, title

    os.environ.update(FREED)
    title(f"A state of {mib} MiB, {SIZE} ranks")
    with tempfile.TemporaryDirectory() as name, serving() as in_ranks:
        for what, ratio in peaks(in_ranks, Path(name), mib).items():
            row(what, ratio, "at most 1.3" if what.startswith("one") else "at most 1.5")
        path = Path(name) / "shards" / "checkpoints" / "step-000000001"
        for threads in (1, reader.HASHERS):
            reader.HASHERS = threads
            began = time.perf_counter()
            assert reader.problem_of(path, None) is None
            row(f"seconds to check it with {threads} threads", time.perf_counter() - began)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 512)
