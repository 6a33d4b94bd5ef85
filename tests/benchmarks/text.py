"""What general compressors make of the text that a language model is judged by, in bits per byte.

    python tests/benchmarks/text.py [FILE or FOLDER]

Each split is compressed alone, and once more as what the training split's end adds: a model has read
that split, so the fairer figure of a compressor is the one with it before.
"""

from __future__ import annotations

import gzip
import lzma
import sys
from collections.abc import Callable

import yaml

from trainrun.config.paths import CONF
from trainrun.data.text import Text, text

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gzip -9": lambda raw: gzip.compress(raw, 9, mtime=0),
    "xz -9": lambda raw: lzma.compress(raw, preset=9),
}


def main(path: str | None) -> None:
    node = yaml.safe_load((CONF / "data" / "text.yaml").read_text(encoding="utf-8"))["data"]
    values = {key: value for key, value in node.items() if key not in ("_target_", "num_workers")}
    data = text(**{**values, "path": path, "tokens": "bytes"})
    raw = {split: raw_of(data, split) for split in ("train", "val", "test")}
    print(f"{data.info.name}: " + ", ".join(f"{len(one):,} bytes {split}" for split, one in raw.items()))
    for name, compress in COMPRESSORS.items():
        alone = {split: bits_per_byte(compress(raw[split]), raw[split]) for split in ("val", "test")}
        whole, before = len(compress(raw["train"] + raw["test"])), len(compress(raw["train"]))
        after = 8 * (whole - before) / len(raw["test"])
        print(f"{name:8} val {alone['val']:.3f}  test {alone['test']:.3f}  test after train {after:.3f}")


def raw_of(data: Text, split: str) -> bytes:
    """The bytes of a split, which no window leaves out."""
    indices = data.splits[split]
    first, end = int(data.starts[indices[0]]), int(data.ends[indices[0]])
    return bytes(data.tokens[first:end].numpy())


def bits_per_byte(packed: bytes, raw: bytes) -> float:
    return 8 * len(packed) / len(raw)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
