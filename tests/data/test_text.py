"""Text as windows of tokens: every token is predicted once, from what lies before it alone."""

from __future__ import annotations

import sysconfig
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from trainrun.data.text import Text, text
from trainrun.protocols import IGNORED, BatchSpec, Position, Shard
from trainrun.vocabulary.errors import ConfigError, DataError

STORY = "Zoë naïvely ate 12 crêpes; the ☃ did not.\nSo it goes.\n" * 5


def load(path: Path | None, **changes: Any) -> Text:
    settings: dict[str, Any] = {"tokens": "bytes", "block_size": 8, "val_fraction": 0.2}
    settings |= {"test_fraction": 0.1, "limit": None, "eval_batch_size": 3}
    return text(None if path is None else str(path), **{**settings, **changes})


@pytest.fixture
def story(tmp_path: Path) -> Path:
    file = tmp_path / "story.txt"
    file.write_text(STORY, encoding="utf-8")
    return file


def read_back(data: Text, split: str) -> tuple[bytes, bytes]:
    """What a split's inputs and its targets say, in order."""
    pairs = [(batch.inputs, batch.targets) for batch in data.eval_batches(split)]
    inputs, targets = (torch.cat(side).flatten() for side in zip(*pairs, strict=True))
    real = targets != IGNORED
    words = data.info.vocabulary
    return tuple(b"".join(words[n] for n in side[real].tolist()) for side in (inputs, targets))  # type: ignore[return-value]


def test_splits_are_contiguous_and_every_byte_but_the_first_is_a_target_once(story: Path) -> None:
    data, raw = load(story), STORY.encode()
    ends = len(raw) - round(0.2 * len(raw)) - round(0.1 * len(raw)), len(raw) - round(0.1 * len(raw))
    parts = {"train": raw[: ends[0]], "val": raw[ends[0] : ends[1]], "test": raw[ends[1] :]}
    for split, part in parts.items():
        assert read_back(data, split) == (part[:-1], part[1:])
        assert data.info.sizes[split] == -(-(len(part) - 1) // 8)
    assert data.info.num_targets == len(data.info.vocabulary) == 256


def test_characters_are_numbered_by_the_training_split_alone(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("abcdëab" + "aβb", encoding="utf-8")
    data = load(file, tokens="characters", val_fraction=0.0, test_fraction=0.3)
    assert data.info.vocabulary == (b"", b"a", b"b", b"c", b"d", "ë".encode())
    (batch,) = data.eval_batches("test")
    assert batch.inputs[0, :2].tolist() == [1, 0]  # beta was never seen in training
    assert batch.targets[0].tolist() == [0, 2, *[IGNORED] * 6]
    assert read_back(data, "train") == ("abcdëa".encode(), "bcdëab".encode())


def test_training_takes_every_window_once_an_epoch_and_goes_on_anywhere(story: Path) -> None:
    data, batch_spec = load(story), BatchSpec(4, 1)
    size = data.info.sizes["train"]
    per_epoch = -(-size // 4)
    batches = list(islice(data.train_batches(Position(), batch_spec, 0), 2 * per_epoch))
    epochs = [torch.cat([b.indices for b in part]) for part in (batches[:per_epoch], batches[per_epoch:])]
    assert all(sorted(epoch.tolist()) == list(range(size)) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()
    rest = list(islice(data.train_batches(batches[2].position, batch_spec, 0), 3))
    for batch, expected in zip(rest, batches[3:6], strict=True):
        assert torch.equal(batch.inputs, expected.inputs)
        assert batch.position == expected.position


def test_shares_of_a_split_are_the_whole_of_it(story: Path) -> None:
    data = load(story)
    shares = [torch.cat([b.indices for b in data.eval_batches("val", Shard(r, 2))]) for r in range(2)]
    assert sorted(torch.cat(shares).tolist()) == data.splits["val"].tolist()


def test_limit_keeps_the_first_windows(story: Path) -> None:
    data = load(story, limit=3)
    assert data.info.sizes["train"] == 3
    assert read_back(data, "train")[0] == STORY.encode()[:24]


def test_a_folder_is_read_in_the_order_of_names_without_hidden_files(tmp_path: Path) -> None:
    for name, words in {"b.txt": "two ", "a/z.txt": "one ", ".git/x": "hidden", "c.md": "three"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(words)
    data = load(tmp_path, val_fraction=0.0, test_fraction=0.0)
    assert read_back(data, "train")[0] == b"one two thre"
    assert data.info.fingerprint != load(tmp_path / "b.txt").info.fingerprint


def test_without_a_path_it_is_the_running_pythons_own_library() -> None:
    data, again = load(None), load(None)
    library = Path(sysconfig.get_path("stdlib"))
    first = (library / "__future__.py").read_bytes()
    assert bytes(data.tokens[: len(first)].tolist()) == first
    assert len(data.tokens) > 5_000_000
    assert data.info.fingerprint == again.info.fingerprint


def test_the_vocabulary_is_stored_and_another_refused(story: Path, tmp_path: Path) -> None:
    data = load(story, tokens="characters")
    load(story, tokens="characters").restore(data.fitted())
    other = tmp_path / "other.txt"
    other.write_text("quite another text " * 9)
    with pytest.raises(DataError, match=r"data\.path: .* another vocabulary"):
        load(other, tokens="characters").restore(data.fitted())


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.path: there is no file or folder .*nowhere"):
        load(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"data\.path: there are no files below"):
        load(tmp_path)
    (tmp_path / "latin.txt").write_bytes("déjà vu, again and again".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.txt is not UTF-8 at byte 1; .*data\.tokens=bytes"):
        load(tmp_path, tokens="characters")
    assert load(tmp_path).info.num_targets == 256
    (tmp_path / "latin.txt").write_bytes(b"x")
    with pytest.raises(DataError, match=r"data\.path: .* 1 bytes, too few"):
        load(tmp_path)
    with pytest.raises(ConfigError, match=r"data\.val_fraction: leaves no text"):
        load(tmp_path, val_fraction=0.5, test_fraction=0.5)


def test_a_short_trial_is_evaluated_on_windows_from_the_whole_split(story: Path) -> None:
    data, whole = load(story, block_size=4), load(story, block_size=4)
    size = whole.info.sizes["val"]
    assert size is not None and size > 4
    data.limit_evaluation(3)
    starts = data.starts[data.splits["val"]].tolist()
    every = whole.starts[whole.splits["val"]].tolist()
    assert starts == [every[0], every[size // 3], every[2 * size // 3]]
    assert torch.equal(data.splits["train"], whole.splits["train"])
    assert data.info.identity == whole.info.identity  # a longer budget goes on with the same data
    whole.limit_evaluation(size)
    assert len(whole.splits["val"]) == size


def test_a_block_longer_than_the_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("hello world " * 10)
    assert load(tmp_path / "short.txt", block_size=10).info.notes == ()
    (note,) = load(tmp_path / "short.txt", block_size=1000).info.notes
    assert note.startswith("data.block_size=1000 is longer than the ")
