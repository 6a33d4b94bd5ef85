"""Fingerprints: other for other data, the same for the same data read again or on another CPU."""

from __future__ import annotations

import hashlib
import os
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, TensorDataset

from trainrun.data import fingerprint as of_samples
from trainrun.data.fingerprint import files_of, fingerprint, fingerprint_of_files, sampled_fingerprint
from trainrun.data.resident import Holdout, resident
from trainrun.data.text import text
from trainrun.protocols import DataInfo
from trainrun.vocabulary.errors import DataError

GENERATOR = torch.Generator().manual_seed(0)
INPUTS, CLASSES = torch.randn(20, 3, generator=GENERATOR), torch.arange(20) % 4


def test_it_is_the_hash_of_every_byte() -> None:
    head = str(((20, 3), torch.float32)).encode(), str(((20,), torch.int64)).encode()
    body = head[0] + INPUTS.numpy().tobytes() + head[1] + CLASSES.numpy().tobytes()
    assert fingerprint([INPUTS, CLASSES]) == hashlib.sha256(body).hexdigest()[:16]


def test_one_bit_a_type_and_a_shape_each_make_another() -> None:
    changed = INPUTS.clone()
    changed[17, 1] = torch.nextafter(changed[17, 1], torch.tensor(9.0))
    different = [INPUTS, changed, INPUTS.T, INPUTS.double(), INPUTS.bfloat16(), INPUTS > 0]
    for first, other in combinations(different, 2):
        assert fingerprint([first]) != fingerprint([other])


def test_samples_whose_order_is_computed_are_others_than_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A run of before would go on in another order, in the middle of an epoch."""
    (tmp_path / "a.txt").write_text("all work and no play makes a dull text " * 20)

    def marks() -> list[str]:
        holdout = Holdout(0.2, 0.2, 0, None, None, 5)
        info = DataInfo("toy", (3,), "classes", 4, {})
        in_memory = resident(info, INPUTS, CLASSES, holdout, 8).info
        written = text(str(tmp_path), "bytes", 8, 0.1, 0.1, None, 8).info
        return [
            in_memory.fingerprint,
            written.fingerprint,
            sampled_fingerprint([TensorDataset(INPUTS, CLASSES)]),
        ]

    before = marks()
    monkeypatch.setattr(of_samples, "LARGE", 11)
    assert not {*before} & {*marks()}
    assert before[0] == fingerprint([INPUTS, CLASSES])


class Pairs(Dataset[Any]):
    """A foreign dataset of these inputs and targets, with noise from the global generators."""

    def __init__(self, inputs: Tensor = INPUTS, targets: Tensor = CLASSES, noise: float = 0.0) -> None:
        self.inputs, self.targets, self.noise = inputs, targets, noise

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Any:
        draws = random.random() + float(np.random.rand()) + torch.randn(3)
        return {"x": self.inputs[index] + self.noise * draws}, self.targets[index]


def changed(tensor: Tensor, index: int, by: float) -> Tensor:
    tensor = tensor.clone()
    tensor[index] += by
    return tensor


def test_a_few_samples_tell_other_data() -> None:
    plain = sampled_fingerprint([Pairs()])
    assert plain == sampled_fingerprint([Pairs()])
    others = [Pairs(INPUTS[:19], CLASSES[:19])]
    others += [Pairs(changed(INPUTS, i, by)) for i in (0, 10, 19) for by in (0.1, -0.1)]
    others += [Pairs(INPUTS[:, [1, 0, 2]])]
    others += [Pairs(targets=changed(CLASSES, i, 1)) for i in (0, 10, 19)]
    for dataset in others:
        assert sampled_fingerprint([dataset]) != plain
    assert sampled_fingerprint([Pairs(), Pairs()]) != plain


def test_seeded_draws_are_the_same_draws() -> None:
    noisy = sampled_fingerprint([Pairs(noise=1.0)])
    torch.manual_seed(5)
    random.seed(5)
    assert sampled_fingerprint([Pairs(noise=1.0)]) == noisy != sampled_fingerprint([Pairs(noise=2.0)])


@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_the_last_bits_of_a_float_do_not_count(shift: float) -> None:
    """Decoding and resizing round differently on different CPUs."""
    inputs = INPUTS + shift
    nudged = torch.nextafter(inputs, torch.full_like(inputs, 99.0))
    assert not torch.equal(inputs, nudged)
    assert sampled_fingerprint([Pairs(inputs)]) == sampled_fingerprint([Pairs(nudged)])


def test_draws_that_nobody_can_seed_do_not_count_but_the_length_does() -> None:
    class Restless(Pairs):
        generator = np.random.default_rng()

        def __getitem__(self, index: int) -> Any:
            return self.inputs[index] + self.generator.random(), self.targets[index]

    assert sampled_fingerprint([Restless()]) == sampled_fingerprint([Restless()])
    assert sampled_fingerprint([Restless()]) != sampled_fingerprint([Restless(INPUTS[:9])])


@pytest.mark.parametrize("size", [0, 1, 2])
def test_however_short(size: int) -> None:
    data = TensorDataset(INPUTS[:size], CLASSES[:size])
    assert sampled_fingerprint([data]) != sampled_fingerprint([TensorDataset(INPUTS[:3], CLASSES[:3])])


def test_a_sample_that_cannot_be_read_is_named() -> None:
    class Truncated(Pairs):
        def __getitem__(self, index: int) -> Any:
            if index == 19:
                raise OSError("truncated file")
            return super().__getitem__(index)

    with pytest.raises(DataError, match="sample 19 of Truncated failed: OSError: truncated file"):
        sampled_fingerprint([Truncated()])


def some_files(folder: Path) -> list[Path]:
    folder.mkdir(parents=True)
    files = [folder / f"{n}.bin" for n in range(9)]
    for n, file in enumerate(files):
        file.write_bytes(bytes([n]) * 20_000)
    return files


@pytest.mark.parametrize("whole_bytes", [2**31, 0], ids=["all bytes", "sizes and ends"])
def test_files_are_the_same_wherever_and_whenever_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole_bytes: int
) -> None:
    monkeypatch.setattr("trainrun.data.fingerprint._WHOLE_BYTES", whole_bytes)
    files, elsewhere = some_files(tmp_path / "here"), some_files(tmp_path / "there")
    for file in files:
        os.utime(file, (5, 5))
    same = fingerprint_of_files(files, 1)
    assert same == fingerprint_of_files(elsewhere, 3)
    assert same != fingerprint_of_files(files[::-1], 1)
    files[4].write_bytes(files[4].read_bytes() + b"\0")
    assert same != fingerprint_of_files(files, 1)
    files[4].write_bytes(b"\7" + elsewhere[4].read_bytes()[1:])
    assert same != fingerprint_of_files(files, 1)


def test_one_byte_in_the_middle_of_any_file_makes_another(tmp_path: Path) -> None:
    files = some_files(tmp_path / "here")
    before = fingerprint_of_files(files, 2)
    times = os.stat(files[4])
    content = bytearray(files[4].read_bytes())
    content[10_000] ^= 1
    files[4].write_bytes(content)
    os.utime(files[4], ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint_of_files(files, 2) != before


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data: .*gone\.png cannot be read: No such file"):
        fingerprint_of_files([tmp_path / "gone.png"], 1)


def test_files_are_those_that_a_dataset_lists(tmp_path: Path) -> None:
    files = some_files(tmp_path / "here")
    for samples, expected in (
        ([(str(file), 0) for file in files], files),
        ([(tmp_path / "gone.png", 0)], []),
        ([(INPUTS[0], 0)], []),
        ([], []),
        (INPUTS, []),
        (None, []),
    ):
        dataset = Pairs()
        dataset.samples = samples  # type: ignore[attr-defined]
        assert files_of(dataset) == expected
    assert files_of(Pairs()) == []
