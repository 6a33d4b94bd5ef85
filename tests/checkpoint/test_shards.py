"""Files of pieces: any box is read from any cut, and a header that lies is refused in words."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ranked
import sharded
import torch
from ranked import Ranks
from torch import Tensor
from toy import same_bits

from trainrun.checkpoint import shards
from trainrun.checkpoint.commit import write
from trainrun.checkpoint.fetch import load_eval_weights
from trainrun.checkpoint.reader import load_parts, problem_in, problem_of
from trainrun.checkpoint.shards import (
    encoded,
    header_of,
    in_parts,
    is_finite,
    misfit_of,
    pieces_in,
    read_box,
)
from trainrun.checkpoint.weights import read_checkpoint, start_from
from trainrun.vocabulary.errors import ConfigError, ResumeError

pytestmark = pytest.mark.usefixtures("quick_disk")


def stored(folder: Path, pieces: dict[str, list[tuple[Tensor, tuple[int, ...]]]]) -> list[Path]:
    """A file for each piece."""
    files = []
    for name, cut in pieces.items():
        for tensor, place in cut:
            files.append(folder / f"{len(files)}.safetensors")
            write(files[-1], encoded([(name, tensor, place)], {}))
    return files


def cut(tensor: Tensor, rng: random.Random) -> list[tuple[Tensor, tuple[int, ...]]]:
    """A grid of random lines."""
    lines = [sorted({0, *(rng.randrange(size) for _ in range(2)), size}) for size in tensor.shape]
    boxes = itertools.product(*(itertools.pairwise(along) for along in lines))
    return [(tensor[tuple(slice(*ends) for ends in box)], tuple(ends[0] for ends in box)) for box in boxes]


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float8_e4m3fn, torch.uint16],
)
def test_any_box_is_read_from_any_cut(dtype: torch.dtype, tmp_path: Path) -> None:
    rng = random.Random(0)
    for number, shape in enumerate([(), (7,), (6, 5), (4, 3, 5, 2)]):
        whole = torch.randint(0, 2 if dtype == torch.bool else 9, shape).to(dtype)
        folder = tmp_path / str(number)
        folder.mkdir()
        pieces = pieces_in(stored(folder, {"w": cut(whole, rng)}))
        assert misfit_of(pieces, {"w": whole.to("meta")}) is None
        for _ in range(9):
            box = [sorted((rng.randrange(size), rng.randrange(size) + 1)) for size in shape]
            expected = whole[tuple(slice(*ends) for ends in box)]
            into = torch.zeros_like(expected)
            read_box(pieces["w"], tuple(ends[0] for ends in box), into)
            assert same_numbers(into, expected)
    picture = torch.empty(4, 3, 5, 2, dtype=dtype).contiguous(memory_format=torch.channels_last)
    read_box(pieces["w"], (0, 0, 0, 0), picture)
    assert same_numbers(picture, whole)


def same_numbers(ours: Tensor, theirs: Tensor) -> bool:
    """Also of types that cannot be compared."""
    return ours.dtype == theirs.dtype and torch.equal(ours.double(), theirs.double())


def test_a_type_that_the_live_tensor_does_not_have_is_converted(tmp_path: Path) -> None:
    whole, into = torch.randn(5, 3), torch.empty(5, 3, dtype=torch.float64)
    read_box(pieces_in(stored(tmp_path, {"w": [(whole, (0, 0))]}))["w"], (0, 0), into)
    assert torch.equal(into, whole.double())


def test_large_shards_are_cut_into_files_by_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shards, "PART_BYTES", 100)
    held = {"a": (torch.randn(30, 2), (10, 0)), "b": (torch.randn(3), (0,)), "c": (torch.randn(()), ())}
    held["d"] = (torch.randn(2, 40), (0, 0))  # a row is more than a file should hold
    parts = in_parts(held)
    assert all(sum(piece.nbytes for _, piece, _ in part) <= 160 for part in parts) and len(parts) > 4
    for number, part in enumerate(parts):
        write(tmp_path / f"{number}.safetensors", encoded(part, {}))
    pieces = pieces_in(sorted(tmp_path.iterdir()))
    for name, (tensor, place) in held.items():
        into = torch.empty_like(tensor)
        read_box(pieces[name], place, into)
        assert torch.equal(into, tensor)


def test_safetensors_reads_a_file(tmp_path: Path) -> None:
    load_file = pytest.importorskip("safetensors.torch").load_file
    tensors = {"a": torch.randn(3, 2), "b": torch.tensor(True), "c": torch.randn(2).bfloat16()}
    write(tmp_path / "f", encoded([(name, t, (0,) * t.ndim) for name, t in tensors.items()], {"note": "x"}))
    assert same_bits(load_file(tmp_path / "f"), tensors)


def test_complex_numbers_are_read(tmp_path: Path) -> None:
    whole = torch.randn(5, 3, dtype=torch.complex64)
    pieces = pieces_in(stored(tmp_path, {"w": [(whole[:2], (0, 0)), (whole[2:], (2, 0))]}))
    into = torch.zeros_like(whole[1:4])
    read_box(pieces["w"], (1, 0), into)
    assert torch.equal(into, whole[1:4])


def test_a_type_that_safetensors_does_not_have_is_said_in_words() -> None:
    with pytest.raises(ConfigError, match=r"model: has x of torch\.complex128"):
        encoded([("x", torch.zeros(2, dtype=torch.complex128), (0,))], {})


def test_a_tensor_without_numbers_needs_no_pieces() -> None:
    assert misfit_of({}, {"w": torch.empty(0, 3, device="meta")}) is None
    assert "does not hold w" in str(misfit_of({}, {"w": torch.empty(1, 3, device="meta")}))


def test_rows_of_no_numbers_are_not_read_for_ever(tmp_path: Path) -> None:
    pieces = pieces_in(stored(tmp_path, {"model/w": [(torch.empty(1 << 50, 0), (0, 0))]}))
    assert shards.not_finite_in_file({name: piece for name, (piece,) in pieces.items()}) is None


def test_a_file_that_ends_while_it_is_read_is_said_in_words(tmp_path: Path) -> None:
    (file,) = stored(tmp_path, {"w": [(torch.ones(9, 3), (0, 0))]})
    pieces = pieces_in([file])
    os.truncate(file, file.stat().st_size - 4)
    with pytest.raises(ResumeError, match="cannot be read: it was changed while it was read"):
        read_box(pieces["w"], (0, 0), torch.empty(9, 3))
    file.unlink()
    with pytest.raises(ResumeError, match="cannot be read: No such file"):
        read_box(pieces["w"], (0, 0), torch.empty(9, 3))


@pytest.mark.parametrize("name", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64", "int8", "bool"])
def test_numbers_of_every_type_are_looked_at(name: str, tmp_path: Path) -> None:
    tensor = torch.ones(700, 400).to(getattr(torch, name))
    assert is_finite(tensor) and is_finite(tensor.t()) and is_finite(tensor[:0]) and is_finite(tensor[0, 0])
    if tensor.is_floating_point() or tensor.is_complex():
        tensor[-1, -1] = float("nan")
        assert not is_finite(tensor) and not is_finite(tensor.t()) and not is_finite(tensor[-1, -1])
        pieces = {n: p for n, (p,) in pieces_in(stored(tmp_path, {"model/w": [(tensor, (0, 0))]})).items()}
        assert shards.not_finite_in_file(pieces) == "model/w"


def test_one_tensor_is_read_from_a_file_larger_than_the_memory(tmp_path: Path) -> None:
    entries = {"w": ([2, 2], 0, 16), "large": ([1 << 38], 16, 16 + (1 << 40))}
    header = {n: {"dtype": "F32", "shape": s, "data_offsets": [b, e]} for n, (s, b, e) in entries.items()}
    text, file, into = json.dumps(header).encode(), tmp_path / "f", torch.empty(2, 2)
    file.write_bytes(len(text).to_bytes(8, "little") + text + torch.arange(4.0).numpy().tobytes())
    os.truncate(file, 8 + len(text) + 16 + (1 << 40))  # holes, which take no place on the disk
    read_box(pieces_in([file])["w"], (0, 0), into)
    assert torch.equal(into, torch.arange(4.0).view(2, 2))


# Lies


@pytest.fixture(scope="module")
def saved(in_ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of two ranks."""
    folder = tmp_path_factory.mktemp("saved")
    in_ranks.values(2, ranked.save_divided, folder, "shards", (2, 3))
    return folder


def forge_header(change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Change (the header, where pieces begin) of the first shard."""

    def forge(path: Path) -> None:
        file = path / "shard-00000-00000.safetensors"
        body = file.read_bytes()
        length = int.from_bytes(body[:8], "little")
        header = json.loads(body[8 : 8 + length])
        places = json.loads(header["__metadata__"]["DCP_SHARDING_INFO"])
        change(header, places)
        header["__metadata__"] = {"DCP_SHARDING_INFO": json.dumps(places)}
        text = json.dumps(header).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + body[8 + length :])

    return forge


def forge_text(text: bytes, length: int | None = None) -> Callable[[Path], Any]:
    start = (len(text) if length is None else length).to_bytes(8, "little")
    return lambda path: (path / "shard-00000-00000.safetensors").write_bytes(start + text)


def twice(path: Path) -> None:
    file = path / "shard-00000-00000.safetensors"
    body = file.read_bytes()
    length = int.from_bytes(body[:8], "little")
    text = body[8 : 8 + length].replace(b'"model/0.bias"', b'"model/2.bias"', 1)
    file.write_bytes(len(text).to_bytes(8, "little") + text + body[8 + length :])


def forge_state(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def forge(path: Path) -> None:
        parts = torch.load(path / "state.pt", weights_only=True)
        change(parts)
        torch.save(parts, path / "state.pt")

    return forge


def forge_numbers(path: Path) -> None:
    """NaN among the weights."""
    file = path / "shard-00001-00000.safetensors"
    piece = header_of(file)["model/2.weight"]
    body = bytearray(file.read_bytes())
    body[piece.start : piece.start + 4] = torch.tensor(float("nan")).numpy().tobytes()
    file.write_bytes(body)


def append(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"more")


def huge() -> Tensor:
    return torch.empty(10**6, 10**6, device="meta")


BIAS = "model/0.bias"
LIES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a header beyond the file": (forge_text(b"{}", 1 << 60), "has a header of"),
    "no length": (lambda path: (path / "shard-00000-00000.safetensors").write_bytes(b""), "cannot be read"),
    "no JSON": (forge_text(b"{{{{"), "cannot be read"),
    "a list": (forge_text(b"[]"), "cannot be read"),
    "nested deeply": (forge_text(b"[" * 100_000), "cannot be read"),
    "no places": (forge_text(b'{"__metadata__": []}'), "cannot be read"),
    "a name twice": (twice, "a name twice"),
    "an unknown type": (forge_header(lambda h, p: h[BIAS].update(dtype="Q4")), "cannot be read"),
    "a longer type": (forge_header(lambda h, p: h[BIAS].update(dtype="F64")), "claims bytes of model/0.bias"),
    "another type": (forge_header(lambda h, p: h[BIAS].update(dtype="I32")), "not of torch.float32"),
    "a huge shape": (forge_header(lambda h, p: h[BIAS].update(shape=[10**15])), "claims bytes of"),
    "an endless shape": (forge_header(lambda h, p: h[BIAS].update(shape=[10**40])), "impossible sizes"),
    "no numbers of a huge shape": (
        forge_header(lambda h, p: h[BIAS].update(shape=[1 << 40, 1 << 40, 0])),
        "impossible sizes",
    ),
    "a header as long as a file of holes": (
        lambda path: (
            forge_text(b"{}", 200_000_000)(path),
            os.truncate(path / "shard-00000-00000.safetensors", 200_000_008),
        ),
        "has a header of",
    ),
    "a negative shape": (forge_header(lambda h, p: h[BIAS].update(shape=[-12])), "impossible sizes"),
    "half a row": (forge_header(lambda h, p: h[BIAS].update(shape=[1.5])), "impossible sizes"),
    "more dimensions": (forge_header(lambda h, p: h[BIAS].update(shape=[12, 1])), "do not make it up"),
    "a row elsewhere": (forge_header(lambda h, p: p[BIAS].update(saved_offsets=[6])), "do not make it up"),
    "the other's place": (forge_header(lambda h, p: p[BIAS].update(saved_offsets=[12])), "do not make it up"),
    "beyond the tensor": (
        forge_header(lambda h, p: p[BIAS].update(saved_offsets=[10**9])),
        "do not make it up",
    ),
    "before the tensor": (forge_header(lambda h, p: p[BIAS].update(saved_offsets=[-1])), "impossible sizes"),
    "no place": (forge_header(lambda h, p: p.pop(BIAS)), "cannot be read"),
    "bytes of another": (
        forge_header(lambda h, p: h[BIAS].update(data_offsets=[0, 48])),
        "claims bytes of",
    ),
    "bytes beyond the file": (
        forge_header(lambda h, p: h[BIAS].update(data_offsets=[10**9, 10**9 + 48])),
        "claims bytes of",
    ),
    "left out": (forge_header(lambda h, p: h.pop(BIAS)), "claims bytes of"),
    "a name that is not there": (
        forge_header(lambda h, p: (h.update(x=h.pop(BIAS)), p.update(x=p.pop(BIAS)))),
        "does not hold",
    ),
    "more bytes": (
        lambda path: append(path / "shard-00000-00000.safetensors"),
        "bytes of no tensor",
    ),
    "a file that is gone": (
        lambda path: (path / "shard-00001-00000.safetensors").unlink(),
        "do not make it up",
    ),
    "a link": (
        lambda path: (
            (path / "shard-00001-00000.safetensors").rename(path.parent / "real"),
            (path / "shard-00001-00000.safetensors").symlink_to(path.parent / "real"),
        ),
        "lacks shard-00001-00000.safetensors",
    ),
    "a state of other shapes": (
        forge_state(lambda parts: parts["model"].update({"0.bias": huge()})),
        "do not make it up",
    ),
    "a state of other names": (forge_state(lambda parts: parts["model"].update(x=huge())), "does not hold"),
    "a state whose tensors are elsewhere": (
        forge_state(lambda parts: parts.update(shards="/etc", model={"x": huge()})),
        "does not hold",
    ),
    "weights that are not finite": (forge_numbers, "not finite in model/2.weight"),
}


def seal(path: Path) -> None:
    """Give a forged checkpoint a manifest that fits, as somebody who knows the format can."""
    manifest = json.loads((path / "manifest.json").read_text())
    files = {file.name: file.read_bytes() for file in path.iterdir() if file.name != "manifest.json"}
    manifest["files"] = {
        name: {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()} for name, body in files.items()
    }
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    manifest["sha256"] = hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("kind", LIES)
def test_a_lie_is_refused_in_words_and_the_checkpoint_before_is_taken(
    kind: str, saved: Path, tmp_path: Path
) -> None:
    forge, said = LIES[kind]
    shutil.copytree(saved, tmp_path / "run")
    path = tmp_path / "run" / "checkpoints" / "step-000000003"
    forge(path)
    seal(path)
    problem = problem_of(path, "this run")
    assert problem is not None and said in problem, problem
    with pytest.raises(ResumeError, match="init_from: "):
        read_checkpoint(path)
    resumed = sharded.resume_divided(tmp_path / "run", "whole", 0)
    assert resumed["warnings"] == [f"checkpoint {path.name} is damaged and skipped: {problem}"]


def test_shapes_alone_without_shards_are_no_state(saved: Path, tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "step-000000003"
    shutil.copytree(saved / "checkpoints" / "step-000000003", path)
    for file in path.glob("shard-*"):
        file.unlink()
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    seal(path)
    assert "claims more numbers" in str(problem_in(load_parts(path), 3))
    with pytest.raises(ResumeError, match="init_from: nothing in"):
        start_from(sharded.model("whole", 0), read_checkpoint(path))


def test_a_new_run_starts_from_the_averaged_weights(saved: Path) -> None:
    path = saved / "checkpoints" / "step-000000003"
    model = sharded.model("whole", 0)
    assert start_from(model, read_checkpoint(path)) == []
    expected = sharded.model("whole", 1)
    assert load_eval_weights(expected, path, load_parts(path)) == "ema"
    assert same_bits(dict(model.state_dict()), dict(expected.state_dict()))
    assert not same_bits(dict(model.state_dict()), dict(sharded.model("whole", 0).state_dict()))


def test_weights_of_other_shapes_are_refused(saved: Path) -> None:
    path = saved / "checkpoints" / "step-000000003"
    model = sharded.model("whole", 0)
    model[-1] = torch.nn.Linear(sharded.WIDTH, 5)
    with pytest.raises(ResumeError, match=r"does not fit the model: [\s\S]*size mismatch for 4"):
        load_eval_weights(model, path, load_parts(path))
