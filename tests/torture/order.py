"""The order of a commit, read from the operations of a process."""

from __future__ import annotations

import re
from collections.abc import Sequence

COMMIT = re.compile(r"rename (checkpoints/\.tmp-\S+) (checkpoints/step-\d{9})")


def assert_ordered(operations: Sequence[str]) -> int:
    """Files, manifest, directory, rename, parent; nothing older goes before. Returns how many commits."""
    renames = [(index, match) for index, text in enumerate(operations) if (match := COMMIT.fullmatch(text))]
    before = -1
    for index, match in renames:
        temporary = match[1]
        began = index - operations[:index][::-1].index(f"mkdir {temporary}") - 1
        writing, after = list(operations[began:index]), list(operations[index + 1 :])
        files = [text.split()[1] for text in writing if text.startswith(f"open {temporary}/")]
        assert len(files) >= 2 and files[-1] == f"{temporary}/manifest.json", files
        synced = [_last(writing, f"fsync {file}") for file in files]
        for file, sync in zip(files, synced, strict=True):
            assert _last(writing, f"write {file}") < sync, f"{file} is written after it is synced"
        assert max(synced[:-1]) < writing.index(f"open {files[-1]}"), "the manifest is not the last"
        assert max(synced) < _last(writing, f"fsync {temporary}"), "the directory is not synced"
        assert "fsync metrics.jsonl" in operations[before + 1 : index], "the record is not synced"
        parent = after.index("fsync checkpoints")
        late = [text for text in after[:parent] if "checkpoints/" in text]
        assert not late, f"{late} before the rename is on disk"
        before = index
    for index, text in enumerate(operations):  # what is old goes only when something newer is in place
        if match := re.match(r"rename (checkpoints/step-\d{9}) ", text):
            newer = [other for other, commit in renames if other < index and commit[2] > match[1]]
            assert newer and "fsync checkpoints" in operations[newer[-1] : index], text
    return len(renames)


def _last(operations: list[str], wanted: str) -> int:
    assert wanted in operations, f"no {wanted}"
    return len(operations) - 1 - operations[::-1].index(wanted)


def one_commit(operations: Sequence[str], which: int) -> list[int]:
    """Of the operations on checkpoints/, counted from 0, those of one commit and of what it removes.

    The first begins with the first operation: what was left behind is removed, or the folder made.
    """
    on_checkpoints = [text for text in operations if "checkpoints" in text]
    starts = [
        index for index, text in enumerate(on_checkpoints) if re.match(r"mkdir checkpoints/\.tmp-", text)
    ]
    ends = [*starts[1:], len(on_checkpoints)]
    return list(range(starts[which] if which else 0, ends[which]))
